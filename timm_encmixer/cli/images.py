"""encmixer images: encrypt and decrypt image files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from timm_encmixer.cli.options import (
    force_option,
    images_for_option,
    json_option,
    key_option,
    load_key,
    no_resize_option,
    report,
)


@click.group()
def images() -> None:
    """Encrypt and decrypt image files and folders."""


@images.command("encrypt")
@click.argument("src", type=Path)
@click.argument("dst", type=Path)
@key_option
@images_for_option
@no_resize_option
@force_option
@json_option
def images_encrypt(src: Path, dst: Path, key: str | None, model: str, no_resize: bool, force: bool, as_json: bool) -> None:
    """Encrypt the image or folder SRC to PNG at DST, for the client to send away.

    What is at DST already is kept, so an interrupted run can be taken up again. Metadata is dropped.

    \b
    Example: encmixer images encrypt photos ciphertext --key owner.key --model encrypted
    """
    from timm_encmixer.images.encryption import encrypt_images

    counts = encrypt_images(src, dst, load_key(key), model, resize=not no_resize, force=force)
    _report_counts(counts, as_json)


@images.command("decrypt")
@click.argument("src", type=Path)
@click.argument("dst", type=Path)
@key_option
@images_for_option
@force_option
@json_option
def images_decrypt(src: Path, dst: Path, key: str | None, model: str, force: bool, as_json: bool) -> None:
    """Decrypt the ciphertext PNG or folder SRC to PNG at DST.

    \b
    Example: encmixer images decrypt ciphertext plain --key owner.key --model encrypted
    """
    from timm_encmixer.images.encryption import decrypt_images

    _report_counts(decrypt_images(src, dst, load_key(key), model, force=force), as_json)


def _report_counts(counts: Any, as_json: bool) -> None:
    value = {"written": counts.written, "kept": counts.kept, "passed_over": counts.passed_over}
    report(value, as_json, lambda: ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in value.items()))
