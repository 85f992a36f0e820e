"""Converting a whole data set: shard by shard, on as many processes as there are, stopped at any moment and taken up again."""

from __future__ import annotations

import errno
import heapq
import importlib.util
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from msgspec import UNSET
from msgspec.structs import replace

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.datasets import loading
from timm_encmixer.datasets.card import write_card
from timm_encmixer.datasets.cells import DECRYPT, ENCRYPT, CellCodec, make_codec
from timm_encmixer.datasets.image_runs import convert_images
from timm_encmixer.datasets.inspection import manifest_in, same_content
from timm_encmixer.datasets.layout import ARROW, IMAGES, PARQUET, WEBDATASET, Layout, Shard, differences, folder_of, read_layout
from timm_encmixer.datasets.ledger import (
    MANIFEST,
    MANIFEST_VERSION,
    Entry,
    Job,
    Ledger,
    Manifest,
    Options,
    digest_of_run,
    read_manifest,
)
from timm_encmixer.datasets.listing import Listed, Listing, SourceFile, changes, line_at, same_times
from timm_encmixer.datasets.preparation import prepare
from timm_encmixer.datasets.progress import Progress, bar_of_all
from timm_encmixer.datasets.samples import ON_ERROR, QUARANTINE, ShardWork, StoppedError
from timm_encmixer.datasets.side_files import SideFiles, bad_files
from timm_encmixer.datasets.sources import RUN_AGAIN, DatasetSource, LocalFolder, open_source, printable, unchanged
from timm_encmixer.datasets.tables import convert_arrow, convert_parquet
from timm_encmixer.datasets.tars import convert_tar
from timm_encmixer.distributed import on_every_process, share_key
from timm_encmixer.distributed.processes import check_launch, from_main, joined_state
from timm_encmixer.errors import DataError, EncMixerError, IntegrityError, SourceError, missing_extra
from timm_encmixer.files import PathLike, file_error, place_file, sha256_of, sync_folder
from timm_encmixer.hub.snapshot import Token
from timm_encmixer.keys import KeyLike
from timm_encmixer.scheme import Scheme

_CONVERT: dict[str, Callable[[Path, Path, ShardWork, Sequence[str]], None]] = {
    PARQUET: convert_parquet,
    ARROW: convert_arrow,
    WEBDATASET: convert_tar,
}
_LONGEST_WAIT = timedelta(days=30)  # until the last shard of the slowest process; one that dies is noticed by the launcher
_NAMED = 5  # files in a message
_WRITE_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM))


@dataclass(frozen=True)
class DatasetCounts:
    """What a run did, and what the whole data set is now."""

    kind: str
    shards: int
    written: int  # shards
    kept: int  # shards that an earlier run had finished
    samples: int
    images: int
    bytes: int
    bad: int  # samples that were left out; the manifest lists them
    passed_over: tuple[str, ...]  # source files that are no part of the target
    left_out: Mapping[str, tuple[str, ...]]  # the same, by reason: suffix, include, hidden, linked, special
    plain: tuple[str, ...]  # columns or fields that hold images and were not converted


def join_processes() -> PartialState:
    """Join the run that accelerate launched, if it did, ready to wait for days for a process with more to do.

    Raises:
        ProcessError: Fewer processes run than were asked for.
    """
    state = PartialState(cpu=True, timeout=_LONGEST_WAIT)  # the work is the processors', whatever else there is
    check_launch(state)
    return state


@dataclass(frozen=True)
class _Plan:
    """What the main process tells the others; nothing secret."""

    commit: str | None
    layout: Layout
    job: Job
    configs: list[dict[str, Any]]  # of the target's README.md
    todo: list[list[Shard]]  # per process
    finished: bool
    done_bytes: int  # of the source


