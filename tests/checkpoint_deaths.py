"""Run by test_checkpoint.py: encrypt a checkpoint again and again, and die each time at another moment.

Each death has a folder of its own below OUT, with the target as it was left. Prints how each process ended, by that folder's
name.

Run: python tests/checkpoint_deaths.py SOURCE TARGET_NAME OLD OUT KEY BYTES
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import torch
from deaths import die_at_byte, die_before_change

import timm_encmixer as te

PARTS = 20  # at whose ends a file's writing is cut off


def end_of(death: str, number: int, folder: Path, source: Path, target: Path, key: Path) -> int:
    """Fork a process that encrypts and is to die; return its exit code, or the negative signal that killed it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            die_at_byte(number) if death == "byte" else die_before_change(number, folder)
            file = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "stem_stride": 4}
            te.encrypt_checkpoint(source, target, key, force=target.exists(), **({} if source.is_dir() else file))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    source, name, old, out, key, size = (
        kind(word) for kind, word in zip((Path, str, Path, Path, Path, int), sys.argv[1:], strict=True)
    )
    torch.set_num_threads(1)  # children are forked: no thread pool may exist yet
    _ = te.encrypt_checkpoint
    ends = {}

    def die(death: str, number: int, begin: str) -> int:
        folder = out / f"{death}-{number}-{begin}"
        folder.mkdir(parents=True)
        if begin == "over":
            (shutil.copytree if old.is_dir() else shutil.copy)(old, folder / name)
        ends[folder.name] = end_of(death, number, folder, source, folder / name, key)
        return ends[folder.name]

    for begin in ("new", "over"):
        for part in range(PARTS):
            die("byte", size * part // PARTS, begin)
        for number in itertools.count(1):
            if die("change", number, begin) == 0:
                break
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
