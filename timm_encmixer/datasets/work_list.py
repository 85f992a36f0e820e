"""The work list of a run: what is to be made, what is made already, and who makes the rest."""

from __future__ import annotations

import heapq
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.datasets.inspection import same_content
from timm_encmixer.datasets.layout import ARROW, PARQUET, Layout, Shard, read_layout
from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.listing import Listed, Listing, SourceFile, changes
from timm_encmixer.datasets.manifest import MANIFEST_VERSION, Entry, Job, Options
from timm_encmixer.datasets.preparation import prepare
from timm_encmixer.datasets.side_files import SideFiles
from timm_encmixer.datasets.sources import SourceTree, open_source, printable
from timm_encmixer.datasets.wholeness import refuse_changed, refuse_incomplete
from timm_encmixer.errors import EncMixerError, SourceError, missing_extra
from timm_encmixer.files import file_error
from timm_encmixer.hub.snapshot import Token
from timm_encmixer.images.codec import DECRYPT, ENCRYPT
from timm_encmixer.images.data_source import DataSource, find_data_source
from timm_encmixer.scheme import Scheme


@dataclass(frozen=True)
class WorkList:
    """What the main process tells the others; nothing secret."""

    commit: str | None
    layout: Layout
    job: Job
    configs: list[dict[str, Any]]  # of the target's README.md
    todo: list[list[Shard]]  # per process
    finished: bool
    done_bytes: int  # of the source


def make_work_list(
    stack: ExitStack,
    action: str,
    src: str,
    ledger: Ledger,
    scheme: Scheme,
    options: Options,
    token: Token,
    processes: int,
) -> WorkList:
    """Look at the source and at what is done, and deal the rest out."""
    found = find_data_source(src, token=token)
    _refuse_inside(found, ledger.root)
    known = ledger.known()
    source = open_source(found, commit=known.source_commit if known is not None else None, token=token)
    listing = Listing(stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # the stack closes it
    layout = read_layout(source, options.include, listing, suffix=options.format.suffix)
    if action == DECRYPT:
        refuse_incomplete(source, layout, options)
    if layout.kind in (PARQUET, ARROW) and importlib.util.find_spec("pyarrow") is None:
        raise missing_extra(src, "pyarrow for parquet and Arrow files", "data")
    fields: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "action": action,
        "kind": layout.kind,
        "source": name_of(found),
        "source_commit": source.commit,
        "source_digest": layout.digest,
        "options": options,
        RECORD_NAME if action == ENCRYPT else "decrypted": scheme.to_dict(),
    }
    job = Job(**fields)
    stack.enter_context(ledger.locked())
    finished = ledger.begin(job, listing.file)
    if finished:
        refuse_changed(ledger, source, layout, listing)
        return WorkList(source.commit, layout, job, [], [[]], finished, 0)
    try:
        configs = prepare(side_files_of(source, layout, job), listing.file, chosen=bool(options.include))
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
    return WorkList(source.commit, layout, job, configs, deal(rest, processes), finished, done_bytes)


def deal(shards: Sequence[Shard], processes: int) -> list[list[Shard]]:
    """Give each process about as many bytes: the largest shard left goes to the process that has least."""
    hands: list[list[Shard]] = [[] for _ in range(processes)]
    sizes = [(0, process) for process in range(processes)]
    for shard in sorted(shards, key=lambda shard: (-shard.size, shard.name)):
        size, process = heapq.heappop(sizes)
        hands[process].append(shard)
        heapq.heappush(sizes, (size + shard.size + 1, process))
    return hands


def side_files_of(source: SourceTree, layout: Layout, job: Job, bad: frozenset[str] = frozenset()) -> SideFiles:
    """Return what carries the side files of a job over; `bad` are image files that could not be used."""
    record = job.encmixer if job.encmixer is not UNSET else job.decrypted
    salt = f"{job.action} {json.dumps(record, separators=(',', ':'))}"
    return SideFiles(source, layout, salt, job.options.format.suffix, bad)


def name_of(source: DataSource) -> str:
    """Return a source's name as it may be published: a local folder's last part, not where its owner keeps it."""
    return printable(source.name if source.path is None else source.path.resolve().name)


def _refuse_inside(source: DataSource, dst: Path) -> None:
    if source.path is not None and dst.resolve().is_relative_to(source.path.resolve()):
        raise SourceError(str(dst), f"a target outside of {source.name}", "one inside", "choose another folder")