@dataclass(frozen=True)
class _Run:
    """What a process needs for its shards."""

    source: DatasetSource
    ledger: Ledger
    codec: CellCodec
    plan: _Plan
    on_error: str
    progress: Progress
    process: int

    def convert(self, shard: Shard) -> None:
        """Convert one shard: write it aside, sync it, give it its name, then note it as done."""
        scratch = self.ledger.scratch / str(self.process)
        shutil.rmtree(scratch, ignore_errors=True)
        counted = 0

        def advance(cell_bytes: int, images: int) -> None:
            nonlocal counted
            counted += cell_bytes
            self.progress.add(cell_bytes, images)
            if self.ledger.stop_file.exists():
                raise StoppedError("run", "all processes to go on", "one that failed", "see its message")

        quarantine = quarantine_of(self.ledger.root) if self.on_error == QUARANTINE else None
        work = ShardWork(shard.name, self.codec, self.on_error, quarantine, advance)
        try:
            (scratch / "new").mkdir(parents=True)
            with self.ledger.listing.open("rb") as listing:
                files = line_at(listing, shard.line, where=str(self.ledger.listing))
            place = self._place_images if self.plan.layout.kind == IMAGES else self._place_file
            self.ledger.record(*place(shard, files, scratch, work))
        except EncMixerError:
            raise
        except Exception as error:
            raise _explained(error, shard, self.source, self.ledger.root) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self.progress.add(shard.size - counted, 0)

    def _place_file(
        self, shard: Shard, files: Sequence[SourceFile], scratch: Path, work: ShardWork
    ) -> tuple[Entry, Sequence[SourceFile]]:
        new, target = scratch / "new" / "shard", self.ledger.root / shard.name
        with unchanged(self.source, files[0], scratch) as path:
            read = [replace(files[0], sha256=_digest(path, f"{self.source.where}/{shard.name}"))]
            _CONVERT[self.plan.layout.kind](path, new, work, self.plan.job.options.image_columns)
        entry = self._entry(shard, new.stat().st_size, sha256_of(new), work)
        place_file(new, target)
        return entry, read

    def _place_images(
        self, shard: Shard, files: Sequence[SourceFile], scratch: Path, work: ShardWork
    ) -> tuple[Entry, Sequence[SourceFile]]:
        names, read = convert_images(self.source, files, scratch / "new", scratch, work)
        new = [(name, scratch / "new" / Path(name).name) for name in names]
        size, digest = sum(path.stat().st_size for _, path in new), digest_of_run(new)
        os.sync()  # once for the run: a sync for each of many small files would take longer than encrypting them
        target = self.ledger.root / shard.folder
        target.mkdir(parents=True, exist_ok=True)
        for _, path in new:
            path.replace(target / path.name)
        sync_folder(target)
        return self._entry(shard, size, digest, work, len(new), is_run=True), read

    def _entry(self, shard: Shard, size: int, digest: str, work: ShardWork, files: int = 1, *, is_run: bool = False) -> Entry:
        plain = tuple(sorted(work.plain)) or UNSET
        return Entry(shard.name, size, digest, work.samples, work.images, tuple(work.bad), files, is_run, plain)


