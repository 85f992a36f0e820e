"""The list of what a run converts: the source's files, made once, one line per shard in a file that all processes read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta, Struct

from timm_encmixer.errors import SourceError
from timm_encmixer.schema import Count, Sha256, read_as

_Name = Annotated[str, Meta(min_length=1, max_length=4096)]
FOLDER = ".encmixer"  # in which a data set's books are kept
_REMEDY = "start over in another folder"
SIDE_FILES = "#side files"  # the line of the files that are in no shard


def refuse_outside(name: str) -> None:
    """Raise ValueError for a name that leads out of a data set, or into our own folder: files of these names are removed."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or FOLDER in path.parts or "\0" in name:
        raise ValueError("a name that leads out of the data set")


class SourceFile(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A file of a source; an array in JSON.

    Args:
        name: Below the data set, with /.
        size: In bytes; 0 where the source does not say.
        stamp: What changes when the file is written, such as its times; empty where the source has no such thing.
        sha256: Of its content, once it has been read.
    """

    name: _Name
    size: Count
    stamp: Annotated[str, Meta(max_length=256)] = ""
    sha256: Sha256 | None = None

    def __post_init__(self) -> None:
        refuse_outside(self.name)


class Listed(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The files of one shard; an array in JSON."""

    shard: _Name
    files: tuple[SourceFile, ...]


class Listing:
    """Writes the list of a source, and says where each shard's line is."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def add(self, shard: str, files: Sequence[SourceFile]) -> int:
        """Write a shard's line; returns where it begins, in bytes."""
        at = self.file.tell()
        self.file.write(msgspec.json.encode(Listed(shard, tuple(files))) + b"\n")
        return at


def read_listing(file: BinaryIO, *, where: str) -> Iterator[Listed]:
    """Yield the lines of a list from where the file is.

    Raises:
        SourceError: A line is not one.
    """
    for line in file:
        yield read_as(Listed, line, where=where, error=SourceError, remedy=_REMEDY)


def line_at(file: BinaryIO, at: int, *, where: str) -> tuple[SourceFile, ...]:
    """Return the files of the shard whose line begins at a place of the list."""
    file.seek(at)
    return next(read_listing(file, where=where)).files


def changes(
    before: Iterable[Listed],
    lines: Mapping[str, int],
    listing: BinaryIO,
    same: Callable[[SourceFile, SourceFile], bool],
) -> list[str]:
    """Say how a list of files differs from an earlier one, one file an item: what appeared, vanished, or was changed.

    Args:
        before: The earlier list.
        lines: Where each shard's line begins in the new list.
        listing: The new list.
        same: Whether a file is as it was, of the old and the new one.
    """
    rest, old, new = dict(lines), dict[str, SourceFile](), dict[str, SourceFile]()
    for listed in before:
        at = rest.pop(listed.shard, None)
        now = line_at(listing, at, where="listing") if at is not None else ()
        if len(now) != len(listed.files) or not all(map(same, listed.files, now)):
            old |= {file.name: file for file in listed.files}
            new |= {file.name: file for file in now}
    for at in rest.values():
        new |= {file.name: file for file in line_at(listing, at, where="listing")}
    return [
        *(f"{name} appeared" for name in new if name not in old),
        *(f"{name} vanished" for name in old if name not in new),
        *(f"{name} was changed" for name, file in new.items() if name in old and not same(old[name], file)),
    ]


def same_times(one: SourceFile, other: SourceFile) -> bool:
    """Whether a file has the size and the time of writing that it had; a new link to it or new permissions are no change."""
    same_time = one.stamp.partition(":")[0] == other.stamp.partition(":")[0]
    return (one.name, one.size) == (other.name, other.size) and same_time
