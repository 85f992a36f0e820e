"""Options and output that several commands share."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import click

from timm_encmixer.cli.early import architecture, few_cores, free_target_in_folder, key_file, key_file_if_alone, key_file_if_any
from timm_encmixer.cli.words import PATH, PATH_TEXT, SOURCE, TIMM_NAME, Choice
from timm_encmixer.images.format_names import DEFAULT_FORMAT, FORMAT_NAMES, format_name
from timm_encmixer.keys import KEY_VARIABLE
from timm_encmixer.scheme import CIPHERS, DEFAULT_CIPHER, PARTS

CHECK_FAILED, BAD_INPUT, CANNOT_TELL, NOBODY_READS = 1, 2, 3, 141  # 128 + SIGPIPE, as shells have it
_CIPHER_HELP = "\n".join(
    [
        "\b",
        "Parts with + between them:",
        *(f"{part.name:<16}{part.words}" for part in PARTS.values()),
        f"The default is {DEFAULT_CIPHER}.",
    ]
)
logger = logging.getLogger("timm_encmixer.cli")


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse a comma-separated list of numbers."""
    try:
        return None if value is None else tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a comma-separated list of numbers") from error


def _key_option(callback: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    how: dict[str, Any] = {"envvar": KEY_VARIABLE, "show_envvar": True, "callback": callback}
    return click.option("--key", "-k", metavar="FILE", type=PATH_TEXT, help="Key file.", **how)


key_option, key_if_any_option = _key_option(key_file), _key_option(key_file_if_any)
key_if_alone_option = _key_option(key_file_if_alone)
cipher_option = click.option("--cipher", type=Choice(CIPHERS), metavar="NAME", default=DEFAULT_CIPHER, help=_CIPHER_HELP)
force_option = click.option("--force", is_flag=True, is_eager=True, help="Replace what is there already.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
label_column_option = click.option(
    "--label-column", metavar="NAME", help="Column of class labels of a table; needed where it has several."
)
arch_option = click.option(
    "--arch",
    metavar="NAME",
    type=TIMM_NAME,
    callback=architecture,
    help="timm name of the architecture of a .safetensors file; a folder has its own.",
)
token_option = click.option(
    "--token", metavar="TOKEN", envvar="HF_TOKEN", show_envvar=True, help="Access token of the Hub; default: hf auth login."
)
revision_option = click.option("--revision", metavar="REV", help="Branch, tag, pull request (refs/pr/N) or commit.")
strict_option = click.option("--strict", is_flag=True, help="Refuse ciphertexts that carry no record of their own.")
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Use the first so many images.")
device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="Where to compute: cpu, cuda, cuda:1."
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", expose_value=False, callback=few_cores, help="Use at most N cores."
)
no_resize_option = click.option("--no-resize", is_flag=True, help="Keep sizes that are multiples of the block.")
format_option = click.option(
    "--format",
    type=Choice(FORMAT_NAMES, meaning=format_name),
    default=DEFAULT_FORMAT,
    show_default=True,
    help="Of the ciphertext; jpeg for --cipher etc.",
)
quality_option = click.option("--quality", type=click.IntRange(1, 100), metavar="Q", help="Of JPEG, 1 to 100; default: 85.")
public_option = click.option(
    "--public/--private", default=False, help="Make a new repository public, or push to one that is; default: private."
)
create_pr_option = click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing.")
src_argument, encrypted_src_argument = click.argument("src", type=SOURCE), click.argument("src", type=PATH_TEXT)
dst_argument = click.argument("dst", type=PATH, callback=free_target_in_folder)


def model_option(
    help_text: str, *, required: bool = False, encrypted: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--model`; an encrypted model is a path or an id, and no name of timm's."""
    kind = PATH_TEXT if encrypted else SOURCE
    return click.option("--model", "-m", metavar="MODEL", type=kind, required=required, help=help_text)


images_for_option = model_option(
    "Encrypted model the images are for: folder, file or hf-hub:ID.", required=True, encrypted=True
)


images_for_if_any_option = model_option(
    "Encrypted model the images are for; default: what each file says.", required=False, encrypted=True
)


def report(value: dict[str, Any] | list[dict[str, Any]], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result, as JSON or as text."""
    click.echo(json.dumps(value, indent=2) if as_json else text())


def plain_text(value: Any) -> str:
    """Return a value as text, structures as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
