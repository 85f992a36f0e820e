"""What has been done: one small file per finished shard while a run lasts, one manifest when it is over.

    DST/.encmixer/job.json              what is being made: record, source, options; written first
    DST/.encmixer/listing.jsonl         the source's files, one line per shard: what this run encrypts
    DST/.encmixer/shards/*.json         one per finished shard, written after the shard itself has its name
    DST/.encmixer/tmp/                  files that are being written
    DST/.encmixer/manifest.json         all of it that may be published, written last, when the rest goes away
    DST/.encmixer/private/source.jsonl  what the shards were made from: digests of plain files, which are never pushed

`datasets` and timm do not look into hidden folders. Source of the idea: write-ahead journals; docs/datasets.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from timm_encmixer.datasets.listing import FOLDER, SIDE_FILES, Listed, SourceFile, read_listing
from timm_encmixer.datasets.manifest import (
    JOB,
    MANIFEST,
    PRIVATE,
    REMEDY,
    Entry,
    Job,
    Manifest,
    Text,
    read_book,
    read_manifest,
    sums_of,
    target_name,
)
from timm_encmixer.errors import FileAccessError, SourceError, TargetExistsError
from timm_encmixer.files import file_error, place_file, remove_inside, replacing_file
from timm_encmixer.schema import read_as


class _Done(Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the journal holds of a finished shard: also what it was made from, which older versions did not note."""

    source: tuple[SourceFile, ...] | None = None

    @property
    def entry(self) -> Entry:
        """What may be published of it."""
        return Entry(**{name: getattr(self, name) for name in Entry.__struct_fields__})


class Origin(Struct, frozen=True, forbid_unknown_fields=True):
    """First line of the private list: where the source was when the data set was finished."""

    source: Text


