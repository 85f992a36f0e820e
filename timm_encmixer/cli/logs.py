"""Log lines and warnings of the command line: one line each, `encmixer: LEVEL: MESSAGE`, on stderr."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

import click

from timm_encmixer.keys import without_key_text

LEVELS = ("error", "warning", "info", "debug")
_PACKAGE = logging.getLogger("timm_encmixer")


class _Lines(logging.Handler):
    """Writes log records as lines; to the stderr of the moment, which tests and progress bars replace."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname.lower(), " ".join(record.getMessage().split()))


def say(level: str, text: str) -> None:
    """Write a line to stderr, without a key's own text that a user may have typed."""
    click.echo(f"encmixer: {level}: {without_key_text(text, sys.argv[1:])}", err=True)


def start_logging() -> None:
    """Send the package's log records, and all warnings of Python's, to stderr as lines; libraries' bars to terminals only."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # huggingface_hub reads it when it is imported
    if not any(isinstance(handler, _Lines) for handler in _PACKAGE.handlers):
        _PACKAGE.addHandler(_Lines())
    _PACKAGE.propagate = False
    _PACKAGE.setLevel(logging.WARNING)
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _PACKAGE.warning("%s", message)


def _set_level(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Set the level of the option that was given; the last one counts."""
    level = {"verbose": "info", "quiet": "error"}.get(parameter.name or "", value) if value else None
    if level is not None:
        _PACKAGE.setLevel(level.upper())


def log_options(*, hidden: bool = False) -> list[click.Option]:
    """Return the options that choose which lines are written; hidden ones work, but no help shows them."""
    common: dict[str, Any] = {"expose_value": False, "callback": _set_level, "hidden": hidden}
    return [
        click.Option(["--log-level"], type=click.Choice(LEVELS), help="Log lines to write.  [default: warning]", **common),
        click.Option(["-v", "--verbose"], is_flag=True, help="As --log-level info.", **common),
        click.Option(["-q", "--quiet"], is_flag=True, help="As --log-level error: no warnings.", **common),
    ]


def take_log_options(command: click.Command) -> None:
    """Let a command, and all commands below it, take the log options; only the outermost shows them in its help."""
    _take(command, hidden=False)


def _take(command: click.Command, *, hidden: bool) -> None:
    command.params += log_options(hidden=hidden)
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _take(inner, hidden=True)
