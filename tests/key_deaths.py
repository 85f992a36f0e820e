"""Run by test_keys.py: save a key again and again, and die each time at another moment.

Each death has a folder of its own below OUT. Prints how each process ended, by that folder's name.

Run: python tests/key_deaths.py OUT
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from deaths import die_at_byte, die_before_line

import timm_encmixer as te
from timm_encmixer import files, keys

FILE_BYTES = 64
FILES = [*map(str, Path(files.__file__).parent.glob("*.py")), keys.__file__]


def end_of(folder: Path, prepare: Callable[[], None]) -> int:
    """Fork a process that saves a key and is to die; return its exit code, or the negative signal that killed it."""
    folder.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            prepare()
            te.SecretKey(bytes(range(32))).save(folder / "owner.key")
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    out = Path(sys.argv[1])
    ends = {}
    for system in ("linux", "other"):
        if system == "other":  # a system without files that have no name
            del os.O_TMPFILE
        for number in range(FILE_BYTES):
            name = f"{system}-byte-{number}"
            ends[name] = end_of(out / name, lambda number=number: die_at_byte(number))
        for number in itertools.count(1):
            name = f"{system}-line-{number}"
            ends[name] = end_of(out / name, lambda number=number: die_before_line(number, *FILES))
            if ends[name] == 0:
                break
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