@dataclass(frozen=True)
class Ledger:
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
                got = f"different {' and different '.join(differing)}"
                raise SourceError(str(self.root), "the job that it was begun with", got, "choose another target, or delete it")
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        self._tidy()
        if finished:
            self._remove_journal()
            return True
        for path, write in (
            (self.listing, lambda new: _copy(listing, new)),
            (self.root / JOB, lambda new: new.write_bytes(_json(job))),
        ):
            with replacing_file(path, overwrite=True) as temporary:
                write(temporary)
        return False

    def _tidy(self) -> None:
        hidden = (*self.folder.glob(".*"), *self.folder.glob("shards/.*"))
        for stale in (self.scratch, *self.folder.glob("progress-*"), self.stop_file, *hidden):
            remove_inside(stale, self.folder)
        self.scratch.mkdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs off the target for as long as this process lives.

        Raises:
            TargetExistsError: The target holds something else.
            FileAccessError: Another run is at work there, or it cannot be written.
        """
        if self.root.exists() and not self.folder.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            got = "a file" if not self.root.is_dir() else "one that holds something else"
            raise TargetExistsError(str(self.root), "a new folder, or one that this command began", got, "choose another")
        if self.folder.is_symlink():
            raise TargetExistsError(str(self.folder), "a folder of this command's own", "a symbolic link", "remove it")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(self.root, "a folder to write", error) from error
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                got = "another run at work in it"
                raise FileAccessError(str(self.root), "a folder for this run alone", got, "wait for it to end") from error
            yield

    def done(self) -> dict[str, Entry]:
        """Return the finished shards; one whose files are gone or cut short (a power failure, say) is not finished."""
        return {done.name: done.entry for done in self._journal() if self._is_whole(done)}

    def keep(self, still: Callable[[Entry, Sequence[SourceFile] | None], bool]) -> dict[str, Entry]:
        """Return the finished shards that are to be kept, and forget the others and what was written for them.

        Args:
            still: Whether a shard's source is what it was made from; None stands for journals that do not say.
        """
        kept = {}
        for done in self._journal():
            if self._is_whole(done) and still(done.entry, done.source):
                kept[done.name] = done.entry
                continue
            self._forget(done)
        return kept

    def _forget(self, done: _Done) -> None:
        """Remove what was written for a shard, and its entry.

        Raises:
            FileAccessError: It lies behind a link, or cannot be removed.
        """
        for name in _written(done, done.source):
            if (self.root / name).parent.is_dir():
                remove_inside(self.root / name, self.root)
        remove_inside(self._entry_file(done.name), self.folder)

    def _journal(self) -> Iterator[_Done]:
        for path in sorted((self.folder / "shards").glob("*.json")):
            yield _read_done(path)

    def _is_whole(self, done: _Done) -> bool:
        try:
            sizes = [(self.root / name).stat().st_size for name in _written(done, done.source)]
        except OSError:
            return False
        return sum(sizes) == done.bytes or (done.is_run and done.source is None)

    def record(self, entry: Entry, source: Sequence[SourceFile]) -> None:
        """Note a finished shard and what it was made from, after its files have got their names."""
        with replacing_file(self._entry_file(entry.name), overwrite=True) as temporary:
            temporary.write_bytes(
                _json(_Done(**{name: getattr(entry, name) for name in Entry.__struct_fields__}, source=tuple(source)))
            )

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a path in the scratch folder that becomes the data set's file `name`; a kill leaves nothing outside of it.

        Raises:
            OSError: The operating system refused.
        """
        new = self.scratch / "file"
        try:
            yield new
            place_file(new, self.root / name, inside=self.root)
        finally:
            new.unlink(missing_ok=True)

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
        with self.writing(f"{PRIVATE}/source.jsonl") as new, new.open("wb") as file:
            file.write(msgspec.json.encode(Origin(origin)) + b"\n")
            for entry in manifest.shards:
                done = _read_done(self._entry_file(entry.name))
                file.write(msgspec.json.encode(Listed(entry.name, done.source or ())) + b"\n")
            file.write(msgspec.json.encode(Listed(SIDE_FILES, tuple(side_files))) + b"\n")
        with replacing_file(self.root / MANIFEST, overwrite=True) as temporary:
            temporary.write_bytes(_json(manifest))
        self._remove_journal()

    def _remove_journal(self) -> None:
        notes = (self.root / JOB, self.listing, self.folder / "lock", self.stop_file, *self.folder.glob("progress-*"))
        for path in (self.folder / "shards", self.scratch, *notes):
            remove_inside(path, self.folder)

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

    def origin(self) -> str | None:
        """Return where the source of a finished data set was, None when nobody noted it."""
        if not self.private.is_file():
            return None
        with self.private.open("rb") as file:
            line = file.readline()
        return read_as(Origin, line, where=str(self.private), error=SourceError, remedy=REMEDY).source

    def made_from(self) -> Iterator[Listed]:
        """Yield what each shard of a finished data set was made from, in the manifest's order."""
        with self.private.open("rb") as file:
            file.readline()
            yield from read_listing(file, where=str(self.private))

    def written(self, manifest: Manifest) -> list[str]:
        """Return the names of all files of a finished data set's shards; of runs of images only where its private list is."""
        if not self.private.is_file():
            return [name for entry in manifest.shards for name in _written(entry, None)]
        entries = {entry.name: entry for entry in manifest.shards}
        listed = (one for one in self.made_from() if one.shard in entries)
        return [name for one in listed for name in _written(entries[one.shard], one.files)]

    def _entry_file(self, name: str) -> Path:
        return self.folder / "shards" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _written(entry: Entry, source: Sequence[SourceFile] | None) -> list[str]:
    """Return the names of a finished shard's files; none for a run of which nobody noted what it was made from."""
    if not entry.is_run:
        return [entry.name]
    bad = {bad.sample for bad in entry.bad}
    return [target_name(file.name) for file in source or () if file.name not in bad]


def _read_done(path: Path) -> _Done:
    return read_book(_Done, path)


def _copy(source: BinaryIO, target: Path) -> None:
    source.seek(0)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _json(value: Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + os.linesep.encode()
