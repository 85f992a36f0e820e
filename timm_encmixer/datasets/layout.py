"""What kind of data set a tree of files is, and its shards: the units that are converted whole, one per process at a time."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from timm_encmixer.datasets.listing import SIDE_FILES, Listing, SourceFile
from timm_encmixer.datasets.manifest import Manifest, target_name
from timm_encmixer.datasets.readme import METADATA, metadata_names
from timm_encmixer.datasets.sources import SourceTree, printable
from timm_encmixer.errors import SourceError
from timm_encmixer.hub.card_section import CARD_NAME
from timm_encmixer.images.file_format import PNG, format_of_suffix
from timm_encmixer.images.reading import image_suffixes

PARQUET, ARROW, WEBDATASET, IMAGES = "parquet", "arrow", "webdataset", "imagefolder"
_SUFFIXES = {".parquet": PARQUET, ".arrow": ARROW, ".tar": WEBDATASET}
_SIDE_FILES = frozenset(
    ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "LICENSE", "LICENSE.txt", "LICENSE.md")
)
_CARD, _SIDE_FILE, _METADATA = "card", "side file", "metadata"  # what becomes of files that are in no shard
SUFFIX, NOT_INCLUDED = "suffix", "include"  # why files are left out, beside the reasons of sources
FILES_PER_SHARD = 256
_LONGEST_NAME = 255  # bytes, of all usual file systems


@dataclass(frozen=True)
class Shard:
    """What one process converts in one go.

    Args:
        name: Of the source's file, and of the target's; of a run of image files, their folder and the first one's number.
        size: Bytes of the source.
        files: How many there are.
        line: Where its line begins in the list of the source's files, in bytes.
    """

    name: str
    size: int
    files: int
    line: int

    @property
    def folder(self) -> str:
        """The folder that a run of image files lies in."""
        return folder_of(self.name)


@dataclass(frozen=True)
class Layout:
    """A data set's files by what becomes of them.

    Args:
        kind: PARQUET, ARROW, WEBDATASET or IMAGES.
        shards: In the order of their names.
        side_files: Small files that belong to the kind and are carried over: features, sizes, licences, metadata tables.
        metadata: Those of them that are metadata tables, which name image files.
        card: Whether there is a README.md.
        side_line: Where the line of README.md and the side files begins in the list of the source's files, in bytes.
        left_out: Names of what is not carried over, by reason.
        digest: Of all names and sizes, to tell a changed source.
    """

    kind: str
    shards: tuple[Shard, ...]
    side_files: tuple[SourceFile, ...]
    metadata: frozenset[str]
    card: bool
    side_line: int
    left_out: Mapping[str, tuple[str, ...]]
    digest: str

    @property
    def lines(self) -> dict[str, int]:
        """Where each shard's line begins in the list of the source's files, and that of the side files."""
        return {shard.name: shard.line for shard in self.shards} | {SIDE_FILES: self.side_line}

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Names of all that is not carried over."""
        return tuple(name for names in self.left_out.values() for name in names)


def read_layout(
    source: SourceTree, include: Sequence[str] = (), listing: Listing | None = None, *, suffix: str = PNG.suffix
) -> Layout:
    """Sort a data set's files.

    Args:
        source: Where they are.
        include: Shell patterns of shards (image files) to take; none takes all.
        listing: Takes down the files of each shard; None does not.
        suffix: That image files have or get in the target: they are cut into runs in the order of their names there.

    Raises:
        SourceError: No data set of a known kind, or one of several kinds at once; or names that no target can have.
        FileAccessError: A folder or file that cannot be read.
    """
    digest = hashlib.sha256()
    shards: dict[str, list[Shard]] = {kind: [] for kind in (PARQUET, ARROW, WEBDATASET)}
    others: dict[str, list[SourceFile]] = {role: [] for role in (_CARD, _SIDE_FILE, _METADATA)}
    left_out: dict[str, list[str]] = {}
    runs, suffixes, tables = _ImageRuns(source.where, listing, suffix), image_suffixes(), metadata_names(source)
    for file in source.files():
        if isinstance(file, tuple):
            left_out.setdefault(file[0], []).append(printable(file[1]))
            continue
        digest.update(f"{file.name}\0{file.size}\n".encode(errors="surrogateescape"))
        role = _role(file.name, suffixes, tables)
        if role == SUFFIX or (include and role not in others and not _included(file.name, include)):
            left_out.setdefault(SUFFIX if role == SUFFIX else NOT_INCLUDED, []).append(printable(file.name))
            continue
        _refuse_name(file.name, target_name(file.name, suffix) if role == IMAGES else file.name, where=source.where)
        if role == IMAGES:
            runs.add(file)
        elif role in shards:
            shards[role].append(_shard(file.name, [file], listing))
        else:
            others[role].append(file)
    shards[IMAGES] = runs.finish()
    kinds = [kind for kind, found in shards.items() if found]
    if IMAGES not in kinds:  # then metadata.parquet is a table as any other
        tables_of_images = [file for file in others[_METADATA] if PurePosixPath(file.name).suffix == ".parquet"]
        taken = [file for file in tables_of_images if not include or _included(file.name, include)]
        shards[PARQUET] += [_shard(file.name, [file], listing) for file in taken]
        left_out.setdefault(NOT_INCLUDED, []).extend(file.name for file in tables_of_images if file not in taken)
        others[_METADATA] = [file for file in others[_METADATA] if file not in tables_of_images]
        kinds = [kind for kind, found in shards.items() if found]
    if len(kinds) != 1:
        none = "no parquet, arrow, tar or image files" + (" that include (--include) names" if include else "")
        remedy = "give its folder, or choose files with include= (--include)"
        raise SourceError(source.where, "a data set of one kind", " and ".join(kinds) or none, remedy)
    archives = [name for name in left_out.get(SUFFIX, ()) if name.lower().endswith(".zip")]
    if kinds == [IMAGES] and archives and not include:  # `datasets` reads the images in it
        remedy = "unpack it, move it away, or name the images with include= (--include)"
        raise SourceError(f"{source.where}: {archives[0]}", "image files", "an archive, which may hold images", remedy)
    beside = sorted(others[_SIDE_FILE] + others[_METADATA], key=lambda file: file.name)
    return Layout(
        kinds[0],
        tuple(sorted(shards[kinds[0]], key=lambda shard: shard.name)),
        tuple(beside),
        frozenset(file.name for file in others[_METADATA]),
        bool(others[_CARD]),
        listing.add(SIDE_FILES, others[_CARD] + beside) if listing is not None else 0,
        {reason: tuple(names) for reason, names in sorted(left_out.items()) if names},
        digest.hexdigest(),
    )


