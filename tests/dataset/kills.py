"""Kill the encryption of a data set at random moments or at every step, finish it, and compare with an undisturbed run.

A random moment is a random while after a random number of finished shards, whatever the machine's speed; one that comes after
the end of the run does not count. Those are real processes and real SIGKILLs, forked from a process that has torch loaded. With
two processes they are two ranks of one gloo group, as `accelerate launch` makes them, and die together, as its agent sees to.

A step is a change to the target's files. One run copies the target before each of its steps: a process that is killed there
leaves those files, and nothing else of it stays. Every copy is finished in this process. Before a few steps (--real-kills), or
before each (-1), a run is also killed by a real SIGKILL, which must leave what a copy of that moment holds, and is finished.

Run: python tests/dataset/kills.py --processes 2 --kills 30 --model ENCRYPTED --key FILE --src PARQUET --out FOLDER
     python tests/dataset/kills.py --every-step --real-kills 3 --model ENCRYPTED --key FILE --src PARQUET --out FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

torch.set_num_threads(1)  # children are forked: no thread pool may exist yet

sys.path.insert(0, str(Path(__file__).parent.parent))
from deaths import before_changes, die  # noqa: E402

import timm_encmixer as te  # noqa: E402

TRIES = 20  # at a kill, for a moment before the end of the run
LONGEST_SECONDS = 600  # of a run, on a machine that does much else too
TEMPORARY = re.compile(r"\.encmixer-[0-9a-f]{16}")  # names that are drawn anew in every run


def encrypt(args: argparse.Namespace, dst: Path) -> None:
    te.encrypt_dataset(args.src, dst, args.key, str(args.model), progress=False)


def child(rank: int, port: int, args: argparse.Namespace, dst: Path, prepare: Callable[[], None]) -> None:
    """Encrypt, as one rank; never returns."""
    if args.processes > 1:
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": args.processes, "LOCAL_WORLD_SIZE": args.processes}
        os.environ.update({name: str(value) for name, value in world.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    status = 0
    try:
        prepare()
        encrypt(args, dst)
        if rank == 0 and dst.name == "warm":
            (args.out / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def start(args: argparse.Namespace, dst: Path, prepare: Callable[[], None] = lambda: None) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = []
    for rank in range(args.processes):
        pid = os.fork()
        if pid == 0:
            child(rank, port, args, dst, prepare)
        pids.append(pid)
    return pids


def finish(args: argparse.Namespace, dst: Path, prepare: Callable[[], None] = lambda: None) -> float:
    begin = time.monotonic()
    for pid in start(args, dst, prepare):
        _, status = os.waitpid(pid, 0)
        if status != 0:
            sys.exit(f"a run failed in {dst}")
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


def state(folder: Path) -> list[tuple[str, bytes | None]]:
    """Every name below a folder, the drawn ones made equal, with the content of files."""
    found = [(path.relative_to(folder).as_posix(), path.read_bytes() if path.is_file() else None) for path in folder.rglob("*")]
    return sorted((TEMPORARY.sub("temporary", name), content) for name, content in found)


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


def check(dst: Path, whole: dict[str, bytes], kill: str, go_on: Callable[[], object]) -> int:
    """Finish what was killed, compare with the undisturbed run, and return how many shards the killed run had finished."""
    entries = [json.loads(entry.read_text()) for entry in journal(dst)]
    done = stamps(dst, entries)
    for name in done:
        assert (dst / name).read_bytes() == whole[name], f"{kill}: a done shard is not whole"
    go_on()
    assert stamps(dst, entries) == done, f"{kill}: whole shards were made again"
    result = contents(dst)
    differing = sorted(name for name in {*result, *whole} if result.get(name) != whole.get(name))
    assert not differing, f"{kill}: the result differs from that of an undisturbed run in {differing}"
    return len(entries)


def random_kills(args: argparse.Namespace, moments: random.Random, whole: dict[str, bytes], seconds: float) -> dict:
    dst, kept = args.out / "killed", 0
    for number in range(args.kills):
        if not kill_at_a_moment(args, dst, moments, args.out / "whole", seconds):
            sys.exit(f"kill {number}: no moment before the end of the run")
        kept += check(dst, whole, f"kill {number}", lambda: finish(args, dst))
    return {"kills": args.kills, "shards_kept": kept}


def copies(args: argparse.Namespace, folder: Path) -> list[Path]:
    """Run once; return, step after step, the copies of the target as it was before."""
    dst = args.out / "copied"

    def copy(step: int) -> None:
        if dst.exists():
            shutil.copytree(dst, folder / str(step))

    finish(args, dst, lambda: before_changes(dst, copy))
    made = sorted(folder.iterdir(), key=lambda path: int(path.name))
    # before the first steps there is no target; from then on no step is left out
    assert [int(path.name) for path in made] == list(range(int(made[0].name), int(made[0].name) + len(made)))
    return made


def kill_for_real(args: argparse.Namespace, dst: Path, step: int) -> bool:
    """Kill a run before a step, and compare what it leaves with a copy made just before. Return whether it had that step."""
    aside = args.out / "aside"
    for folder in (dst, aside):
        shutil.rmtree(folder, ignore_errors=True)

    def copy_and_die(number: int) -> None:
        if number == step:
            if dst.exists():
                shutil.copytree(dst, aside)
            die()

    (pid,) = start(args, dst, lambda: before_changes(dst, copy_and_die))
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    if status == signal.SIGKILL:
        assert state(dst) == state(aside), f"a kill before step {step} leaves something else than the copy"
    return status != 0


def real_kills(args: argparse.Namespace, moments: random.Random, whole: dict[str, bytes], steps: int) -> int:
    """Kill runs before some steps, or before each; finish them, and return how many were killed."""
    dst, killed, step = args.out / "killed", 0, 0
    while args.real_kills < 0 or killed < args.real_kills:
        step = step + 1 if args.real_kills < 0 else moments.randint(1, steps)
        if kill_for_real(args, dst, step):
            killed += 1
            check(dst, whole, f"a kill before step {step}", lambda: finish(args, dst))
        elif args.real_kills < 0:
            break  # its end; a run that is faster writes its progress less often, so has fewer steps
    return killed


def every_step(args: argparse.Namespace, moments: random.Random, whole: dict[str, bytes]) -> dict:
    folder = args.out / "steps"
    folder.mkdir()
    steps = copies(args, folder)
    killed = real_kills(args, moments, whole, len(steps))  # before this process encrypts: forks lack the threads that it starts
    kept = sum(check(copy, whole, f"step {copy.name}", lambda copy=copy: encrypt(args, copy)) for copy in steps)
    return {"steps": len(steps), "real_kills": killed, "shards_kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--every-step", action="store_true", help="stop one process before each of its steps, instead")
    parser.add_argument("--real-kills", type=int, default=3, help="steps that are met by a real kill too; -1 is all [3]")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("model", "key", "src", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    warm(args)
    seconds = finish(args, args.out / "whole")
    whole = contents(args.out / "whole")
    result = every_step(args, moments, whole) if args.every_step else random_kills(args, moments, whole, seconds)
    print(json.dumps({**result, "seconds_of_a_run": seconds}))


if __name__ == "__main__":
    main()
