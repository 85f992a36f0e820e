"""What a manifest says: the types of docs/format.md, and how they are read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from timm_encmixer.datasets.listing import FOLDER, refuse_outside
from timm_encmixer.errors import SourceError
from timm_encmixer.files import file_error
from timm_encmixer.images.file_format import FORMATS, PNG
from timm_encmixer.images.formats.base import FileFormat
from timm_encmixer.schema import Count, Sha256, read_as

StructT = TypeVar("StructT")
MANIFEST = f"{FOLDER}/manifest.json"
JOB = f"{FOLDER}/job.json"
PRIVATE = f"{FOLDER}/private"  # never pushed: a digest of a plain file lets anybody test a guess at it
MANIFEST_VERSION = 1
REMEDY = "upgrade timm-encmixer, or make the data set again in another folder"
Name = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=65536)]
_QUALITIES = FORMATS["jpeg"].settings
_OTHER_SUFFIX = "|".join(re.escape(one.suffix) for one in FORMATS.values() if one is not PNG)


class Bad(Struct, frozen=True, forbid_unknown_fields=True):
    """A sample that was left out, and why."""

    sample: Text
    reason: Text


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A finished shard.

    Args:
        name: The shard's name.
        bytes: Size of what was written, all files together.
        sha256: Of the shard's file; of a run of images, of the lines "name sha256" of its files.
        samples: Rows, WebDataset samples or files in it.
        images: Converted cells.
        bad: What was left out: the sample's name and the reason.
        files: Number of files.
        is_run: It is a run of image files.
        plain: Columns or fields that hold images and were not converted; absent if there are none.
        suffix: Of a run's files; absent for PNG.
    """

    name: Name
    bytes: Count
    sha256: Sha256
    samples: Count
    images: Count
    bad: tuple[Bad, ...] = ()
    files: Count = 1
    is_run: bool = False
    plain: tuple[Text, ...] | UnsetType = UNSET
    suffix: Annotated[str, Meta(pattern=rf"^({_OTHER_SUFFIX})\Z")] | UnsetType = UNSET

    def __post_init__(self) -> None:
        refuse_outside(self.name)


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """The options that shape the result, and must be the same when a run is taken up again."""

    resize: bool = True
    image_columns: tuple[Text, ...] = ()
    include: tuple[Text, ...] = ()
    png_level: Annotated[int, Meta(ge=0, le=9)] | None = None
    jpeg_quality: Annotated[int, Meta(ge=_QUALITIES[0], le=_QUALITIES[-1])] | UnsetType = UNSET  # absent for PNG

    @property
    def format(self) -> FileFormat:
        """The format of the images that are written: the one whose number is there; PNG, whose number is optional, else."""
        others = (one for one in FORMATS.values() if one is not PNG and one.option is not None)
        return next((one for one in others if getattr(self, str(one.option), UNSET) is not UNSET), PNG)

    @property
    def setting(self) -> int | None:
        """The number that the encoder takes; None for the usual one."""
        return None if self.format.option is None else getattr(self, self.format.option)


class Job(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is being made: the fields of docs/format.md; the record stands in `encmixer` or in `decrypted`."""

    version: Literal[1]
    action: Literal["encrypt", "decrypt"]
    kind: Literal["parquet", "arrow", "webdataset", "imagefolder"]
    source: Text
    source_commit: Text | None = None
    source_digest: Sha256
    options: Options
    encmixer: dict[str, Any] | UnsetType = UNSET
    decrypted: dict[str, Any] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.encmixer is UNSET) == (self.decrypted is UNSET):
            raise ValueError("a record in both or none of `encmixer` and `decrypted`")

    @property
    def record(self) -> dict[str, Any] | None:
        """The record of ciphertext; None for a decrypted data set."""
        return None if self.encmixer is UNSET else self.encmixer


class Totals(Struct, frozen=True, forbid_unknown_fields=True):
    """Sums over all shards."""

    samples: Count
    images: Count
    bytes: Count
    files: Count
    bad: Count


class Manifest(Job, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A finished job."""

    totals: Totals
    shards: tuple[Entry, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if sums_of(self.shards) != self.totals:
            raise ValueError("totals that are not the shards' sums")
        if len({entry.name for entry in self.shards}) != len(self.shards):
            raise ValueError("two shards of one name")


def read_manifest(path: Path, *, where: str) -> Manifest:
    """Read a finished data set's manifest.

    Raises:
        SourceError: There is none, or it is none that this version reads.
    """
    if not path.is_file():
        raise SourceError(where, f"a finished data set with {MANIFEST}", "none", "make it: encmixer dataset encrypt")
    return read_book(Manifest, path)


def target_name(name: str, suffix: str) -> str:
    """Return what a converted image file is called."""
    return str(PurePosixPath(name).with_suffix(suffix))


def suffix_of(entry: Entry) -> str:
    """Return the suffix of the files of a run of images."""
    return PNG.suffix if entry.suffix is UNSET else entry.suffix


def digest_of_run(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a run of image files, from their names and digests."""
    lines = "".join(f"{name} {digest}\n" for name, digest in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def sums_of(entries: Sequence[Entry]) -> Totals:
    """Return the sums over some shards."""
    sums = {name: sum(getattr(entry, name) for entry in entries) for name in ("samples", "images", "bytes", "files")}
    return Totals(**sums, bad=sum(len(entry.bad) for entry in entries))


def read_book(kind: type[StructT], path: Path) -> StructT:
    """Read one of a data set's own files.

    Raises:
        SourceError: It is not what this version writes.
        FileAccessError: It cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error(path, "a file to read", error) from error
    return read_as(kind, content, where=str(path), error=SourceError, remedy=REMEDY)


def as_json(value: Struct) -> bytes:
    """Return one of a data set's own files as it is written."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + os.linesep.encode()
