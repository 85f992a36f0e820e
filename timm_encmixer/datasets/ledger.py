"""What has been done: one small file per finished shard while a run lasts, one manifest when it is over.

    DST/.encmixer/job.json              what is being made: record, source, options; written first
    DST/.encmixer/listing.jsonl         the source's files, one line per shard: what this run encrypts
    DST/.encmixer/shards/*.json.new     one per file or shard that is about to get its name, with the digests of its content
    DST/.encmixer/shards/*.json         one per finished shard: the same, renamed after the shard itself has its name
    DST/.encmixer/tmp/                  files that are being written
    DST/.encmixer/manifest.json         all of it that may be published, written last, when the rest goes away
    DST/.encmixer/private/source.jsonl  what the shards were made from: digests of plain files, which are never pushed

`datasets` and timm do not look into hidden folders. Source of the idea: write-ahead journals; docs/datasets.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from timm_encmixer.datasets.finished import FinishedBooks, Origin
from timm_encmixer.datasets.journal import Journal, read_done
from timm_encmixer.datasets.listing import FOLDER, SIDE_FILES, Listed, SourceFile
from timm_encmixer.datasets.manifest import JOB, MANIFEST, Job, Manifest, as_json, sums_of
from timm_encmixer.errors import EncMixerError, FileAccessError, SourceError, TargetExistsError
from timm_encmixer.files import file_error, place_file, remove_inside, replacing_file
from timm_encmixer.temporaries import is_temporary, lock

logger = logging.getLogger(__name__)
_BEFORE_THE_JOB = frozenset(("lock", "listing.jsonl", "shards", "tmp"))


@dataclass(frozen=True)
class Ledger(Journal, FinishedBooks):
    """The books of one target folder: begun, kept while a run lasts, and closed."""

    def begin(self, job: Job, listing: BinaryIO) -> bool:
        """Start or take up a job; clear away what a killed run was writing.

        Args:
            job: What is to be made.
            listing: The source's files as they are now.

        Returns:
            Whether it is finished already.

        Raises:
            SourceError: The target holds another job, or this one on other data.
            FileAccessError: It cannot be written.
        """
        try:
            return self._begin(job, listing)
        except OSError as error:
            if isinstance(error, FileAccessError):
                raise
            raise file_error(self.root, "a folder to write", error) from error

    def _begin(self, job: Job, listing: BinaryIO) -> bool:
        finished, known = (self.root / MANIFEST).is_file(), self.known()
        if known is not None:
            # What the files hold is compared shard by shard; an older version's finished data set has this digest alone.
            ignored = () if finished and not self.private.is_file() else ("source_digest",)
            names = [name for name in Job.__struct_fields__ if name not in ignored]
            differing = [name for name in names if getattr(known, name) != getattr(job, name)]
            if differing and (finished or any((self.folder / "shards").glob("*.json"))):
                got = f"different {' and different '.join(_named(known, job, name) for name in differing)}"
                raise SourceError(str(self.root), "the job that it was begun with", got, "choose another target, or delete it")
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        self._tidy()
        if finished:
            self._remove_journal()
            return True
        for path, write in (
            (self.listing, lambda new: _copy(listing, new)),
            (self.root / JOB, lambda new: new.write_bytes(as_json(job))),
        ):
            with replacing_file(path, overwrite=True) as temporary:
                write(temporary)
        return False

    def _tidy(self) -> None:
        unfinished = [*self.scratch.glob("*"), *self.folder.glob(".*"), *self.folder.glob("shards/.*")]
        for stale in (*unfinished, self.scratch, *self.folder.glob("progress-*"), self.stop_file):
            remove_inside(stale, self.folder)
        if unfinished:
            plural = "s" * (len(unfinished) > 1)
            logger.warning("%s: removed %d unfinished output%s of a run that was killed", self.root, len(unfinished), plural)
        self.scratch.mkdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs off the target for as long as this process lives.

        Raises:
            TargetExistsError: The target holds something else.
            FileAccessError: Another run is at work there, or it cannot be written.
        """
        if self.folder.is_symlink():
            raise TargetExistsError(str(self.folder), "a folder of this command's own", "a symbolic link", "remove it")
        try:
            if self.root.exists() and self.known() is None and not self._is_new():
                got = "a file" if not self.root.is_dir() else "one that holds something else"
                raise TargetExistsError(str(self.root), "a new folder, or one that this command began", got, "choose another")
            self.folder.mkdir(parents=True, exist_ok=True)
        except EncMixerError:
            raise
        except OSError as error:
            raise file_error(self.root, "a folder to write", error) from error
        with (self.folder / "lock").open("w") as file:
            if lock(file.fileno()) is False:  # None: the system, or this file system, has no locks
                got = "another run at work in it"
                raise FileAccessError(str(self.root), "a folder for this run alone", got, "wait for it to end")
            yield

    def _is_new(self) -> bool:
        """Whether the target holds nothing, or no more than what a run makes before it notes its job."""
        if not self.root.is_dir() or any(entry.name != FOLDER for entry in os.scandir(self.root)):
            return False
        if not self.folder.is_dir():
            return not os.path.lexists(self.folder)
        own = all(entry.name in _BEFORE_THE_JOB or is_temporary(entry.name) for entry in os.scandir(self.folder))
        return own and not any(self.folder.glob("*/*"))

    def summary(self, job: Job, shards: Sequence[str]) -> Manifest:
        """Return the manifest: the job, its shards in the source's order, and their sums."""
        done = {done.name: done.entry for done in self._journal()}
        entries = [done[name] for name in shards]
        fields = {name: getattr(job, name) for name in Job.__struct_fields__}
        return Manifest(**fields, totals=sums_of(entries), shards=tuple(entries))

    def finish(self, manifest: Manifest, origin: str, side_files: Sequence[SourceFile]) -> None:
        """Write what all was made from, then the manifest, and clear the journal away.

        Args:
            manifest: What may be published.
            origin: Where the source is.
            side_files: Files of the source that are in no shard, with their digests.
        """
        new = self.scratch / "file"
        with new.open("wb") as file:
            file.write(msgspec.json.encode(Origin(origin)) + b"\n")
            for entry in manifest.shards:
                done = read_done(self._entry_file(entry.name))
                file.write(msgspec.json.encode(Listed(entry.name, done.source or ())) + b"\n")
            file.write(msgspec.json.encode(Listed(SIDE_FILES, tuple(side_files))) + b"\n")
        place_file(new, self.private, inside=self.folder)
        with replacing_file(self.root / MANIFEST, overwrite=True) as temporary:
            temporary.write_bytes(as_json(manifest))
        self._remove_journal()

    def _remove_journal(self) -> None:
        notes = (self.root / JOB, self.listing, self.folder / "lock", self.stop_file, *self.folder.glob("progress-*"))
        for path in (self.folder / "shards", self.scratch, *notes):
            remove_inside(path, self.folder)


def _copy(source: BinaryIO, target: Path) -> None:
    source.seek(0)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _named(known: Job, asked: Job, name: str) -> str:
    """Return a field's name, and of the options those that differ."""
    if name != "options":
        return name
    fields = known.options.__struct_fields__
    return f"options ({', '.join(f for f in fields if getattr(known.options, f) != getattr(asked.options, f))})"
