"""The books of a data set's folder: where they are, and the job that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timm_encmixer.datasets.listing import FOLDER, SourceFile
from timm_encmixer.datasets.manifest import JOB, MANIFEST, PRIVATE, Entry, Job, read_book, read_manifest, suffix_of, target_name


@dataclass(frozen=True)
class Books:
    """The books of one target folder."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        return self.root / FOLDER

    @property
    def scratch(self) -> Path:
        """Where shards are written before they get their names; on the target's own file system."""
        return self.folder / "tmp"

    @property
    def stop_file(self) -> Path:
        """It is there when a process has failed and the others are to stop."""
        return self.folder / "stop"

    @property
    def listing(self) -> Path:
        """The source's files, one line per shard, while a run lasts."""
        return self.folder / "listing.jsonl"

    @property
    def private(self) -> Path:
        """What the shards of a finished data set were made from."""
        return self.root / PRIVATE / "source.jsonl"

    def known(self) -> Job | None:
        """Return the job that was finished or begun here, None when there is none.

        Raises:
            SourceError: The manifest is not one that this version reads.
        """
        return read_manifest(self.root / MANIFEST, where=str(self.root)) if (self.root / MANIFEST).is_file() else self.job()

    def job(self) -> Job | None:
        """Return the job of a run that has begun here, None when there is none or it is over."""
        path = self.root / JOB
        return read_book(Job, path) if path.is_file() else None


def files_of(entry: Entry, source: Sequence[SourceFile] | None) -> list[str]:
    """Return the names of a finished shard's files; none for a run of which nobody noted what it was made from."""
    if not entry.is_run:
        return [entry.name]
    bad = {bad.sample for bad in entry.bad}
    return [target_name(file.name, suffix_of(entry)) for file in source or () if file.name not in bad]
