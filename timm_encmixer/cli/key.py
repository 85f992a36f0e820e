"""encmixer key: make and look at key files."""

from __future__ import annotations

from pathlib import Path

import click

from timm_encmixer.cli.early import in_folder, load_key
from timm_encmixer.cli.options import json_option, report
from timm_encmixer.cli.words import PATH, Commands


@click.group(cls=Commands)
def key() -> None:
    """Make and look at key files."""


@key.command("new")
@click.argument("path", type=PATH, callback=in_folder)
def key_new(path: Path) -> None:
    """Write a new key to PATH, readable by you alone.

    An existing file is never overwritten.

    \b
    Example: encmixer key new owner.key
    """
    from timm_encmixer.keys import SecretKey

    secret = SecretKey.new(path)
    click.echo(f"{path}: key {secret.fingerprint}. Keep a copy: without it encrypted images cannot be read.")


@key.command("show")
@click.argument("path", type=PATH)
@json_option
def key_show(path: Path, as_json: bool) -> None:
    """Print the fingerprint of the key in PATH, never the key.

    \b
    Example: encmixer key show owner.key
    """
    fingerprint = load_key(str(path)).fingerprint
    report({"path": str(path), "fingerprint": fingerprint}, as_json, lambda: fingerprint)
