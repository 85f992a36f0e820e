"""encmixer images: encrypt and decrypt image files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from timm_encmixer.cli.early import existing_images, look_up
from timm_encmixer.cli.options import (
    force_option,
    format_option,
    images_for_if_any_option,
    images_for_option,
    json_option,
    key_option,
    no_resize_option,
    quality_option,
    report,
    strict_option,
    workers_option,
)
from timm_encmixer.cli.words import PATH, Commands
from timm_encmixer.keys import SecretKey


@click.group(cls=Commands)
def images() -> None:
    """Encrypt and decrypt image files and folders."""


@images.command("encrypt")
@click.argument("src", type=PATH, callback=existing_images)
@click.argument("dst", type=PATH)
@key_option
@images_for_option
@no_resize_option
@format_option
@quality_option
@workers_option
@force_option
@json_option
def images_encrypt(
    src: Path, dst: Path, key: SecretKey, model: str, no_resize: bool, force: bool, as_json: bool, **written: Any
) -> None:
    """Encrypt the image or folder SRC to PNG or JPEG at DST.

    What is at DST already is kept if it is what this run would write, so an interrupted run can be taken up again; anything
    else there is an error. Metadata is dropped.

    \b
    Example: encmixer images encrypt photos ciphertext --key owner.key --model encrypted
    """
    source = look_up(model)
    from timm_encmixer.images.encryption import encrypt_images

    counts = encrypt_images(src, dst, key, source, resize=not no_resize, force=force, **written)
    _report_counts(counts, as_json)


@images.command("decrypt")
@click.argument("src", type=PATH, callback=existing_images)
@click.argument("dst", type=PATH)
@key_option
@images_for_if_any_option
@workers_option
@force_option
@strict_option
@json_option
def images_decrypt(src: Path, dst: Path, key: SecretKey, model: str | None, force: bool, strict: bool, as_json: bool) -> None:
    """Decrypt the ciphertext or folder SRC to PNG at DST.

    A ciphertext that was resized, or made with another key or model, is refused; so is a PNG whose pixels were changed.
    Without --model each file's own record says what it is.

    \b
    Example: encmixer images decrypt ciphertext plain --key owner.key
    """
    source = None if model is None else look_up(model)
    from timm_encmixer.images.encryption import decrypt_images

    _report_counts(decrypt_images(src, dst, key, source, force=force, strict=strict), as_json)


def _report_counts(counts: Any, as_json: bool) -> None:
    left_out = {reason: list(names) for reason, names in counts.left_out.items()}
    figures = {"written": counts.written, "kept": counts.kept, "passed_over": counts.passed_over}
    value = {**figures, "left_out": left_out, "unmarked": counts.unmarked}
    reasons = ", ".join(f"{reason} {len(names)}" for reason, names in left_out.items())
    told = {name: number for name, number in figures.items() if number or name == "written"}
    text = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in told.items())
    report(value, as_json, lambda: f"{text} ({reasons})" if reasons else text)
