"""What a data set is: its kind and shards, and, when it was made here, its record and whether its shards are whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from PIL import Image
from tqdm import tqdm

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.datasets import loading
from timm_encmixer.datasets.layout import IMAGES, WEBDATASET, differences, folder_of, read_layout
from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.listing import Listing, SourceFile, changes
from timm_encmixer.datasets.manifest import JOB, MANIFEST, Entry, Job, Manifest, digest_of_run, read_manifest, suffix_of
from timm_encmixer.datasets.sources import LocalFolder, SourceTree, open_source
from timm_encmixer.errors import DataError, FileAccessError, SourceError
from timm_encmixer.files import sha256_of
from timm_encmixer.hub.snapshot import Token
from timm_encmixer.images.image_record import ImageRecord
from timm_encmixer.images.reading import image_suffixes


@dataclass(frozen=True)
class Verified:
    """How a data set compares with its manifest, with its source and with what the library `datasets` reads."""

    shards: int
    differing: tuple[str, ...]  # missing, or with other bytes
    source_differing: tuple[str, ...] = ()  # what has changed in the source since
    source_compared: bool = False  # the source is on this machine
    unreadable: tuple[str, ...] = ()  # what `datasets` reads otherwise, or cannot read

    @property
    def holds(self) -> bool:
        """All shards are as they were written, so is the source, and all rows can be read."""
        return not (self.differing or self.source_differing or self.unreadable)


def describe_dataset(src: str, *, token: Token = None) -> dict[str, Any]:
    """Return what there is to say of a data set: the JSON object of `encmixer dataset info`.

    Raises:
        SourceError, HubError: It is none.
    """
    source = open_source(src, token=token)
    job = Ledger(Path(src)).job() if isinstance(source, LocalFolder) else None
    if job is not None:
        done = Ledger(Path(src)).done()
        return {
            **_head(job),
            "finished": False,
            "shards_done": len(done),
            "images": sum(entry.images for entry in done.values()),
        }
    manifest = manifest_in(source)
    if manifest is not None:
        totals = msgspec.to_builtins(manifest.totals)
        return {**_head(manifest), "finished": True, "shards": len(manifest.shards), **totals}
    layout = read_layout(source)
    size = sum(shard.size for shard in layout.shards)
    left_out = {name: list(value) for name, value in layout.left_out.items()}
    more: dict[str, Any] = {"passed_over": list(layout.passed_over), "left_out": left_out} if layout.passed_over else {}
    record = _record_of_first(source) if layout.kind == IMAGES else None
    if record is not None:  # what `encmixer images encrypt` made
        more["image_record"] = msgspec.to_builtins(record)
    encrypted = record is not None
    return {"source": src, "kind": layout.kind, "encrypted": encrypted, "shards": len(layout.shards), "bytes": size, **more}


def _record_of_first(source: SourceTree) -> ImageRecord | None:
    """Return the record that the first image of a folder on this machine carries."""
    suffixes = image_suffixes()
    names = (file.name for file in source.files() if not isinstance(file, tuple))
    first = next((name for name in names if PurePosixPath(name).suffix.lower() in suffixes), None)
    if first is None or not isinstance(source, LocalFolder):
        return None
    try:
        with Image.open(source.root / first) as image:
            image.load()  # the record may stand behind the pixels
            return ImageRecord.found_in(image, where=first)
    except (OSError, ValueError, SyntaxError):  # Pillow's, of what is no image; whether it is one is not asked here
        return None


def verify_dataset(src: str, *, progress: bool = True) -> Verified:
    """Compare a folder with its manifest, byte for byte; with its source, where that is; and with what `datasets` reads.

    Raises:
        SourceError: There is no manifest.
    """
    root = Path(src)
    manifest = read_manifest(root / MANIFEST, where=src)
    differing = differing_shards(root, manifest, progress=progress)
    try:
        more = differences(manifest, read_layout(LocalFolder(root), suffix=manifest.options.format.suffix))[1]
    except (SourceError, FileAccessError) as error:
        more = [error.got]
    changed = _source_changes(Ledger(root), manifest)
    unreadable = () if differing or not loading.is_installed() else tuple(_unreadable(root, manifest))
    differing += more
    return Verified(len(manifest.shards), tuple(differing), tuple(changed or ()), changed is not None, unreadable)


def differing_shards(root: Path, manifest: Manifest, *, progress: bool = True) -> list[str]:
    """Return the names of the shards that are missing, or have other bytes than the manifest says."""
    differing = []
    for entry in tqdm(manifest.shards, desc="verifying", unit="shard", disable=None if progress else True):
        found = _digest_of_run(root, entry, manifest) if entry.is_run else _digest(root / entry.name)
        if found != entry.sha256:
            differing.append(entry.name)
    return differing


def manifest_in(source: SourceTree) -> Manifest | None:
    """Return the manifest of a data set, None when it has none.

    Raises:
        SourceError: It is not one that this version reads, or the data set is not finished.
    """
    if source.has(JOB) and not source.has(MANIFEST):
        remedy = "run the command that makes it again"
        raise SourceError(source.where, "a finished data set", "one that is being made", remedy)
    if not source.has(MANIFEST):
        return None
    with tempfile.TemporaryDirectory(prefix="encmixer-") as scratch, source.local(MANIFEST, Path(scratch)) as path:
        return read_manifest(path, where=source.where)


def same_content(source: SourceTree, *, trust_times: bool = True) -> Callable[[SourceFile, SourceFile], bool]:
    """Return the function that says whether a file is what it was: by its stamp, and where that differs by its content.

    Args:
        source: The source as it is now; only a folder's contents are compared, as others would have to be fetched.
        trust_times: False compares contents even where sizes and times are the same.
    """

    def same(old: SourceFile, new: SourceFile) -> bool:
        if (old.name, old.size) != (new.name, new.size):
            return False
        if not isinstance(source, LocalFolder) or old.sha256 is None:
            return old.stamp == new.stamp
        return (trust_times and old.stamp == new.stamp) or _digest(source.root / new.name) == old.sha256

    return same


def _source_changes(ledger: Ledger, manifest: Manifest) -> list[str] | None:
    """Say how the source differs from what a data set was made from, None when it is not on this machine."""
    origin = ledger.origin()
    if origin is None or not Path(origin).is_dir():
        return None
    source = LocalFolder(Path(origin))
    with tempfile.TemporaryFile() as file:
        try:
            layout = read_layout(source, manifest.options.include, Listing(file), suffix=manifest.options.format.suffix)
        except (SourceError, DataError) as error:
            return [error.got]
        return changes(ledger.made_from(manifest), layout.lines, file, same_content(source, trust_times=False))


def _unreadable(root: Path, manifest: Manifest) -> list[str]:
    """Return what the library `datasets` cannot read, or where it reads another number of rows than was written."""
    rows = {entry.name: entry.samples for entry in manifest.shards}
    has_tables = manifest.kind == IMAGES and bool(read_layout(LocalFolder(root)).metadata)
    found = []
    try:
        for place, count, names in loading.rows_of(root, tables=manifest.kind not in (WEBDATASET, IMAGES)):
            expected = len(names) if manifest.kind == IMAGES else sum(rows.get(name, 0) for name in names)
            if count != expected and not has_tables:  # whose rows may name one image several times, or none
                found.append(f"{place}: {count} rows instead of {expected}")
    except Exception as error:  # whatever the library raises
        found.append(loading.first_line(error))
    return found


def _head(job: Job) -> dict[str, Any]:
    record: dict[str, Any] = {RECORD_NAME: job.record} if job.record is not None else {}
    if not job.options.format.lossless:
        record |= {"format": job.options.format.name.lower(), "quality": job.options.setting}
    return {"source": job.source, "kind": job.kind, "encrypted": bool(record), **record}


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _digest_of_run(root: Path, entry: Entry, manifest: Manifest) -> str | None:
    """Return the digest of a run's files: those of its folder that come after the files of the runs before."""
    folder = folder_of(entry.name)
    earlier = [other for other in manifest.shards if folder_of(other.name) == folder and other.name < entry.name]
    first = sum(other.files for other in earlier)
    try:
        names = LocalFolder(root).names_in(folder)
    except FileAccessError:
        return None
    pictures = [name for name in names if PurePosixPath(name).suffix == suffix_of(entry)][first : first + entry.files]
    return digest_of_run((name, sha256_of(root / name)) for name in pictures)