def convert_dataset(
    action: str,
    src: PathLike,
    dst: PathLike,
    key: KeyLike | None,
    scheme: Scheme,
    *,
    options: dict[str, Any],
    on_error: str,
    token: Token,
    progress: bool,
) -> DatasetCounts:
    """Encrypt or decrypt a data set on all processes; `encrypt_dataset` describes the arguments and errors.

    Args:
        action: ENCRYPT or DECRYPT.
        src: The source.
        dst: New folder, or one that this call began.
        key: The key or its file, which the main process reads.
        scheme: The record.
        options: Those that the ledger notes, and that must be the same when a run is taken up again.
        on_error: One of `ON_ERROR`.
        token: Of the Hub.
        progress: Show a bar on a terminal.
    """
    state = joined_state()
    if on_error not in ON_ERROR:
        raise DataError("on_error", f"one of {', '.join(ON_ERROR)}", repr(on_error), "choose one of these")
    chosen: dict[str, Any] = {n: tuple(value) if isinstance(value, (list, tuple)) else value for n, value in options.items()}
    for name in ("include", "image_columns"):
        for text in chosen[name]:
            if printable(text) != text:
                raise DataError(name, "text in UTF-8", printable(text), "rename the files or columns")
    asked = Options(**chosen)
    secret = share_key(state, key)
    levels: dict[str, Any] = {"resize": asked.resize, "level": asked.png_level}
    codec = on_every_process(lambda: make_codec(action, secret, scheme, **levels))
    ledger = Ledger(Path(dst))
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)  # one process, one core
        plan = from_main(lambda: _plan(stack, action, os.fspath(src), ledger, scheme, asked, token, state.num_processes))
        if not plan.finished:
            source = on_every_process(lambda: open_source(os.fspath(src), commit=plan.commit, token=token))
            mine = plan.todo[state.process_index]
            run = _Run(source, ledger, codec, plan, on_error, Progress(ledger.folder, state.process_index), state.process_index)
            total = sum(shard.size for shard in plan.layout.shards)
            label = f"{action}ing"
            with bar_of_all(ledger.folder, total, plan.done_bytes, label=label, show=progress and state.is_main_process):
                on_every_process(lambda: _work(run, mine))
            on_every_process(lambda: _finish(plan, source, ledger) if state.is_main_process else None)
        manifest = from_main(lambda: read_manifest(ledger.root / MANIFEST, where=str(ledger.root)))
    written = sum(map(len, plan.todo))
    totals, layout = manifest.totals, plan.layout
    return DatasetCounts(
        layout.kind,
        len(layout.shards),
        written,
        len(layout.shards) - written,
        totals.samples,
        totals.images,
        totals.bytes,
        totals.bad,
        passed_over=layout.passed_over,
        left_out=layout.left_out,
        plain=tuple(sorted({name for entry in manifest.shards if entry.plain is not UNSET for name in entry.plain})),
    )


def _plan(
    stack: ExitStack,
    action: str,
    src: str,
    ledger: Ledger,
    scheme: Scheme,
    options: Options,
    token: Token,
    processes: int,
) -> _Plan:
    """Look at the source and at what is done, and deal the rest out."""
    _refuse_inside(src, ledger.root)
    known = ledger.known()
    source = open_source(src, commit=known.source_commit if known is not None else None, token=token)
    listing = Listing(stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # the stack closes it
    layout = read_layout(source, options.include, listing)
    if action == DECRYPT:
        _refuse_incomplete(source, layout, options)
    if layout.kind in (PARQUET, ARROW) and importlib.util.find_spec("pyarrow") is None:
        raise missing_extra(src, "pyarrow for parquet and Arrow files", "data")
    fields: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "action": action,
        "kind": layout.kind,
        "source": name_of(src),
        "source_commit": source.commit,
        "source_digest": layout.digest,
        "options": options,
        RECORD_NAME if action == ENCRYPT else "decrypted": scheme.to_dict(),
    }
    job = Job(**fields)
    stack.enter_context(ledger.locked())
    finished = ledger.begin(job, listing.file)
    if finished:
        _refuse_changed(ledger, source, layout, listing)
        return _Plan(source.commit, layout, job, [], [[]], finished, 0)
    try:
        configs = prepare(_side_files(source, layout, job), listing.file)
    except OSError as error:
        if isinstance(error, EncMixerError):
            raise
        raise file_error(tempfile.gettempdir(), "a folder to write", error) from error
    shards = {shard.name: shard for shard in layout.shards}
    same_digest = known is not None and known.source_digest == job.source_digest

    def still(entry: Entry, made_from: Sequence[SourceFile] | None) -> bool:
        if entry.name not in shards or made_from is None:
            return entry.name in shards and same_digest
        line = {entry.name: shards[entry.name].line}
        return not changes([Listed(entry.name, tuple(made_from))], line, listing.file, same_content(source))

    done = ledger.keep(still)
    rest = [shard for shard in layout.shards if shard.name not in done]
    done_bytes = sum(shard.size for shard in layout.shards if shard.name in done)
    return _Plan(source.commit, layout, job, configs, deal(rest, processes), finished, done_bytes)


