"""Ways to die at a moment that does not depend on a machine's speed."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

CHANGES = frozenset(("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.truncate"))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_changes(folder: Path, do: Callable[[int], None]) -> None:
    """Call `do` just before each change of `folder`, or of what is below it, with the change's number, from 1.

    A change is a file opened for writing, renamed, linked or removed, or a folder made or removed. The call holds it up.
    """
    changes, below = 0, f"{folder}{os.sep}"

    def watch(event: str, details: tuple) -> None:
        nonlocal changes
        if event not in CHANGES and not (event == "open" and details[2] & WRITING):
            return
        paths = [os.fsdecode(one) for one in details if isinstance(one, (str, bytes, os.PathLike))]
        if any(path.startswith(below) or path == str(folder) for path in paths):
            changes += 1
            do(changes)

    sys.addaudithook(watch)


def die_before_change(number: int, folder: Path) -> None:
    """Kill this process just before it changes files below `folder` for the so-manieth time."""
    before_changes(folder, lambda change: die() if change == number else None)


def die_at_byte(number: int) -> None:
    """Let the kernel kill this process when it has written so many bytes of a file and would write more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def die_before_line(number: int, *files: str) -> None:
    """Kill this process just before it runs the so-manieth line of Python in one of these files."""
    lines = 0

    def watch(frame, event, _):
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        lines += event == "line"
        if lines == number:
            die()
        return watch

    sys.settrace(watch)
