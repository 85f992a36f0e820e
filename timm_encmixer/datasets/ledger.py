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
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
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
    suffix_of,
    sums_of,
    target_name,
)
from timm_encmixer.errors import EncMixerError, FileAccessError, SourceError, TargetExistsError
from timm_encmixer.files import (
    file_error,
    place_file,
    refuse_elsewhere,
    remove_inside,
    replacing_file,
    sha256_of,
    sync_file,
    sync_folder,
)
from timm_encmixer.renames import rename_new
from timm_encmixer.schema import Sha256, read_as
from timm_encmixer.temporaries import is_temporary, lock

logger = logging.getLogger(__name__)
_NOTED = ".json.new"  # of what is about to get its name
_BEFORE_THE_JOB = frozenset(("lock", "listing.jsonl", "shards", "tmp"))


class _Done(Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the journal holds of a finished shard.

    Args:
        source: What it was made from; older versions did not note that.
        digests: SHA-256 of each file of a run of images; older versions did not note that either.
    """

    source: tuple[SourceFile, ...] | None = None
    digests: tuple[Sha256, ...] = ()

    @property
    def named(self) -> list[tuple[str, str]]:
        """Names and digests of its files; none where they were not noted."""
        return list(zip(_written(self, self.source), self.digests if self.is_run else [self.sha256], strict=False))

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
                got = f"different {' and different '.join(_named(known, job, name) for name in differing)}"
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

    def done(self) -> dict[str, Entry]:
        """Return the finished shards; one whose files are gone or cut short (a power failure, say) is not finished."""
        return {done.name: done.entry for done in self._journal() if self._is_whole(done)}

    def keep(self, still: Callable[[Entry, Sequence[SourceFile] | None], bool]) -> dict[str, Entry]:
        """Return the finished shards that are to be kept, and forget the others and what was written for them.

        Args:
            still: Whether a shard's source is what it was made from; None stands for journals that do not say.
        """
        kept = {}
        for path in sorted((self.folder / "shards").glob(f"*{_NOTED}")):
            self._forget(path)
        for path in self._entries():
            done = _read_done(path)
            if self._is_whole(done) and still(done.entry, done.source):
                kept[done.name] = done.entry
            else:
                self._forget(path)
        return kept

    def _forget(self, path: Path) -> None:
        """Remove what was written for a shard, and its entry or the note before it; files of other content are not ours.

        Raises:
            FileAccessError: It lies behind a link, or cannot be removed.
        """
        for name, digest in _read_done(path).named:
            if _holds(self.root / name, digest):
                remove_inside(self.root / name, self.root)
        remove_inside(path, self.folder)

    def _entries(self) -> list[Path]:
        return sorted((self.folder / "shards").glob("*.json"))

    def _journal(self) -> Iterator[_Done]:
        yield from map(_read_done, self._entries())

    def _is_whole(self, done: _Done) -> bool:
        try:
            sizes = [(self.root / name).stat().st_size for name in _written(done, done.source)]
        except OSError:
            return False
        return sum(sizes) == done.bytes or (done.is_run and done.source is None)

    def place(self, entry: Entry, source: Sequence[SourceFile], files: Sequence[Path], digests: Sequence[str]) -> None:
        """Give a shard's files their names, and note it as finished.

        Args:
            entry: The shard.
            source: What it was made from.
            files: What was written aside, and synced, in the order of the names that they get.
            digests: SHA-256 of each.

        Raises:
            TargetExistsError: A name is taken by other content, which this job did not write.
            FileAccessError: It would lie behind a link.
            OSError: The operating system refused.
        """
        place_file(self._give_names(entry, source, files, digests), self._entry_file(entry.name), inside=self.folder)

    def _give_names(self, entry: Entry, source: Sequence[SourceFile], files: Sequence[Path], digests: Sequence[str]) -> Path:
        """Give files their names; returns the note, written before, by which the next run knows them."""
        fields = {name: getattr(entry, name) for name in Entry.__struct_fields__}
        done = _Done(**fields, source=tuple(source), digests=tuple(digests) if entry.is_run else ())
        note = self._entry_file(entry.name).with_suffix(_NOTED)
        with replacing_file(note, overwrite=True) as temporary:
            temporary.write_bytes(_json(done))
        for new, (name, digest) in zip(files, done.named, strict=True):
            target = self.root / name
            try:
                refuse_elsewhere(target, self.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                rename_new(new, target)
            except (FileExistsError, NotADirectoryError) as error:
                if not _holds(target, digest):
                    expected, got = "a name that is free", "something that this run did not write"
                    remedy = "move it away, then run the command again"
                    raise TargetExistsError(str(target), expected, got, remedy) from error
        for folder in {(self.root / name).parent for name, _ in done.named}:
            sync_folder(folder)
        return note

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a path in the scratch folder that becomes the data set's file `name`; the journal notes it as this job's own.

        Raises:
            TargetExistsError: The name is taken by other content, which this job did not write.
            OSError: The operating system refused.
        """
        new = self.scratch / "file"
        try:
            yield new
            sync_file(new)
            digest = sha256_of(new)
            self._give_names(Entry(name, new.stat().st_size, digest, 0, 0), (), [new], [digest])
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
        new = self.scratch / "file"
        with new.open("wb") as file:
            file.write(msgspec.json.encode(Origin(origin)) + b"\n")
            for entry in manifest.shards:
                done = _read_done(self._entry_file(entry.name))
                file.write(msgspec.json.encode(Listed(entry.name, done.source or ())) + b"\n")
            file.write(msgspec.json.encode(Listed(SIDE_FILES, tuple(side_files))) + b"\n")
        place_file(new, self.private, inside=self.folder)
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

    def made_from(self, manifest: Manifest) -> Iterator[Listed]:
        """Yield what each shard of a finished data set was made from, in the manifest's order; last the side files.

        Raises:
            SourceError: The private list is not that of the manifest.
        """
        with self.private.open("rb") as file:
            file.readline()
            entries = {entry.name: entry for entry in manifest.shards}
            for name, listed in zip_longest((*entries, SIDE_FILES), read_listing(file, where=str(self.private))):
                if listed is None or listed.shard != name or not _fits(listed.files, entries.get(name)):
                    got, remedy = "another list", "delete it, then the source is not compared; or make the data set again"
                    raise SourceError(str(self.private), f"what the shards of {MANIFEST} were made from", got, remedy)
                yield listed

    def written(self, manifest: Manifest) -> list[str]:
        """Return the names of all files of a finished data set's shards; of runs of images only where its private list is."""
        if not self.private.is_file():
            return [name for entry in manifest.shards for name in _written(entry, None)]
        entries = {entry.name: entry for entry in manifest.shards}
        listed = (one for one in self.made_from(manifest) if one.shard in entries)
        return [name for one in listed for name in _written(entries[one.shard], one.files)]

    def _entry_file(self, name: str) -> Path:
        return self.folder / "shards" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _written(entry: Entry, source: Sequence[SourceFile] | None) -> list[str]:
    """Return the names of a finished shard's files; none for a run of which nobody noted what it was made from."""
    if not entry.is_run:
        return [entry.name]
    bad = {bad.sample for bad in entry.bad}
    return [target_name(file.name, suffix_of(entry)) for file in source or () if file.name not in bad]


def _fits(source: Sequence[SourceFile], entry: Entry | None) -> bool:
    """Whether a shard's files can be made from these; an older version noted none."""
    return entry is None or not entry.is_run or not source or len(_written(entry, source)) == entry.files


def _holds(path: Path, digest: str) -> bool:
    """Whether a path is a file, no link, of this content."""
    return path.is_file() and not path.is_symlink() and sha256_of(path) == digest


def _read_done(path: Path) -> _Done:
    return read_book(_Done, path)


def _copy(source: BinaryIO, target: Path) -> None:
    source.seek(0)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _json(value: Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + os.linesep.encode()


def _named(known: Job, asked: Job, name: str) -> str:
    """Return a field's name, and of the options those that differ."""
    if name != "options":
        return name
    fields = known.options.__struct_fields__
    return f"options ({', '.join(f for f in fields if getattr(known.options, f) != getattr(asked.options, f))})"