def _refuse_incomplete(source: DatasetSource, layout: Layout, options: Options) -> None:
    """Raise when an encrypted data set is not all that its manifest says."""
    manifest = manifest_in(source)
    if manifest is None:
        return
    missing, more = differences(manifest, layout, options.include)
    if missing or more:
        names = _missing_names(source, manifest, layout) or missing
        got = f"none of {_few(names)}" if missing else f"{_few(more)} beyond it"
        remedy = "take the whole data set, or say with --include what you have"
        raise IntegrityError(source.where, f"what {MANIFEST} lists", got, remedy)


def _missing_names(source: DatasetSource, manifest: Manifest, layout: Layout) -> list[str]:
    """Return the names of images that are not there, where the private list of the data set is at hand."""
    if not isinstance(source, LocalFolder) or layout.kind != IMAGES:
        return []
    return [name for name in Ledger(source.root).written(manifest) if not source.has(name)]


def _refuse_changed(ledger: Ledger, source: DatasetSource, layout: Layout, listing: Listing) -> None:
    """Raise when a finished data set, or the source that it was made from, is not what it was."""
    manifest = read_manifest(ledger.root / MANIFEST, where=str(ledger.root))
    if ledger.private.is_file():
        changed = changes(ledger.made_from(), layout.lines, listing.file, same_content(source))
        if changed:
            got = f"one in which {_few(changed)}"
            remedy = "choose another target, or delete it"
            raise SourceError(source.where, f"the source that {ledger.root} was made from", got, remedy)
    target = LocalFolder(ledger.root)
    found = read_layout(target)
    missing, _ = differences(manifest, found)
    names = missing and (_missing_names(target, manifest, found) or missing)
    if not missing and sum(shard.size for shard in found.shards) != manifest.totals.bytes:
        sizes = {shard.name: shard.size for shard in found.shards}
        names = [e.name for e in manifest.shards if not e.is_run and sizes[e.name] != e.bytes] or ["images of other sizes"]
    if names:
        remedy = f"see encmixer dataset info --verify; delete {ledger.root} and run the command again"
        raise IntegrityError(str(ledger.root), "the data set that was finished there", f"not {_few(names)}", remedy)


def _side_files(source: DatasetSource, layout: Layout, job: Job, bad: frozenset[str] = frozenset()) -> SideFiles:
    record = job.encmixer if job.encmixer is not UNSET else job.decrypted
    return SideFiles(source, layout, f"{job.action} {json.dumps(record, separators=(',', ':'))}", bad)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def deal(shards: Sequence[Shard], processes: int) -> list[list[Shard]]:
    """Give each process about as many bytes: the largest shard left goes to the process that has least."""
    hands: list[list[Shard]] = [[] for _ in range(processes)]
    sizes = [(0, process) for process in range(processes)]
    for shard in sorted(shards, key=lambda shard: (-shard.size, shard.name)):
        size, process = heapq.heappop(sizes)
        hands[process].append(shard)
        heapq.heappush(sizes, (size + shard.size + 1, process))
    return hands


def _work(run: _Run, shards: Sequence[Shard]) -> None:
    """Convert this process's shards; when one fails, tell the other processes to stop."""
    try:
        for shard in shards:
            run.convert(shard)
    except StoppedError:
        pass  # the process that failed raises its error on all
    except BaseException:
        run.ledger.stop_file.touch()
        raise
    finally:
        run.progress.write()


def _finish(plan: _Plan, source: DatasetSource, ledger: Ledger) -> None:
    """Carry over what is no shard, write the card, and last of all the manifest."""
    try:
        manifest = ledger.summary(plan.job, [shard.name for shard in plan.layout.shards])
        _refuse_empty_folders(manifest)
        side_files = _side_files(source, plan.layout, plan.job, bad_files(manifest.shards))
        for name in side_files.names():
            with ledger.writing(name) as new:
                side_files.write(name, new, ledger.scratch)
        write_card(source, ledger, manifest, plan.configs)
        _refuse_empty_splits(manifest, ledger.root)
        _refuse_strangers(manifest, ledger.root)
        ledger.finish(manifest, _origin(source), _refuse_moving(plan, source, ledger))
    except OSError as error:
        if isinstance(error, EncMixerError):
            raise
        raise file_error(ledger.root, "a folder to write", error) from error


