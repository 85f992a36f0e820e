"""The journal of a run: one small file per shard, written before the shard gets its name, and renamed after it has it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from timm_encmixer.datasets.books import Books, files_of
from timm_encmixer.datasets.listing import SourceFile
from timm_encmixer.datasets.manifest import Entry, as_json, read_book
from timm_encmixer.errors import TargetExistsError
from timm_encmixer.files import place_file, refuse_elsewhere, remove_inside, replacing_file, sha256_of, sync_file, sync_folder
from timm_encmixer.renames import rename_new
from timm_encmixer.schema import Sha256

_NOTED = ".json.new"  # of what is about to get its name


class Done(Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
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
        return list(zip(files_of(self, self.source), self.digests if self.is_run else [self.sha256], strict=False))

    @property
    def entry(self) -> Entry:
        """What may be published of it."""
        return Entry(**{name: getattr(self, name) for name in Entry.__struct_fields__})


@dataclass(frozen=True)
class Journal(Books):
    """The journal of one target folder."""

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
            done = read_done(path)
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
        for name, digest in read_done(path).named:
            if _holds(self.root / name, digest):
                remove_inside(self.root / name, self.root)
        remove_inside(path, self.folder)

    def _entries(self) -> list[Path]:
        return sorted((self.folder / "shards").glob("*.json"))

    def _journal(self) -> Iterator[Done]:
        yield from map(read_done, self._entries())

    def _is_whole(self, done: Done) -> bool:
        try:
            sizes = [(self.root / name).stat().st_size for name in files_of(done, done.source)]
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
        done = Done(**fields, source=tuple(source), digests=tuple(digests) if entry.is_run else ())
        note = self._entry_file(entry.name).with_suffix(_NOTED)
        with replacing_file(note, overwrite=True) as temporary:
            temporary.write_bytes(as_json(done))
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

    def _entry_file(self, name: str) -> Path:
        return self.folder / "shards" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _holds(path: Path, digest: str) -> bool:
    """Whether a path is a file, no link, of this content."""
    return path.is_file() and not path.is_symlink() and sha256_of(path) == digest


def read_done(path: Path) -> Done:
    """Read an entry of the journal, or the note before it."""
    return read_book(Done, path)
