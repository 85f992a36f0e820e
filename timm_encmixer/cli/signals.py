"""Ctrl-C and SIGTERM: the work in hand is thrown away, one line is written, and the exit code is 130; a server says nothing."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_IN_ORDER, _AT_ONCE = (
    "nothing half-written is left, run the command again",
    "run the command again: it removes what is unfinished",
)
_IMPORTS = "<frozen importlib._bootstrap>"
_interrupted = _said = False


def catch_signals() -> None:
    """Let the first signal end the work in order, and the second one, or one in the middle of an import, at once.

    A library that is imported half is of no use, and does not expect to be. What a process that ends at once leaves, the next
    run removes. A signal that is ignored, as in the background of a shell, stays so.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def end_interrupted(what_is_left: str = _IN_ORDER) -> NoReturn:
    """Say so and end, without the end of the interpreter: threads of libraries may still run, and abort in it."""
    global _said
    if not _said:  # a signal may come here too
        _said = True
        os.write(2, f"encmixer: error: interrupted; {what_is_left}\n".encode())
    os._exit(INTERRUPTED)


def end_served() -> NoReturn:
    """End a server that was interrupted: that is how one ends, so nothing is said."""
    os._exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    if _interrupted or _is_importing(frame):
        end_interrupted(_AT_ONCE)
    _interrupted = True
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            return True
        frame = frame.f_back
    return False