def _refuse_moving(plan: _Plan, source: DatasetSource, ledger: Ledger) -> list[SourceFile]:
    """Raise when the source is not what the run began with; return the files that are in no shard, with their digests."""
    with tempfile.TemporaryFile() as file, ledger.listing.open("rb") as before:
        listing = Listing(file)
        now = read_layout(source, plan.job.options.include, listing)
        listed = (Listed(name, line_at(before, line, where=str(ledger.listing))) for name, line in plan.layout.lines.items())
        changed = changes(listed, now.lines, file, same_times)
        if changed:
            got = f"one in which {_few(changed)} meanwhile"
            raise SourceError(source.where, "the source that this run began with", got, RUN_AGAIN)
        side_files = []
        for beside in line_at(file, now.side_line, where="listing"):
            with unchanged(source, beside, ledger.scratch) as path:
                side_files.append(replace(beside, sha256=sha256_of(path)))
        return side_files


def _refuse_empty_folders(manifest: Manifest) -> None:
    """Raise when a folder has lost all its images: labels are numbered by folders, so those of others would change."""
    if manifest.kind != IMAGES:
        return
    there = {folder_of(entry.name) for entry in manifest.shards if entry.files}
    empty = sorted({folder_of(entry.name) for entry in manifest.shards} - there)
    if empty:
        remedy = "correct its images, or leave it out with --include, in a new target: other classes may get other numbers"
        raise DataError(_few(empty), "an image that can be used in each folder", "none", remedy)


def _refuse_strangers(manifest: Manifest, root: Path) -> None:
    """Raise when the target holds shards or images that this run did not write: readers would take them for its own."""
    missing, more = differences(manifest, read_layout(LocalFolder(root)))
    if missing or more:
        got = f"none of {_few(missing)}" if missing else f"{_few(more)} beyond it"
        remedy = "move what is not its own away, then run the command again"
        raise IntegrityError(str(root), "what this run has written", got, remedy)


def _refuse_empty_splits(manifest: Manifest, root: Path) -> None:
    """Raise when a split has lost all its rows: the library `datasets` does not read one without any."""
    rows = {entry.name: entry.samples for entry in manifest.shards}
    if manifest.kind not in (PARQUET, WEBDATASET) or all(rows.values()) or not loading.is_installed():
        return
    empty = loading.empty_splits(root, rows)
    if empty:
        remedy = "correct the images, or leave the shards out with --include, in a new target"
        raise DataError(_few(empty), "a sample that can be used in each split", "none", remedy)


def _origin(source: DatasetSource) -> str:
    return printable(str(source.root.resolve())) if isinstance(source, LocalFolder) else source.where


def quarantine_of(dst: Path) -> Path:
    """Return the folder beside a data set for the plain cells that could not be used: never inside of what is published."""
    return dst.with_name(f"{dst.name}.quarantine")


def name_of(src: str) -> str:
    """Return a source's name as it may be published: a local folder's last part, not where its owner keeps it."""
    return printable(src if "://" in src or not Path(src).exists() else Path(src).resolve().name)


def _refuse_inside(src: str, dst: Path) -> None:
    if Path(src).is_dir() and dst.resolve().is_relative_to(Path(src).resolve()):
        raise SourceError(str(dst), f"a target outside of {src}", "one inside", "choose another folder")


def _digest(path: Path, where: str) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise file_error(where, "a file to read", error) from error


def _explained(error: Exception, shard: Shard, source: DatasetSource, dst: Path) -> Exception:
    """Return the error to raise: that of a full disk or of a damaged shard in the package's words."""
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
        return file_error(dst / shard.name, "a file to write", error)
    damaged = isinstance(error, (OSError, ValueError, EOFError, tarfile.TarError, zlib.error))
    if damaged or type(error).__module__.startswith("pyarrow"):
        got = f"a damaged one ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
        remedy = "take another copy, or leave it out with --include"
        return DataError(f"{source.where}/{shard.name}", "a readable shard", got, remedy)
    return error
