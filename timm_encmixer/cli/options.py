"""Options and output that several commands share."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import click

from timm_encmixer.errors import FileAccessError, KeyFormatError, KeyPermissionWarning
from timm_encmixer.files import as_path
from timm_encmixer.keys import KEY_VARIABLE
from timm_encmixer.scheme import CIPHERS, DEFAULT_CIPHER, SCRAMBLING_CIPHERS

CHECK_FAILED, BAD_INPUT, NOBODY_READS = 1, 2, 141  # 128 + SIGPIPE, as shells have it
logger = logging.getLogger("timm_encmixer.cli")


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse a comma-separated list of numbers."""
    try:
        return None if value is None else tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a comma-separated list of numbers") from error


class _PathType(click.Path):
    """A path; unlike click's own type it refuses the empty text, which pathlib takes for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        try:
            return as_path(value, where="path")
        except FileAccessError as error:
            self.fail(f"expected {error.expected}, got {error.got}; {error.remedy}", param, ctx)


PATH = _PathType()
key_option = click.option("--key", "-k", metavar="FILE", envvar=KEY_VARIABLE, show_envvar=True, help="Key file.")
cipher_option = click.option(
    "--cipher", type=click.Choice((*CIPHERS, *SCRAMBLING_CIPHERS)), default=DEFAULT_CIPHER, show_default=True
)
force_option = click.option("--force", is_flag=True, help="Replace what is there already.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
label_column_option = click.option(
    "--label-column", metavar="NAME", help="Column of class labels of a table; needed where it has several."
)
arch_option = click.option(
    "--arch", metavar="NAME", help="timm name of the architecture of a .safetensors file; a folder has its own."
)
token_option = click.option(
    "--token", metavar="TOKEN", envvar="HF_TOKEN", show_envvar=True, help="Access token of the Hub; default: hf auth login."
)
revision_option = click.option("--revision", metavar="REV", help="Branch, tag, pull request (refs/pr/N) or commit.")
strict_option = click.option("--strict", is_flag=True, help="Refuse ciphertexts that carry no record of their own.")
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Use the first so many images.")
no_resize_option = click.option("--no-resize", is_flag=True, help="Keep sizes that are multiples of the block.")
public_option = click.option(
    "--public", is_flag=True, help="Make a new repository public, or push to one that is; default: private."
)
create_pr_option = click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing.")


def model_option(help_text: str, *, required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--model`."""
    return click.option("--model", "-m", required=required, help=help_text)


images_for_option = model_option("Encrypted model the images are for: folder, file or hf-hub:ID.", required=True)


def load_key(path: str | None, *, optional: bool = False) -> Any:
    """Load a key; like ssh, refuse a file that others can read, where the Python API warns.

    Args:
        path: Key file, as `key_option` gives it; None where there is none.
        optional: Having no key at all is fine; returns None then.
    """
    from timm_encmixer.keys import find_key

    if optional and path is None:
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


def report(value: dict[str, Any] | list[dict[str, Any]], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result, as JSON or as text."""
    click.echo(json.dumps(value, indent=2) if as_json else text())


def plain_text(value: Any) -> str:
    """Return a value as text, structures as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
