"""What has been done: one small file per finished shard while a run lasts, one manifest when it is over.

    DST/.encmixer/job.json       what is being made: record, source, options; written first
    DST/.encmixer/shards/*.json  one per finished shard, written after the shard itself has its name
    DST/.encmixer/tmp/           files that are being written
    DST/.encmixer/manifest.json  all of it, written last, when the rest goes away

`datasets` and timm do not look into hidden folders. Source of the idea: write-ahead journals; docs/datasets.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from timm_encmixer.errors import FileAccessError, SourceError, TargetExistsError
from timm_encmixer.files import file_error, place_file, replacing_file, sha256_of

FOLDER = ".encmixer"
MANIFEST = f"{FOLDER}/manifest.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Entry:
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
    """

    name: str
    bytes: int
    sha256: str
    samples: int
    images: int
    bad: Sequence[Mapping[str, str]] = field(default_factory=list)
    files: int = 1
    is_run: bool = False


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

    def begin(self, job: Mapping[str, Any]) -> bool:
        """Start or take up a job; clear away what a killed run was writing.

        Returns:
            Whether it is finished already.

        Raises:
            SourceError: The target holds another job, or this one on other data.
            FileAccessError: It cannot be written.
        """
        try:
            return self._begin(job)
        except OSError as error:
            if isinstance(error, FileAccessError):
                raise
            raise file_error(self.root, "a folder to write", error) from error

    def _begin(self, job: Mapping[str, Any]) -> bool:
        finished, known = (self.root / MANIFEST).is_file(), self.known()
        if known is not None:
            differing = [name for name, value in job.items() if known.get(name) != value]
            if differing and (finished or self.done()):
                got = f"different {' and different '.join(differing)}"
                raise SourceError(str(self.root), "the job that it was begun with", got, "choose another target, or delete it")
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        self._tidy()
        if finished:
            self._remove_journal()
        else:
            with replacing_file(self.folder / "job.json", overwrite=True) as temporary:
                temporary.write_text(_json(job), encoding="utf-8")
        return finished

    def _tidy(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        for stale in (*self.folder.glob("progress-*"), self.stop_file, *self.folder.glob(".*"), *self.folder.glob("shards/.*")):
            stale.unlink(missing_ok=True)
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
        """Return the finished shards; one whose file is gone or cut short (a power failure, say) is not finished."""
        entries = {}
        for path in sorted((self.folder / "shards").glob("*.json")):
            entry = Entry(**_read(path))
            file = self.root / entry.name
            if entry.is_run or (file.is_file() and file.stat().st_size == entry.bytes):
                entries[entry.name] = entry
        return entries

    def record(self, entry: Entry) -> None:
        """Note a finished shard, after its files have got their names."""
        with replacing_file(self._entry_file(entry.name), overwrite=True) as temporary:
            temporary.write_text(_json(asdict(entry)), encoding="utf-8")

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a path in the scratch folder that becomes the data set's file `name`; a kill leaves nothing outside of it.

        Raises:
            OSError: The operating system refused.
        """
        new = self.scratch / "file"
        try:
            yield new
            place_file(new, self.root / name)
        finally:
            new.unlink(missing_ok=True)

    def summary(self, job: Mapping[str, Any], shards: Sequence[str]) -> dict[str, Any]:
        """Return the manifest: the job, its shards in the source's order, and their sums."""
        done = self.done()
        entries = [asdict(done[name]) for name in shards]
        totals = {name: sum(entry[name] for entry in entries) for name in ("samples", "images", "bytes", "files")}
        totals["bad"] = sum(len(entry["bad"]) for entry in entries)
        return {**job, "totals": totals, "shards": entries}

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest and clear the journal away."""
        with replacing_file(self.folder / "manifest.json", overwrite=True) as temporary:
            temporary.write_text(_json(manifest), encoding="utf-8")
        self._remove_journal()

    def _remove_journal(self) -> None:
        for name in ("shards", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in (self.folder / "job.json", self.folder / "lock", self.stop_file, *self.folder.glob("progress-*")):
            path.unlink(missing_ok=True)

    def known(self) -> dict[str, Any] | None:
        """Return the job that was finished or begun here, None when there is none.

        Raises:
            SourceError: The manifest is of another version.
        """
        return read_manifest(self.root / MANIFEST, where=str(self.root)) if (self.root / MANIFEST).is_file() else self.job()

    def job(self) -> dict[str, Any] | None:
        """Return the job of a run that has begun here, None when there is none or it is over."""
        path = self.folder / "job.json"
        return _read(path) if path.is_file() else None

    def _entry_file(self, name: str) -> Path:
        return self.folder / "shards" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def read_manifest(path: Path, *, where: str) -> dict[str, Any]:
    """Read a finished data set's manifest.

    Raises:
        SourceError: There is none, or it is none that this version reads.
    """
    if not path.is_file():
        raise SourceError(where, f"a finished data set with {MANIFEST}", "none", "make it: encmixer dataset encrypt")
    manifest = _read(path)
    if manifest.get("version") != MANIFEST_VERSION:
        got = repr(manifest.get("version"))
        raise SourceError(f"{where}: {MANIFEST}: version", f"{MANIFEST_VERSION}", got, "upgrade timm-encmixer")
    return manifest


def digest_of_run(files: Sequence[tuple[str, Path]]) -> str:
    """Return the digest of a run of image files, from their names and contents."""
    lines = "".join(f"{name} {sha256_of(path)}\n" for name, path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(str(path), "JSON that this command wrote", "something else", "delete the data set") from error
    if not isinstance(value, dict):
        raise SourceError(str(path), "a JSON object", type(value).__name__, "delete the data set")
    return value


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=False, default=list) + os.linesep
