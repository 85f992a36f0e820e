"""Options and output that several commands share."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import click

from timm_encmixer.errors import KeyFormatError, KeyPermissionWarning
from timm_encmixer.scheme import CIPHERS, DEFAULT_CIPHER, SCRAMBLING_CIPHERS

CHECK_FAILED, BAD_INPUT = 1, 2


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse a comma-separated list of numbers."""
    try:
        return None if value is None else tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no comma-separated list of numbers") from error


key_option = click.option("--key", "-k", metavar="FILE", help="Key file; default: the file that TIMM_ENCMIXER_KEY names.")
cipher_option = click.option(
    "--cipher", type=click.Choice((*CIPHERS, *SCRAMBLING_CIPHERS)), default=DEFAULT_CIPHER, show_default=True
)
force_option = click.option("--force", is_flag=True, help="Replace what is there already.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
arch_option = click.option("--arch", metavar="NAME", help="timm name of the architecture of a .safetensors file.")
token_option = click.option("--token", metavar="TOKEN", help="Access token of the Hub; default: HF_TOKEN, or hf auth login.")


def load_key(path: str | None, *, optional: bool = False) -> Any:
    """Load a key; like ssh, refuse a file that others can read, where the Python API warns.

    Args:
        path: Key file; None takes the one that TIMM_ENCMIXER_KEY names.
        optional: Having no key at all is fine; returns None then.
    """
    from timm_encmixer.keys import KEY_VARIABLE, find_key

    if optional and path is None and not os.environ.get(KEY_VARIABLE):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeyPermissionWarning)
        try:
            return find_key(path, where="--key")
        except KeyPermissionWarning as warning:
            where = str(warning).partition(":")[0]
            raise KeyFormatError(
                where, "a key file for your eyes only", "one that others can read", f"run: chmod 600 {where}"
            ) from None


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings to stderr as `encmixer: warning: ...`, each once."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *rest, **more: click.echo(f"encmixer: warning: {message}", err=True)
        yield


def report(value: dict[str, Any] | list[dict[str, Any]], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result, as JSON or as text."""
    click.echo(json.dumps(value, indent=2) if as_json else text())


def plain_text(value: Any) -> str:
    """Return a value as text, structures as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
