"""Converting a whole data set: shard by shard, on as many processes as there are, stopped at any moment and taken up again."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from msgspec import UNSET
from msgspec.structs import replace

from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.datasets.card import write_card
from timm_encmixer.datasets.image_runs import convert_images
from timm_encmixer.datasets.layout import ARROW, IMAGES, PARQUET, WEBDATASET, Shard
from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.listing import SourceFile, line_at
from timm_encmixer.datasets.manifest import MANIFEST, Entry, Options, digest_of_run, read_manifest
from timm_encmixer.datasets.preparation import configs_of_result
from timm_encmixer.datasets.progress import Progress, bar_of_all
from timm_encmixer.datasets.samples import ON_ERROR, QUARANTINE, ShardWork, StoppedError
from timm_encmixer.datasets.side_files import bad_files
from timm_encmixer.datasets.sources import LocalFolder, SourceTree, open_source, printable, unchanged
from timm_encmixer.datasets.tables import convert_arrow, convert_parquet
from timm_encmixer.datasets.tars import convert_tar
from timm_encmixer.datasets.wholeness import refuse_empty_folders, refuse_empty_splits, refuse_moving, refuse_strangers
from timm_encmixer.datasets.work_list import WorkList, make_work_list, side_files_of
from timm_encmixer.distributed import on_every_process, share_key
from timm_encmixer.distributed.processes import check_launch, from_main, joined_state
from timm_encmixer.errors import DataError, EncMixerError, FileAccessError, warn_caller
from timm_encmixer.files import PathLike, as_path, file_error, sha256_of, sync_file
from timm_encmixer.hub.snapshot import Token
from timm_encmixer.images.codec import ImageCodec, make_codec
from timm_encmixer.images.file_format import PNG
from timm_encmixer.images.image_record import UNMARKED
from timm_encmixer.keys import KeyLike
from timm_encmixer.scheme import Scheme

_CONVERT: dict[str, Callable[[Path, Path, ShardWork, Sequence[str]], None]] = {
    PARQUET: convert_parquet,
    ARROW: convert_arrow,
    WEBDATASET: convert_tar,
}
_LONGEST_WAIT = timedelta(days=30)  # until the last shard of the slowest process; one that dies is noticed by the launcher
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two; ./s3:/x is a folder
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
class _Run:
    """What a process needs for its shards."""

    source: SourceTree
    ledger: Ledger
    codec: ImageCodec
    work_list: WorkList
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
            scratch.mkdir()
            (scratch / "new").mkdir()
            with self.ledger.listing.open("rb") as listing:
                files = line_at(listing, shard.line, where=str(self.ledger.listing))
            place = self._place_images if self.work_list.layout.kind == IMAGES else self._place_file
            place(shard, files, scratch, work)
        except Exception as error:
            if self.ledger.job() is None:
                remedy = "let nobody remove it, then run the command again"
                raise FileAccessError(str(self.ledger.root), "the target that this run began", "none by now", remedy) from error
            if isinstance(error, EncMixerError):
                raise
            raise _explained(error, shard, self.source, self.ledger.root) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if work.hidden:
            like = "as datasets and webdataset leave them out"
            warn_caller(f"{shard.name}: left out {len(work.hidden)} hidden members, {like}, such as {work.hidden[0]}")
        self.progress.add(shard.size - counted, 0)

    def _place_file(self, shard: Shard, files: Sequence[SourceFile], scratch: Path, work: ShardWork) -> None:
        new = scratch / "new" / "shard"
        with unchanged(self.source, files[0], scratch) as path:
            read = [replace(files[0], sha256=_digest(path, f"{self.source.where}/{shard.name}"))]
            _CONVERT[self.work_list.layout.kind](path, new, work, self.work_list.job.options.image_columns)
        sync_file(new)
        digest = sha256_of(new)
        self.ledger.place(self._entry(shard, new.stat().st_size, digest, work), read, [new], [digest])

    def _place_images(self, shard: Shard, files: Sequence[SourceFile], scratch: Path, work: ShardWork) -> None:
        names, read = convert_images(self.source, files, scratch / "new", scratch, work)
        new = [scratch / "new" / Path(name).name for name in names]
        size, digests = sum(path.stat().st_size for path in new), [sha256_of(path) for path in new]
        os.sync()  # once for the run: a sync for each of many small files would take longer than encrypting them
        digest = digest_of_run(zip(names, digests, strict=True))
        self.ledger.place(self._entry(shard, size, digest, work, len(new), is_run=True), read, new, digests)

    def _entry(self, shard: Shard, size: int, digest: str, work: ShardWork, files: int = 1, *, is_run: bool = False) -> Entry:
        plain = tuple(sorted(work.plain)) or UNSET
        entry = Entry(shard.name, size, digest, work.samples, work.images, tuple(work.bad), files, is_run, plain)
        return replace(entry, suffix=work.codec.format.suffix) if is_run and work.codec.format is not PNG else entry


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
    strict: bool = False,
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
        strict: Refuse ciphertexts that carry no record of their own.
    """
    state = joined_state()
    ledger = Ledger(_local_folder(dst))
    if on_error not in ON_ERROR:
        raise DataError("on_error", f"one of {', '.join(ON_ERROR)}", repr(on_error), "choose one of these")
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, (list, tuple)) else value for n, value in options.items()}
    for name in ("include", "image_columns"):
        for text in values[name]:
            if printable(text) != text:
                raise DataError(name, "text in UTF-8", printable(text), "rename the files or columns")
    asked = Options(**values)
    secret = share_key(state, key)
    chosen: dict[str, Any] = {"resize": asked.resize, "strict": strict, "unmarked": _warn_once()}
    chosen |= {"format": asked.format, "setting": asked.setting}
    codec = on_every_process(lambda: make_codec(action, ImageCipher(secret, scheme), **chosen))
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)  # one process, one core
        work_list = from_main(
            lambda: make_work_list(stack, action, os.fspath(src), ledger, scheme, asked, token, state.num_processes)
        )
        if not work_list.finished:
            source = on_every_process(lambda: open_source(os.fspath(src), commit=work_list.commit, token=token))
            mine = work_list.todo[state.process_index]
            run = _Run(
                source, ledger, codec, work_list, on_error, Progress(ledger.folder, state.process_index), state.process_index
            )
            total = sum(shard.size for shard in work_list.layout.shards)
            label = f"{action}ing"
            with bar_of_all(ledger.folder, total, work_list.done_bytes, label=label, show=progress and state.is_main_process):
                on_every_process(lambda: _work(run, mine))
            on_every_process(lambda: _finish(work_list, source, ledger) if state.is_main_process else None)
        manifest = from_main(lambda: read_manifest(ledger.root / MANIFEST, where=str(ledger.root)))
    written = sum(map(len, work_list.todo))
    totals, layout = manifest.totals, work_list.layout
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


