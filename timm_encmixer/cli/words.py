"""Types of words on the command line: how they are read, how the shell completes them, and what they may have meant."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from timm_encmixer.errors import FileAccessError, did_you_mean
from timm_encmixer.files import as_path

_MOST_SHOWN = 50  # names, where nothing of one has been typed
_SYNONYMS = {
    **dict.fromkeys(("generate", "create", "make", "gen", "init", "keygen"), "new"),
    **dict.fromkeys(("describe", "inspect", "show", "status"), "info"),
    **dict.fromkeys(("upload", "publish"), "push"),
    **dict.fromkeys(("download", "fetch", "get"), "pull"),
    **dict.fromkeys(("list", "ls", "search"), "models"),
    **dict.fromkeys(("evaluate", "test", "accuracy"), "eval"),
    **dict.fromkeys(("check", "compare"), "verify"),
    **dict.fromkeys(("unseal",), "open"),
    **dict.fromkeys(("attack",), "audit"),
    **dict.fromkeys(("serve", "page", "web", "ui"), "app"),
}
_OPTION_SYNONYMS = {"--attack": "--only", "--attacks": "--only", "--output": "--out"}


class _PathType(click.Path):
    """A path; unlike click's own type it refuses the empty text, which pathlib takes for the current folder, and URLs.

    Args:
        urls: Let URLs pass: what the path is for says what is wrong with them.
    """

    def __init__(self, *, urls: bool = False) -> None:
        super().__init__()
        self._urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if not self._urls and isinstance(value, str) and "://" in value and not os.path.lexists(value):
            self.fail(f"expected a path on this machine, got {value}; URLs are not fetched: download it first", param, ctx)
        try:
            return as_path(value, where="path")
        except FileAccessError as error:
            self.fail(f"expected {error.expected}, got {error.got}; {error.remedy}", param, ctx)


class Text(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A text that is parsed elsewhere; the shell completes it as a path, as one of some names, or as either.

    Args:
        names: Returns the names.
        paths: It may be a path.
    """

    name = "text"

    def __init__(self, names: Callable[[], Iterable[str]] = tuple, *, paths: bool = True) -> None:
        self._names, self._paths = names, paths

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so. Where there are some, the paths are listed with them: shells do not mix the two."""
        known = list(self._names())
        names = [name for name in known if name.startswith(incomplete) and (incomplete or len(known) <= _MOST_SHOWN)]
        if not self._paths:
            return [CompletionItem(name) for name in names]
        if not names:
            return [CompletionItem(incomplete, type="file")]
        paths = sorted(str(path) for path in Path().glob(f"{glob.escape(incomplete)}*"))
        return [CompletionItem(name) for name in [*paths, *names]]


class Choice(click.Choice):  # type: ignore[type-arg]
    """A choice whose error says what is most like the word that was given.

    Args:
        choices: The words.
        meaning: Returns the choice that another word means; any other word as it is.
    """

    def __init__(self, choices: Sequence[str], *, meaning: Callable[[str], str] = str) -> None:
        super().__init__(choices)
        self._meaning = meaning

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the choice."""
        try:
            return super().convert(self._meaning(value), param, ctx)
        except click.BadParameter as error:
            remedy = did_you_mean(str(value), self.choices)
            if not remedy:
                raise
            self.fail(f"{error.message.rstrip('.')}; {remedy}", param, ctx)


class Commands(click.Group):
    """A group that says what an unknown command may have meant, here or in another group."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the command; say of an option of a command's that it goes after it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not any(error.option_name in parameter.opts for command in _below(self) for parameter in command.params):
                raise
            after = f"options go after the command: {ctx.command_path} COMMAND ... {error.option_name}"
            raise click.UsageError(f"No such option '{error.option_name}' here; {after}", ctx) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and what follows it."""
        name, *rest = args
        command = self.get_command(ctx, name)
        verbs = [] if isinstance(command, click.Group) else _verbs_like(self, name, rest[:1])
        if not ctx.resilient_parsing and (verbs or (command is None and not name.startswith("-"))):
            meant = verbs or _commands_like(ctx, name)
            remedy = f"; did you mean {' or '.join(f'encmixer {words}' for words in meant)}?" if meant else ""
            raise click.UsageError(f"No such command '{' '.join([name, *rest[:1]] if verbs else [name])}'{remedy}", ctx)
        return super().resolve_command(ctx, args)


def option_meant(error: click.NoSuchOption) -> click.UsageError:
    """Return the error of an unknown option, with the one that others call so, where the command has it."""
    meant = _OPTION_SYNONYMS.get(error.option_name)
    if meant is None or error.ctx is None or not any(meant in parameter.opts for parameter in error.ctx.command.params):
        return error
    return click.UsageError(f"No such option '{error.option_name}'; did you mean {meant}?", error.ctx)


def dashes_meant(top: click.Group, words: Sequence[str]) -> list[str]:
    """Return the long options that were typed with one dash: click takes `-key` for `-k ey`."""
    command: click.Command = top
    for word in words:
        if isinstance(command, click.Group):
            command = command.commands.get(word, command)
    known = {option for parameter in command.params for option in parameter.opts}
    typed = [f"-{word.partition('=')[0]}" for word in words if re.match("-[a-z]", word)]
    return [option for option in typed if option in known]


def _below(group: click.Group) -> Iterator[click.Command]:
    """Yield every command below a group."""
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _below(command)


def _verbs_like(group: click.Group, noun: str, verb: Sequence[str]) -> list[str]:
    """Return the commands of this verb in groups whose names are spelt like a noun."""
    similar = difflib.get_close_matches(noun, group.commands)
    return [" ".join(path) for path in _paths(group) if path[:-1] and path[0] in similar and path[1:] == list(verb)]


def _commands_like(ctx: click.Context, word: str) -> list[str]:
    """Return the commands, here or further down, that are called so or that others call so; else what is spelt like it here."""
    top, here = ctx.find_root().command, ctx.command_path.split()[1:]
    assert isinstance(top, click.Group)
    below = [path for path in _paths(top) if path[: len(here)] == here and path != here]
    if word == "help":
        return [" ".join([*here, "--help"])]
    found = [path for path in below if path[-1] in (word, _SYNONYMS.get(word))]
    return [" ".join(path) for path in found] or [
        " ".join([*here, name]) for name in difflib.get_close_matches(word, {path[len(here)] for path in below})
    ]


def _paths(group: click.Group, path: Sequence[str] = ()) -> Iterator[list[str]]:
    """Yield the words of every command below a group, and of the groups."""
    for name, command in group.commands.items():
        yield [*path, name]
        if isinstance(command, click.Group):
            yield from _paths(command, [*path, name])


def _sources() -> list[str]:
    from timm_encmixer.models.listing import source_names

    return source_names()


def _architectures(*, supported: bool) -> list[str]:
    from timm_encmixer.models.listing import listed_names

    return listed_names(supported=supported)


PATH, PATH_OR_URL = _PathType(), _PathType(urls=True)
PATH_TEXT = Text()  # a path, or a URL, an id or a recipient in its place; an encrypted model, which no name of timm's means
SOURCE = Text(_sources)
TIMM_NAME = Text(lambda: _architectures(supported=True), paths=False)
PATTERN = Text(lambda: _architectures(supported=False), paths=False)
