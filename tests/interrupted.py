"""Run by test_signals.py: the `encmixer` command, which sends itself a signal at a moment that depends on no machine's speed.

The moments are the so-manieth import, and the so-manieth file that is opened for writing, below the current folder.

Run: python tests/interrupted.py SIGNAL TIMES import|write NUMBER WORD...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def main() -> None:
    number, times, kind, at = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    here, count = str(Path.cwd()), 0

    def watch(event: str, details: tuple) -> None:
        nonlocal count
        writes = event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)
        writes = writes and (str(details[0]).startswith(here) or not str(details[0]).startswith("/"))
        if (event == "import") if kind == "import" else writes:
            count += 1
            if at <= count < at + times:
                os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    sys.argv[:] = ["encmixer", *sys.argv[5:]]
    from timm_encmixer.__main__ import main as command

    sys.addaudithook(watch)
    command()


if __name__ == "__main__":
    main()
