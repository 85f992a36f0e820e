"""What kind of data set a tree of files is, and its shards: the units that are converted whole, one per process at a time."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from timm_encmixer.datasets.sources import DatasetSource
from timm_encmixer.errors import SourceError
from timm_encmixer.images.reading import image_suffixes

PARQUET, ARROW, WEBDATASET, IMAGES = "parquet", "arrow", "webdataset", "imagefolder"
_SUFFIXES = {".parquet": PARQUET, ".arrow": ARROW, ".tar": WEBDATASET}
_METADATA = frozenset(("metadata.csv", "metadata.jsonl", "metadata.parquet"))
_SIDE_FILES = frozenset(("dataset_info.json", "dataset_dict.json", "state.json", "LICENSE", "LICENSE.txt", "LICENSE.md"))
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
    folder = ""
    in_folder: list[tuple[str, int]] = []  # its image files: never those of the whole tree, which may be millions
    runs: list[Shard] = []
    side: list[str] = []
    passed_over: list[str] = []
    card = False
    suffixes = image_suffixes()
    for name, size in source.files():
        digest.update(f"{name}\0{size}\n".encode())
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:  # a server may list what it likes
            raise SourceError(f"{source.where}: {name}", "files below the data set", "one outside", "do not use this source")
        kind = _SUFFIXES.get(path.suffix.lower())
        if name == CARD_NAME:
            card = True
        elif path.name in _METADATA or path.name in _SIDE_FILES:
            side.append(name)
        elif include and (kind or path.suffix.lower() in suffixes) and not _included(name, include):
            passed_over.append(name)
        elif kind:
            shards[kind].append(Shard(name, size))
        elif path.suffix.lower() in suffixes:
            if str(path.parent) != folder:
                runs += _runs(folder, in_folder, source.where)
                folder, in_folder = str(path.parent), []
            in_folder.append((name, size))
        else:
            passed_over.append(name)
    runs += _runs(folder, in_folder, source.where)
    kinds = [kind for kind, found in shards.items() if found] + ([IMAGES] if runs else [])
    if len(kinds) != 1:
        got = (
            " and ".join(kinds)
            if kinds
            else "no parquet, arrow, tar or image files" + (" that --include names" * bool(include))
        )
        raise SourceError(source.where, "a data set of one kind", got, "give its folder, or choose files with --include")
    found = runs if kinds == [IMAGES] else shards[kinds[0]]
    return Layout(
        kinds[0], tuple(sorted(found, key=lambda shard: shard.name)), tuple(side), card, tuple(passed_over), digest.hexdigest()
    )


def files_of(shard: Shard, source: DatasetSource, include: Sequence[str] = ()) -> list[str]:
    """Return the image files of a run, listed anew.

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


def _runs(folder: str, files: Sequence[tuple[str, int]], where: str) -> Iterator[Shard]:
    """Cut a folder's image files into runs of at most `FILES_PER_SHARD`."""
    targets: dict[str, str] = {}
    for name, _ in files:
        other = targets.setdefault(target_name(name), name)
        if other != name:
            raise SourceError(f"{where}: {name}", "one image per PNG", f"{other} too", "rename one of them")
    files = sorted(files, key=lambda file: target_name(file[0]))  # the order that the target's files have
    for start in range(0, len(files), FILES_PER_SHARD):
        run = files[start : start + FILES_PER_SHARD]
        yield Shard(f"{folder}#{start:08d}", sum(size for _, size in run), folder, start, start + len(run))
