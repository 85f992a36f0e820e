"""encmixer model seal and open: real cryptography at rest, with age."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from timm_encmixer.cli.early import existing_file, look_up
from timm_encmixer.cli.options import dst_argument, force_option, json_option, report, src_argument
from timm_encmixer.cli.words import PATH_TEXT
from timm_encmixer.errors import SealError, require_packages

PASSPHRASE_VARIABLE = "TIMM_ENCMIXER_PASSPHRASE"  # noqa: S105  # a variable's name
_passphrase = click.option("--passphrase", "-p", is_flag=True, help=f"Ask for a passphrase, or take {PASSPHRASE_VARIABLE}.")


@click.command("seal")
@src_argument
@dst_argument
@click.option(
    "--to",
    "--recipient",
    "-r",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    type=PATH_TEXT,
    help="age or ssh public key, or a file of them; repeatable.",
)
@_passphrase
@force_option
@json_option
def seal(src: str, dst: Path, recipients: tuple[str, ...], passphrase: bool, force: bool, as_json: bool) -> None:
    """Encrypt the model SRC to the file DST with age.

    Only the recipients, or those who know the passphrase, can open it. SRC is a model source as for encrypt. A folder becomes
    a tar of its two files; `age -d` opens both kinds.

    \b
    Example: encmixer model seal encrypted model.age --to age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    """
    if recipients:
        require_packages("seal", "seal", "pyrage")
    source = look_up(src)
    from timm_encmixer.checkpoints.seal import seal_model

    secret = _passphrase_of(confirm=True) if passphrase else None
    seal_model(source, dst, recipients=recipients, passphrase=secret, force=force)
    size = dst.stat().st_size
    report({"target": str(dst), "bytes": size}, as_json, lambda: f"{dst}: sealed, {size} bytes")


@click.command("open")
@click.argument("src", type=PATH_TEXT)
@dst_argument
@click.option(
    "--identity",
    "-i",
    metavar="FILE",
    type=PATH_TEXT,
    callback=existing_file("an identity file to read"),
    help="age identity file, or ssh private key.",
)
@_passphrase
@force_option
@json_option
def open_(src: str, dst: Path, identity: str | None, passphrase: bool, force: bool, as_json: bool) -> None:
    """Open the sealed model SRC and write it to DST.

    SRC is a file or hf-hub:ID.

    \b
    Example: encmixer model open model.age opened --identity identity.txt
    """
    if identity is not None:
        require_packages("open", "seal", "pyrage")
    source = look_up(src, sealed=True)
    from timm_encmixer.checkpoints.seal import open_model

    secret = _passphrase_of(confirm=False) if passphrase else None
    open_model(
        source.sealed,
        dst,
        identity=Path(identity) if identity else None,
        passphrase=secret,
        force=force,
    )
    report({"target": str(dst)}, as_json, lambda: f"the model is in {dst}")


def _passphrase_of(*, confirm: bool) -> str:
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if not given and not _has_terminal():
        remedy = f"run it on a terminal, or set {PASSPHRASE_VARIABLE}"
        raise SealError("--passphrase", "a terminal to ask on", "none", remedy)
    text: str = given or click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return text


def _has_terminal() -> bool:
    """Whether somebody can be asked: Python asks for passphrases on the process's terminal, wherever stdin comes from."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin.isatty()
    return True
