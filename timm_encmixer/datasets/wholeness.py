"""Whole or not at all: what is compared before, during and after a run, and what is said when it differs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from timm_encmixer.datasets import loading
from timm_encmixer.datasets.inspection import manifest_in, same_content
from timm_encmixer.datasets.layout import IMAGES, PARQUET, WEBDATASET, Layout, differences, folder_of, read_layout
from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.listing import Listed, Listing, SourceFile, changes, line_at, same_times
from timm_encmixer.datasets.manifest import MANIFEST, Manifest, Options, read_manifest
from timm_encmixer.datasets.sources import RUN_AGAIN, LocalFolder, SourceTree, unchanged
from timm_encmixer.errors import DataError, IntegrityError, SourceError
from timm_encmixer.files import sha256_of

_NAMED = 5  # files in a message


def refuse_incomplete(source: SourceTree, layout: Layout, options: Options) -> None:
    """Raise when an encrypted data set is not all that its manifest says."""
    manifest = manifest_in(source)
    if manifest is None:
        return
    missing, more = differences(manifest, layout, options.include)
    if missing or more:
        names = _missing_names(source, manifest, layout) or missing
        got = f"none of {_few(names)}" if missing else f"{_few(more)} beyond it"
        remedy = "take the whole data set, or say with include= (--include) what you have"
        raise IntegrityError(source.where, f"what {MANIFEST} lists", got, remedy)


def _missing_names(source: SourceTree, manifest: Manifest, layout: Layout) -> list[str]:
    """Return the names of images that are not there, where the private list of the data set is at hand."""
    if not isinstance(source, LocalFolder) or layout.kind != IMAGES:
        return []
    return [name for name in Ledger(source.root).written(manifest) if not source.has(name)]


def refuse_changed(ledger: Ledger, source: SourceTree, layout: Layout, listing: Listing) -> None:
    """Raise when a finished data set, or the source that it was made from, is not what it was."""
    manifest = read_manifest(ledger.root / MANIFEST, where=str(ledger.root))
    if ledger.private.is_file():
        changed = changes(ledger.made_from(manifest), layout.lines, listing.file, same_content(source))
        if changed:
            got = f"one in which {_few(changed)}"
            remedy = "choose another target, or delete it"
            raise SourceError(source.where, f"the source that {ledger.root} was made from", got, remedy)
    target = LocalFolder(ledger.root)
    found = read_layout(target, suffix=manifest.options.format.suffix)
    missing, _ = differences(manifest, found)
    got = f"one without {_few(_missing_names(target, manifest, found) or missing)}" if missing else ""
    if not missing and sum(shard.size for shard in found.shards) != manifest.totals.bytes:
        sizes = {shard.name: shard.size for shard in found.shards}
        names = [e.name for e in manifest.shards if not e.is_run and sizes[e.name] != e.bytes]
        got = f"another size of {_few(names)}" if names else "one with images of other sizes"
    if got:
        remedy = f"see encmixer dataset info --verify; delete {ledger.root} and run the command again"
        raise IntegrityError(str(ledger.root), "the data set that was finished there", got, remedy)


def refuse_moving(before: Layout, options: Options, source: SourceTree, ledger: Ledger) -> list[SourceFile]:
    """Raise when the source is not what the run began with; return the files that are in no shard, with their digests."""
    with tempfile.TemporaryFile() as file, ledger.listing.open("rb") as list_before:
        listing = Listing(file)
        now = read_layout(source, options.include, listing, suffix=options.format.suffix)
        listed = (Listed(name, line_at(list_before, line, where=str(ledger.listing))) for name, line in before.lines.items())
        changed = changes(listed, now.lines, file, same_times)
        if changed:
            got = f"one in which {_few(changed)} meanwhile"
            raise SourceError(source.where, "the source that this run began with", got, RUN_AGAIN)
        side_files = []
        for beside in line_at(file, now.side_line, where="listing"):
            with unchanged(source, beside, ledger.scratch) as path:
                side_files.append(replace(beside, sha256=sha256_of(path)))
        return side_files


def refuse_empty_folders(manifest: Manifest) -> None:
    """Raise when a folder has lost all its images: labels are numbered by folders, so those of others would change."""
    if manifest.kind != IMAGES:
        return
    there = {folder_of(entry.name) for entry in manifest.shards if entry.files}
    empty = sorted({folder_of(entry.name) for entry in manifest.shards} - there)
    if empty:
        remedy = "correct its images, or leave it out with include= (--include), in a new target: class numbers may change"
        raise DataError(_few(empty), "an image that can be used in each folder", "none", remedy)


def refuse_strangers(manifest: Manifest, root: Path) -> None:
    """Raise when the target holds shards or images that this run did not write: readers would take them for its own."""
    missing, more = differences(manifest, read_layout(LocalFolder(root), suffix=manifest.options.format.suffix))
    if missing or more:
        got = f"none of {_few(missing)}" if missing else f"{_few(more)} beyond it"
        remedy = "move what is not its own away, then run the command again"
        raise IntegrityError(str(root), "what this run has written", got, remedy)


def refuse_empty_splits(manifest: Manifest, root: Path) -> None:
    """Raise when a split has lost all its rows: the library `datasets` does not read one without any."""
    rows = {entry.name: entry.samples for entry in manifest.shards}
    if manifest.kind not in (PARQUET, WEBDATASET) or all(rows.values()) or not loading.is_installed():
        return
    empty = loading.empty_splits(root, rows)
    if empty:
        remedy = "correct the images, or leave the shards out with include= (--include), in a new target"
        raise DataError(_few(empty), "a sample that can be used in each split", "none", remedy)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
