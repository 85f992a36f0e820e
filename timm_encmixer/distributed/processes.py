"""Processes that fail together: an error on one of them is the same error on all, and never a hang."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

from timm_encmixer.errors import EncMixerError, ProcessError

T = TypeVar("T")
BAD_INPUT = 2  # exit code
_LONGEST_SHOWN = 80
_LAUNCH = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes N --num_machines 1 SCRIPT"


def joined_state() -> PartialState:
    """Return the run that this process is part of, joining it if nobody has yet.

    A bare `PartialState()` does not look at ACCELERATE_USE_CPU, as `Accelerator()` does: on CPUs it would join nobody.
    """
    return PartialState() if PartialState._shared_state else PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def check_launch(state: PartialState | None = None) -> None:
    """Raise when one process runs where more were asked for.

    `accelerate launch --cpu --num_processes 2 SCRIPT` starts one process and says nothing.

    Raises:
        ProcessError: The launcher that started this process was asked for more.
    """
    state = state or joined_state()
    asked = _processes_asked_for()
    if state.num_processes == 1 and asked > 1:
        remedy = f"on CPUs launch it so: {_LAUNCH}"
        raise ProcessError("accelerate launch", f"{asked} processes", "1: it ignores --num_processes with --cpu", remedy)


def on_every_process(work: Callable[[], T]) -> T:
    """Run `work` here, as the other processes do, and return its result; when it fails on one of them, raise on all.

    Every process must call this. Errors that are not the package's own are raised where they occur; the launcher then
    stops the other processes.

    Raises:
        EncMixerError: The error of the first process that had one.
    """
    result: Any = None
    failure: EncMixerError | None = None
    try:
        result = work()
    except EncMixerError as error:
        failure = error
    failures = [error for error in gather([failure]) if error is not None]
    if failures:
        failures[0].shared = True
        raise failures[0] from failure
    return result  # type: ignore[no-any-return]


def from_main(work: Callable[[], T]) -> T:
    """Run `work` on the main process alone and return its result on all; when it fails, raise on all.

    The result travels through a pickle: it may hold no secret.
    """
    state = joined_state()
    result = [on_every_process(lambda: work() if state.is_main_process else None)]
    if state.num_processes > 1:
        broadcast_object_list(result)
    return result[0]  # type: ignore[return-value]


def on_main_first(work: Callable[[], T]) -> T:
    """Run `work` on the main process, then on the others: for what fills a cache. Fails on all as `on_every_process` does."""
    main = joined_state().is_main_process
    first = on_every_process(lambda: work() if main else None)
    rest = on_every_process(lambda: None if main else work())
    return first if main else rest  # type: ignore[return-value]


def same_everywhere(what: str, value: str, *, remedy: str = "give every process the same") -> None:
    """Compare a public value across the processes.

    Args:
        what: Its name, for the message.
        value: Text that is no secret: a fingerprint, a record, a digest.
        remedy: For the message.

    Raises:
        ProcessError: It is another one on some process. Raised on all of them.
    """
    values = gather([value])
    for process, other in enumerate(values):
        if other != values[0]:
            got = f"{_brief(values[0])} on process 0 and {_brief(other)} on process {process}"
            error = ProcessError(what, "the same on every process", got, remedy)
            error.shared = True
            raise error


def gather(values: Sequence[T]) -> list[T]:
    """Return the lists of all processes, one after the other."""
    if joined_state().num_processes == 1:
        return list(values)
    gathered: list[T] = gather_object(list(values))
    return gathered


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Around a script's main part: the package's errors become one line on stderr and exit code 2, on all processes.

    An error that all processes raised together is printed by the main process alone. At the end the processes leave together.
    """
    try:
        yield
        leave()
    except EncMixerError as error:
        state = joined_state()
        if state.is_main_process or not error.shared:
            sys.stderr.write(f"encmixer: error: {error}\n")  # in one piece: other processes write there too
            sys.stderr.flush()
        if error.shared:
            leave()  # the launcher stops the others as soon as one has left
        sys.exit(BAD_INPUT)


def leave() -> None:
    """Leave the run, if there is one, when all processes are ready to.

    A process that exits while others still use the connection may be aborted by its own threads ("terminate called").
    """
    if PartialState._shared_state and PartialState().num_processes > 1:
        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()


def _processes_asked_for() -> int:
    """Return what the launcher's command line says, 1 where it says nothing or there is no launcher."""
    try:
        parent = psutil.Process().parent()
        command = parent.cmdline() if parent is not None else []
    except psutil.Error:
        return 1
    if "launch" not in command and not any("accelerate" in word for word in command):
        return 1
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes"):
            number = value or following
            return int(number) if number.isdecimal() else 1
    return 1


def _brief(value: str) -> str:
    return value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}..."