def _work(run: _Run, shards: Sequence[Shard]) -> None:
    """Convert this process's shards; when one fails, tell the other processes to stop."""
    try:
        for shard in shards:
            run.convert(shard)
    except StoppedError:
        pass  # the process that failed raises its error on all
    except BaseException:
        with suppress(OSError):  # the target is gone, or the disk full: the error that is raised says so
            run.ledger.stop_file.touch()
        raise
    finally:
        run.progress.write()


def _finish(work_list: WorkList, source: SourceTree, ledger: Ledger) -> None:
    """Carry over what is no shard, write the card, and last of all the manifest."""
    try:
        manifest = ledger.summary(work_list.job, [shard.name for shard in work_list.layout.shards])
        refuse_empty_folders(manifest)
        side_files = side_files_of(source, work_list.layout, work_list.job, bad_files(manifest.shards))
        for name in side_files.names():
            with ledger.writing(name) as new:
                side_files.write(name, new, ledger.scratch)
        configs = configs_of_result(work_list.configs, ledger.root) if side_files.bad else work_list.configs
        write_card(source, ledger, manifest, configs)
        refuse_empty_splits(manifest, ledger.root)
        refuse_strangers(manifest, ledger.root)
        ledger.finish(manifest, _origin(source), refuse_moving(work_list.layout, work_list.job.options, source, ledger))
    except OSError as error:
        if isinstance(error, EncMixerError):
            raise
        raise file_error(ledger.root, "a folder to write", error) from error


def _origin(source: SourceTree) -> str:
    return printable(str(source.root.resolve())) if isinstance(source, LocalFolder) else source.where


def _local_folder(dst: PathLike) -> Path:
    """Return the target's path.

    Raises:
        FileAccessError: It is a URL, which a path would make a folder of that name.
    """
    path = as_path(dst, where="dst")
    if _URL.match(str(path)):
        remedy = "give a folder, then copy the result without .encmixer/private, or call push_dataset (--push)"
        raise FileAccessError(os.fspath(dst), "a folder on this machine", "a URL", remedy)
    return path


def _warn_once() -> Callable[[str], None]:
    """Return what to call with the name of a ciphertext without a record: it warns of the first one."""
    warned = False

    def warn(name: str) -> None:
        nonlocal warned
        if not warned:
            warned = True
            warn_caller(f"{name}: {UNMARKED}")

    return warn


def quarantine_of(dst: Path) -> Path:
    """Return the folder beside a data set for the plain cells that could not be used: never inside of what is published."""
    return dst.with_name(f"{dst.name}.quarantine")


def _digest(path: Path, where: str) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise file_error(where, "a file to read", error) from error


def _explained(error: Exception, shard: Shard, source: SourceTree, dst: Path) -> Exception:
    """Return the error to raise: that of a full disk or of a damaged shard in the package's words."""
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS:
        return file_error(dst / shard.name, "a file to write", error)
    damaged = isinstance(error, (OSError, ValueError, EOFError, tarfile.TarError, zlib.error))
    if damaged or type(error).__module__.startswith("pyarrow"):
        got = f"a damaged one ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
        remedy = "take another copy, or leave it out with include= (--include)"
        return DataError(f"{source.where}/{shard.name}", "a readable shard", got, remedy)
    return error
