"""What a data set is: its kind and shards, and, when it was made here, its record and whether its shards are whole."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.datasets.layout import read_layout
from timm_encmixer.datasets.ledger import MANIFEST, Ledger, digest_of_run, read_manifest
from timm_encmixer.datasets.sources import DatasetSource, LocalFolder, open_source
from timm_encmixer.errors import FileAccessError, IntegrityError, SourceError
from timm_encmixer.files import sha256_of
from timm_encmixer.hub.snapshot import Token


@dataclass(frozen=True)
class Verified:
    """How a data set's shards compare with its manifest."""

    shards: int
    differing: tuple[str, ...]  # missing, or with other bytes

    @property
    def holds(self) -> bool:
        """All shards are as they were written."""
        return not self.differing


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
        return {**_head(manifest), "finished": True, "shards": len(manifest["shards"]), **manifest["totals"]}
    layout = read_layout(source)
    size = sum(shard.size for shard in layout.shards)
    passed_over = {"passed_over": list(layout.passed_over)} if layout.passed_over else {}
    return {"source": src, "kind": layout.kind, "encrypted": False, "shards": len(layout.shards), "bytes": size, **passed_over}


def verify_dataset(src: str, *, progress: bool = True) -> Verified:
    """Compare the shards of a folder with its manifest, byte for byte.

    Raises:
        SourceError: There is no manifest.
    """
    root = Path(src)
    manifest = read_manifest(root / MANIFEST, where=src)
    differing = []
    for entry in tqdm(manifest["shards"], desc="verifying", unit="shard", disable=None if progress else True):
        found = _digest_of_run(root, entry, manifest) if entry["is_run"] else _digest(root / entry["name"])
        if found != entry["sha256"]:
            differing.append(entry["name"])
    return Verified(len(manifest["shards"]), tuple(differing))


def manifest_in(source: DatasetSource) -> dict[str, Any] | None:
    """Return the manifest of a data set, None when it has none."""
    with tempfile.TemporaryDirectory(prefix="encmixer-") as scratch:
        try:
            with source.local(MANIFEST, Path(scratch)) as path:
                return read_manifest(path, where=source.where) if path.is_file() else None
        except (FileAccessError, IntegrityError):  # a source that has no such file
            return None


def _head(job: dict[str, Any]) -> dict[str, Any]:
    record = {RECORD_NAME: job[RECORD_NAME]} if RECORD_NAME in job else {}
    return {"source": job["source"], "kind": job["kind"], "encrypted": bool(record), **record}


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _digest_of_run(root: Path, entry: dict[str, Any], manifest: dict[str, Any]) -> str | None:
    """Return the digest of a run's files: those of its folder that come after the files of the runs before."""
    folder = entry["name"].rpartition("#")[0]
    earlier = [
        other for other in manifest["shards"] if other["name"].rpartition("#")[0] == folder and other["name"] < entry["name"]
    ]
    first = sum(other["files"] for other in earlier)
    try:
        names = LocalFolder(root).names_in(folder)
    except SourceError:
        return None
    pictures = [name for name in names if PurePosixPath(name).suffix == ".png"][first : first + entry["files"]]
    return digest_of_run([(name, root / name) for name in pictures])
