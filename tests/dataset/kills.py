"""Kill the encryption of a data set at random moments or at every step, finish it, and compare with an undisturbed run.

Real processes and real SIGKILLs; the children are forked from a process that has torch loaded, so that a kill takes a fraction
of a second and many moments can be tried. With two processes they are two ranks of one gloo group, as `accelerate launch`
makes them, and die together, as its agent sees to.

A random moment is a random while after a random number of finished shards, whatever the machine's speed; one that comes after
the end of the run does not count. A step is a change to the target's files; the process dies before it.

Run: python tests/dataset/kills.py --processes 2 --kills 30 --model ENCRYPTED --key FILE --src PARQUET --out FOLDER
     python tests/dataset/kills.py --every-step --model ENCRYPTED --key FILE --src PARQUET --out FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
from PIL import Image

torch.set_num_threads(1)  # children are forked: no thread pool may exist yet

sys.path.insert(0, str(Path(__file__).parent.parent))
from deaths import die_before_change  # noqa: E402

import timm_encmixer as te  # noqa: E402

TRIES = 20  # at a kill, for a moment before the end of the run
LONGEST_SECONDS = 600  # of a run, on a machine that does much else too


def child(rank: int, port: int, args: argparse.Namespace, dst: Path, die_before: int) -> None:
    """Encrypt, as one rank; never returns."""
    if args.processes > 1:
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": args.processes, "LOCAL_WORLD_SIZE": args.processes}
        os.environ.update({name: str(value) for name, value in world.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    status = 0
    try:
        if die_before:
            die_before_change(die_before, dst)
        te.encrypt_dataset(args.src, dst, args.key, str(args.model), progress=False)
        if rank == 0 and dst.name == "warm":
            (args.out / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def start(args: argparse.Namespace, dst: Path, die_before: int = 0) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = []
    for rank in range(args.processes):
        pid = os.fork()
        if pid == 0:
            child(rank, port, args, dst, die_before)
        pids.append(pid)
    return pids


def finish(args: argparse.Namespace, dst: Path) -> float:
    begin = time.monotonic()
    for pid in start(args, dst):
        _, status = os.waitpid(pid, 0)
        if status != 0:
            sys.exit(f"a run after a kill failed in {dst}")
    return time.monotonic() - begin


def warm(args: argparse.Namespace) -> None:
    """Load what a run loads, so that no child has to; and keep collections in children from copying it."""
    finish(args, args.out / "warm")
    for name in json.loads((args.out / "modules.json").read_text()):
        with contextlib.suppress(ImportError):  # names that are no files
            importlib.import_module(name)
    Image.init()
    gc.collect()
    gc.freeze()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def journal(dst: Path) -> list[Path]:
    return list((dst / ".encmixer" / "shards").glob("[!.]*.json"))


def files_of(entry: dict, dst: Path) -> list[str]:
    """The files of a finished shard; a run of images is a whole folder here."""
    if not entry["is_run"]:
        return [entry["name"]]
    return [path.relative_to(dst).as_posix() for path in (dst / entry["name"].rpartition("#")[0]).glob("*.png")]


def stamps(dst: Path, entries: list[dict]) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of the shards that the journal says are done."""
    stats = {name: (dst / name).stat() for entry in entries for name in files_of(entry, dst)}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def kill_at_a_moment(args: argparse.Namespace, dst: Path, moments: random.Random, whole: Path, seconds: float) -> bool:
    """Return whether the run was still at work."""
    ends = sorted(path.stat().st_mtime for path in whole.glob("*.parquet"))
    shard_seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    for _ in range(TRIES):
        shutil.rmtree(dst, ignore_errors=True)
        finished = moments.randrange(len(ends))
        pause = moments.uniform(0, shard_seconds if finished else seconds)
        pids = start(args, dst)
        end = time.monotonic() + LONGEST_SECONDS
        while len(journal(dst)) < finished and not (dst / ".encmixer" / "manifest.json").exists():
            assert time.monotonic() < end, "a run that is not killed does not end"
            time.sleep(0.001)
        time.sleep(pause)
        moments.shuffle(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        if not (dst / ".encmixer" / "manifest.json").exists():
            return True
    return False


def kill_before_step(args: argparse.Namespace, dst: Path, step: int) -> bool:
    """Return whether the run had so many steps."""
    shutil.rmtree(dst, ignore_errors=True)
    (pid,) = start(args, dst, step)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def check(args: argparse.Namespace, dst: Path, whole: dict[str, bytes], kill: str) -> int:
    """Finish what was killed, compare with the undisturbed run, and return how many shards the killed run had finished."""
    entries = [json.loads(entry.read_text()) for entry in journal(dst)]
    done = stamps(dst, entries)
    for name in done:
        assert (dst / name).read_bytes() == whole[name], f"{kill}: a done shard is not whole"
    finish(args, dst)
    assert stamps(dst, entries) == done, f"{kill}: whole shards were made again"
    result = contents(dst)
    differing = sorted(name for name in {*result, *whole} if result.get(name) != whole.get(name))
    assert not differing, f"{kill}: the result differs from that of an undisturbed run in {differing}"
    return len(entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--every-step", action="store_true", help="kill one process before each of its steps, instead")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("model", "key", "src", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    warm(args)
    seconds = finish(args, args.out / "whole")
    whole = contents(args.out / "whole")
    dst = args.out / "killed"
    kills = kept = 0
    while args.every_step or kills < args.kills:
        if args.every_step:
            killed = kill_before_step(args, dst, kills + 1)
        else:
            killed = kill_at_a_moment(args, dst, moments, args.out / "whole", seconds)
        if not killed:
            break
        kills += 1
        kept += check(args, dst, whole, f"kill {kills}")
    print(json.dumps({"kills": kills, "shards_kept": kept, "seconds_of_a_run": seconds}))


if __name__ == "__main__":
    main()