def differences(manifest: Manifest, layout: Layout, include: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Compare what is there with a manifest, by names and numbers.

    Args:
        manifest: Of the data set.
        layout: Of its files.
        include: Shell patterns that the layout was read with; images are not counted then.

    Returns:
        What is missing and what is there beyond the manifest: shards, or folders with the number of their images.
    """
    if manifest.kind != layout.kind:
        return [f"{manifest.kind} files"], [f"{layout.kind} files"]
    if manifest.kind != IMAGES:
        expected = {entry.name for entry in manifest.shards if not include or _included(entry.name, include)}
        found = {shard.name for shard in layout.shards}
        return sorted(expected - found), sorted(found - expected)
    if include:
        return [], []
    images: dict[str, int] = {}  # missing ones, by folder
    for entry in manifest.shards:
        images[folder_of(entry.name)] = images.get(folder_of(entry.name), 0) + entry.files
    for shard in layout.shards:
        images[shard.folder] = images.get(shard.folder, 0) - shard.files
    wording = {folder: f"{abs(number)} image{'s' * (abs(number) != 1)} in {folder}" for folder, number in images.items()}
    return (
        [wording[folder] for folder, number in sorted(images.items()) if number > 0],
        [wording[folder] for folder, number in sorted(images.items()) if number < 0],
    )


def folder_of(run: str) -> str:
    """Return the folder of a run of image files, of which the run's name begins."""
    return run.rpartition("#")[0]


def _included(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _role(name: str, image_suffixes: frozenset[str], metadata: frozenset[str]) -> str:
    """Return what becomes of a file: the kind of its shards, _CARD, _SIDE_FILE, _METADATA, or SUFFIX if it is left out."""
    path = PurePosixPath(name)
    if name == CARD_NAME:
        return _CARD
    if path.name in metadata and path.suffix in METADATA:
        return _METADATA
    if path.name in _SIDE_FILES:
        return _SIDE_FILE
    suffix = path.suffix.lower()
    return _SUFFIXES.get(suffix) or (IMAGES if suffix in image_suffixes else SUFFIX)


def _refuse_name(name: str, target: str, *, where: str) -> None:
    """Raise when a file that is to be carried over has a name that the target or its manifest cannot have."""
    where = f"{where}: {printable(name)}"
    try:
        name.encode()
    except UnicodeEncodeError:
        raise SourceError(where, "names in UTF-8, as manifests hold them", "other bytes", "rename the file") from None
    length = len(os.fsencode(PurePosixPath(target).name))
    if length > _LONGEST_NAME:
        got = f"{length} bytes with the suffix {PurePosixPath(target).suffix}"
        raise SourceError(where, f"a name of at most {_LONGEST_NAME} bytes", got, "rename the file")


def _shard(name: str, files: Sequence[SourceFile], listing: Listing | None) -> Shard:
    line = listing.add(name, files) if listing is not None else 0
    return Shard(name, sum(file.size for file in files), len(files), line)


class _ImageRuns:
    """Cuts image files into runs of at most `FILES_PER_SHARD`, as they are listed folder by folder.

    The files of one folder are in memory at a time: the whole tree may have millions.
    """

    def __init__(self, where: str, listing: Listing | None, suffix: str) -> None:
        self._where, self._listing, self._suffix, self._runs = where, listing, suffix, list[Shard]()
        self._folder, self._files = "", list[SourceFile]()

    def add(self, file: SourceFile) -> None:
        """Take the next image file."""
        folder = str(PurePosixPath(file.name).parent)
        if folder != self._folder:
            self._cut()
            self._folder = folder
        self._files.append(file)

    def finish(self) -> list[Shard]:
        """Return the runs of all files."""
        self._cut()
        return self._runs

    def _cut(self) -> None:
        targets: dict[str, str] = {}
        for file in self._files:
            other = targets.setdefault(target_name(file.name, self._suffix), file.name)
            if other != file.name:
                written = format_of_suffix(self._suffix)
                expected = f"one image per {written.name if written is not None else self._suffix}"
                raise SourceError(f"{self._where}: {file.name}", expected, f"{other} too", "rename one of them")
        files = sorted(self._files, key=lambda file: target_name(file.name, self._suffix))  # the order of the target's files
        for start in range(0, len(files), FILES_PER_SHARD):
            self._runs.append(_shard(f"{self._folder}#{start:08d}", files[start : start + FILES_PER_SHARD], self._listing))
        self._files = []
