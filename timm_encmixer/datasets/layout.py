"""What kind of data set a tree of files is, and its shards: the units that are converted whole, one per process at a time."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from timm_encmixer.datasets.sources import DatasetSource
from timm_encmixer.errors import SourceError
from timm_encmixer.images.reading import image_suffixes

PARQUET, ARROW, WEBDATASET, IMAGES = "parquet", "arrow", "webdataset", "imagefolder"
_SUFFIXES = {".parquet": PARQUET, ".arrow": ARROW, ".tar": WEBDATASET}
_METADATA = frozenset(("metadata.csv", "metadata.jsonl", "metadata.parquet"))
_SIDE_FILES = frozenset(("dataset_info.json", "dataset_dict.json", "state.json", "LICENSE", "LICENSE.txt", "LICENSE.md"))
_CARD, _SIDE_FILE, _PASSED_OVER = "card", "side file", "passed over"  # what becomes of files that are in no shard
CARD_NAME = "README.md"
FILES_PER_SHARD = 256


@dataclass(frozen=True)
class Shard:
    """What one process converts in one go.

    Args:
        name: Of the source's file, and of the target's; of a run of image files, their folder and the first one's number.
        size: Bytes of the source.
        folder: For `IMAGES`, the folder that the run lies in.
        start: Number of the run's first image file in that folder.
        stop: Number after its last one.
    """

    name: str
    size: int
    folder: str = ""
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Layout:
    """A data set's files by what becomes of them.

    Args:
        kind: PARQUET, ARROW, WEBDATASET or IMAGES.
        shards: In the order of their names.
        side_files: Small files that belong to the kind and are carried over: features, sizes, licences, metadata tables.
        card: Whether there is a README.md.
        passed_over: Files that are not carried over, as nobody knows what they show.
        digest: Of all names and sizes, to tell a changed source.
    """

    kind: str
    shards: tuple[Shard, ...]
    side_files: tuple[str, ...]
    card: bool
    passed_over: tuple[str, ...]
    digest: str


def read_layout(source: DatasetSource, include: Sequence[str] = ()) -> Layout:
    """Sort a data set's files.

    Args:
        source: Where they are.
        include: Shell patterns of shards (image files) to take; none takes all.

    Raises:
        SourceError: No data set of a known kind, or one of several kinds at once.
    """
    digest = hashlib.sha256()
    shards: dict[str, list[Shard]] = {kind: [] for kind in (PARQUET, ARROW, WEBDATASET)}
    others: dict[str, list[str]] = {role: [] for role in (_CARD, _SIDE_FILE, _PASSED_OVER)}
    runs, suffixes = _ImageRuns(source.where), image_suffixes()
    for name, size in source.files():
        digest.update(f"{name}\0{size}\n".encode())
        role = _role(name, include, suffixes, where=source.where)
        if role == IMAGES:
            runs.add(name, size)
        elif role in shards:
            shards[role].append(Shard(name, size))
        else:
            others[role].append(name)
    shards[IMAGES] = runs.finish()
    kinds = [kind for kind, found in shards.items() if found]
    if len(kinds) != 1:
        none = "no parquet, arrow, tar or image files" + (" that --include names" if include else "")
        remedy = "give its folder, or choose files with --include"
        raise SourceError(source.where, "a data set of one kind", " and ".join(kinds) or none, remedy)
    return Layout(
        kinds[0],
        tuple(sorted(shards[kinds[0]], key=lambda shard: shard.name)),
        tuple(others[_SIDE_FILE]),
        bool(others[_CARD]),
        tuple(others[_PASSED_OVER]),
        digest.hexdigest(),
    )


def files_of(shard: Shard, source: DatasetSource, include: Sequence[str] = ()) -> list[str]:
    """Return the image files of a run, listed again.

    Raises:
        SourceError: There are fewer by now.
    """
    suffixes = image_suffixes()
    names = [
        name
        for name in source.names_in(shard.folder)
        if PurePosixPath(name).suffix.lower() in suffixes and (not include or _included(name, include))
    ]
    files = sorted(names, key=target_name)[shard.start : shard.stop]
    if len(files) != shard.stop - shard.start:
        raise SourceError(f"{source.where}: {shard.folder}", "the files of before", "fewer", "start over into another folder")
    return files


def target_name(name: str) -> str:
    """Return what a converted image file is called."""
    return str(PurePosixPath(name).with_suffix(".png"))


def _included(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _role(name: str, include: Sequence[str], image_suffixes: frozenset[str], *, where: str) -> str:
    """Return what becomes of a file: the kind of its shards, or _CARD, _SIDE_FILE or _PASSED_OVER.

    Raises:
        SourceError: The name leads out of the data set; a server may list what it likes.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(f"{where}: {name}", "files below the data set", "one outside", "do not use this source")
    if name == CARD_NAME:
        return _CARD
    if path.name in _METADATA or path.name in _SIDE_FILES:
        return _SIDE_FILE
    suffix = path.suffix.lower()
    kind = _SUFFIXES.get(suffix) or (IMAGES if suffix in image_suffixes else _PASSED_OVER)
    return kind if not include or _included(name, include) else _PASSED_OVER


class _ImageRuns:
    """Cuts image files into runs of at most `FILES_PER_SHARD`, as they are listed folder by folder.

    The files of one folder are in memory at a time: the whole tree may have millions.
    """

    def __init__(self, where: str) -> None:
        self._where, self._runs = where, list[Shard]()
        self._folder, self._files = "", list[tuple[str, int]]()

    def add(self, name: str, size: int) -> None:
        """Take the next image file."""
        folder = str(PurePosixPath(name).parent)
        if folder != self._folder:
            self._cut()
            self._folder = folder
        self._files.append((name, size))

    def finish(self) -> list[Shard]:
        """Return the runs of all files."""
        self._cut()
        return self._runs

    def _cut(self) -> None:
        targets: dict[str, str] = {}
        for name, _ in self._files:
            other = targets.setdefault(target_name(name), name)
            if other != name:
                raise SourceError(f"{self._where}: {name}", "one image per PNG", f"{other} too", "rename one of them")
        files = sorted(self._files, key=lambda file: target_name(file[0]))  # the order that the target's files have
        for start in range(0, len(files), FILES_PER_SHARD):
            run = files[start : start + FILES_PER_SHARD]
            size = sum(size for _, size in run)
            self._runs.append(Shard(f"{self._folder}#{start:08d}", size, self._folder, start, start + len(run)))
        self._files = []
