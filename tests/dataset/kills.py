"""Kill the encryption of a data set at random moments, finish it, and compare with an undisturbed run, byte for byte.

Real processes and real SIGKILLs; the children are forked from a process that has torch loaded, so that a kill takes a fraction
of a second and many moments can be tried. With two processes they are two ranks of one gloo group, as `accelerate launch`
makes them, and die together, as its agent sees to.

Run: python tests/dataset/kills.py --processes 2 --kills 30 --model ENCRYPTED --key FILE --src PARQUET --out FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
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

torch.set_num_threads(1)  # children are forked: no thread pool may exist yet

import timm_encmixer as te  # noqa: E402
from timm_encmixer.datasets import cells, tables  # noqa: E402, F401  # loaded before the forks


def child(rank: int, processes: int, port: int, args: argparse.Namespace, dst: Path) -> None:
    """Encrypt, as one rank; never returns."""
    if processes > 1:
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ.update({name: str(value) for name, value in world.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    status = 0
    try:
        te.encrypt_dataset(args.src, dst, args.key, str(args.model), progress=False)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def start(args: argparse.Namespace, dst: Path) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = []
    for rank in range(args.processes):
        pid = os.fork()
        if pid == 0:
            child(rank, args.processes, port, args, dst)
        pids.append(pid)
    return pids


def finish(args: argparse.Namespace, dst: Path) -> float:
    begin = time.monotonic()
    for pid in start(args, dst):
        _, status = os.waitpid(pid, 0)
        if status != 0:
            sys.exit(f"a run after a kill failed in {dst}")
    return time.monotonic() - begin


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def finished_shards(dst: Path) -> dict[str, tuple[int, int]]:
    """Name, inode and time of every shard that the journal says is done."""
    done = {}
    for entry in (dst / ".encmixer" / "shards").glob("[!.]*.json"):
        name = json.loads(entry.read_text())["name"]
        stat = (dst / name).stat()
        done[name] = (stat.st_ino, stat.st_mtime_ns)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("model", "key", "src", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    finish(args, args.out / "warm")
    seconds = finish(args, args.out / "whole")
    whole = contents(args.out / "whole")
    interrupted = kept = 0
    for kill in range(args.kills):
        dst = args.out / "killed"
        shutil.rmtree(dst, ignore_errors=True)
        pids = start(args, dst)
        time.sleep(moments.uniform(0, seconds))
        moments.shuffle(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        done = finished_shards(dst)
        interrupted += not (dst / ".encmixer" / "manifest.json").exists()
        before = {name: (dst / name).read_bytes() for name in done}
        assert all(whole[name] == content for name, content in before.items()), f"kill {kill}: a done shard is not whole"
        finish(args, dst)
        after = {name: ((dst / name).stat().st_ino, (dst / name).stat().st_mtime_ns) for name in done}
        assert after == done, f"kill {kill}: whole shards were made again"
        assert contents(dst) == whole, f"kill {kill}: the result differs from an undisturbed run"
        kept += len(done)
    print(json.dumps({"kills": args.kills, "interrupted": interrupted, "shards_kept": kept, "seconds_of_a_run": seconds}))


if __name__ == "__main__":
    main()
