"""The `encmixer` command: parse, call, print. What takes seconds to import is imported by the command that needs it."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from timm_encmixer.errors import EncMixerError, KeyFormatError, KeyPermissionWarning
from timm_encmixer.scheme import CIPHERS, DEFAULT_CIPHER

CHECK_FAILED, BAD_INPUT = 1, 2
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse a comma-separated list of numbers."""
    try:
        return None if value is None else tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no comma-separated list of numbers") from error


_key = click.option("--key", "-k", metavar="FILE", help="Key file; default: the file that TIMM_ENCMIXER_KEY names.")
_cipher = click.option("--cipher", type=click.Choice(CIPHERS), default=DEFAULT_CIPHER, show_default=True)
_force = click.option("--force", is_flag=True, help="Replace what is there already.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_arch = click.option("--arch", metavar="NAME", help="timm name of the architecture of a .safetensors file.")


class _Commands(click.Group):
    """The top group; makes Ctrl-C an error like others, before click prints an empty line of its own for it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.ClickException("interrupted; nothing half-written is left, run the command again") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timm-encmixer")
def cli() -> None:
    """Key-based encryption of ConvMixer models and images.

    An encrypted model computes on encrypted images what the plain model computes on plain ones. This is access control and
    visual obfuscation at no cost, not confidentiality: read docs/security.md.
    """


@cli.command()
@click.option("--out", type=Path, default=Path("encmixer-demo"), show_default=True, help="Folder for demo.png.")
@_json
def demo(out: Path, as_json: bool) -> None:
    """The whole story on bundled weights and images, offline, with a picture.

    \b
    Example: encmixer demo --out /tmp/demo
    """
    from timm_encmixer.demo import run_demo, table

    result = run_demo(out)
    evaluations = [evaluation.to_dict() for evaluation in result.evaluations]
    _print(
        {"evaluations": evaluations, "seconds": result.seconds, "picture": str(result.picture)}, as_json, lambda: table(result)
    )


@cli.group()
def key() -> None:
    """Make and look at key files."""


@key.command("new")
@click.argument("path", type=Path)
def key_new(path: Path) -> None:
    """Write a new key to PATH, readable by you alone; an existing file is never overwritten.

    \b
    Example: encmixer key new owner.key
    """
    from timm_encmixer.keys import SecretKey

    secret = SecretKey.generate()
    secret.save(path)
    click.echo(f"{path}: key {secret.fingerprint}. Keep a copy: without it encrypted images cannot be read.")


@key.command("show")
@click.argument("path", type=Path)
@_json
def key_show(path: Path, as_json: bool) -> None:
    """Print the fingerprint of the key in PATH, never the key.

    \b
    Example: encmixer key show owner.key
    """
    fingerprint = _load_key(str(path)).fingerprint
    _print({"path": str(path), "fingerprint": fingerprint}, as_json, lambda: fingerprint)


@cli.group()
def model() -> None:
    """Encrypt, decrypt, rotate, verify and look at models."""


@model.command("encrypt")
@click.argument("src")
@click.argument("dst", type=Path)
@_key
@_cipher
@click.option("--arch", metavar="NAME", help="timm name whose normalisation and stem a .safetensors file has.")
@click.option("--mean", callback=_numbers, metavar="M,M,M", help="Plain normalisation, one per channel.")
@click.option("--std", callback=_numbers, metavar="S,S,S", help="Plain normalisation, one per channel.")
@click.option("--first-conv", metavar="NAME", help="Name of the stem convolution, for example stem.0.")
@_force
@_json
def model_encrypt(src: str, dst: Path, key: str | None, as_json: bool, **options: Any) -> None:
    """Encrypt the plain model SRC to DST.

    SRC is a timm model name, hf-hub:ID, a folder with config.json, or a .safetensors file (with --arch, or --mean and --std).

    \b
    Example: encmixer model encrypt encmixer_256_8_ks5_p4.cifar10 encrypted --key owner.key
    """
    from timm_encmixer.checkpoint import encrypt_checkpoint
    from timm_encmixer.sources import find_source, public_weights_warning

    secret, source = _load_key(key), find_source(src)
    scheme = encrypt_checkpoint(source.path, dst, secret, **options)
    click.echo(f"warning: {public_weights_warning(source)}", err=True)
    _print(
        {"target": str(dst), "encmixer": scheme.to_dict()},
        as_json,
        lambda: f"{dst}: encrypted with key {scheme.fingerprint} ({scheme.cipher})",
    )


@model.command("decrypt")
@click.argument("src")
@click.argument("dst", type=Path)
@_key
@_force
@_json
def model_decrypt(src: str, dst: Path, key: str | None, force: bool, as_json: bool) -> None:
    """Decrypt the model SRC (a folder, hf-hub:ID or .safetensors file) to DST.

    \b
    Example: encmixer model decrypt encrypted plain --key owner.key
    """
    from timm_encmixer.checkpoint import decrypt_checkpoint
    from timm_encmixer.sources import find_source

    scheme = decrypt_checkpoint(find_source(src).path, dst, _load_key(key), force=force)
    _print({"target": str(dst), "was": scheme.to_dict()}, as_json, lambda: f"{dst}: plain again")


@model.command("rotate")
@click.argument("src")
@click.argument("dst", type=Path)
@_key
@click.option("--new-key", required=True, metavar="FILE", help="File of the key to change to.")
@_force
@_json
def model_rotate(src: str, dst: Path, key: str | None, new_key: str, force: bool, as_json: bool) -> None:
    """Change the key of the encrypted model SRC, without the plain weights, and write it to DST.

    \b
    Example: encmixer model rotate encrypted rotated --key owner.key --new-key next.key
    """
    from timm_encmixer.checkpoint import rotate_checkpoint
    from timm_encmixer.sources import find_source

    scheme = rotate_checkpoint(find_source(src).path, dst, _load_key(key), _load_key(new_key), force=force)
    _print(
        {"target": str(dst), "encmixer": scheme.to_dict()}, as_json, lambda: f"{dst}: encrypted with key {scheme.fingerprint}"
    )


@model.command("verify")
@click.argument("plain")
@click.argument("encrypted")
@_key
@click.option("--images", required=True, type=Path, metavar="DIR", help="Folder of plain images.")
@click.option("--limit", type=click.IntRange(min=1), help="Use the first so many images.")
@_arch
@_json
def model_verify(
    plain: str, encrypted: str, key: str | None, images: Path, limit: int | None, arch: str | None, as_json: bool
) -> None:
    """Compare the logits of ENCRYPTED on encrypted images with those of PLAIN on plain ones; exit 1 if they differ.

    \b
    Example: encmixer model verify plain encrypted --key owner.key --images photos
    """
    from timm_encmixer.image_files import open_folder
    from timm_encmixer.sources import load_model
    from timm_encmixer.verification import table, verify

    models = load_model(plain, arch=arch), load_model(encrypted, arch=arch)
    result = verify(*models, _load_key(key), open_folder(images, limit=limit))
    _print(result.to_dict(), as_json, lambda: table(result))
    sys.exit(0 if result.holds else CHECK_FAILED)


@model.command("info")
@click.argument("src")
@_json
def model_info(src: str, as_json: bool) -> None:
    """Say what SRC is: architecture, and the record of its encryption if it has one.

    \b
    Example: encmixer model info encrypted
    """
    from timm_encmixer.sources import describe, find_source

    info = describe(find_source(src).path)
    _print(info, as_json, lambda: "\n".join(f"{name}: {_plain(value)}" for name, value in info.items()))


@cli.group()
def images() -> None:
    """Encrypt and decrypt image files and folders."""


@images.command("encrypt")
@click.argument("src", type=Path)
@click.argument("dst", type=Path)
@_key
@click.option("--model", "-m", required=True, help="Encrypted model the images are for: folder, file or hf-hub:ID.")
@click.option("--no-resize", is_flag=True, help="Keep sizes that are multiples of the block.")
@_force
@_json
def images_encrypt(src: Path, dst: Path, key: str | None, model: str, no_resize: bool, force: bool, as_json: bool) -> None:
    """Encrypt the image or folder SRC to PNG at DST, for the client to send away.

    What is at DST already is kept, so an interrupted run can be taken up again. Metadata is dropped.

    \b
    Example: encmixer images encrypt photos ciphertext --key owner.key --model encrypted
    """
    from timm_encmixer.image_files import encrypt_images

    counts = encrypt_images(src, dst, _load_key(key), model, resize=not no_resize, force=force)
    _print_counts(counts, as_json)


@images.command("decrypt")
@click.argument("src", type=Path)
@click.argument("dst", type=Path)
@_key
@click.option("--model", "-m", required=True, help="Encrypted model the images are for: folder, file or hf-hub:ID.")
@_force
@_json
def images_decrypt(src: Path, dst: Path, key: str | None, model: str, force: bool, as_json: bool) -> None:
    """Decrypt the ciphertext PNG or folder SRC to PNG at DST.

    \b
    Example: encmixer images decrypt ciphertext plain --key owner.key --model encrypted
    """
    from timm_encmixer.image_files import decrypt_images

    _print_counts(decrypt_images(src, dst, _load_key(key), model, force=force), as_json)


@cli.command("eval")
@click.option("--model", "-m", required=True, help="Plain or encrypted model: timm name, hf-hub:ID or folder.")
@_key
@click.option("--data", required=True, metavar="SRC", help="Folder of class folders, parquet folder or Hub data set.")
@click.option("--split", help="Split of a table; default: test, else validation, else train.")
@click.option("--wrong-keys", type=click.IntRange(min=0), default=0, show_default=True, help="How many wrong keys to try.")
@_cipher
@click.option("--limit", type=click.IntRange(min=1), help="Use the first so many images.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@_arch
@_json
def evaluate_command(
    model: str, key: str | None, data: str, split: str | None, arch: str | None, as_json: bool, **options: Any
) -> None:
    """Measure accuracy: plain, right key, no key, and wrong keys. --cipher is for a plain model.

    \b
    Example: encmixer eval --model encrypted --key owner.key --data test-images --wrong-keys 5
    """
    from timm_encmixer.data import open_labelled_images
    from timm_encmixer.evaluation import evaluate, table
    from timm_encmixer.sources import load_model

    result = evaluate(load_model(model, arch=arch), _load_key(key), open_labelled_images(data, split=split), **options)
    _print(result.to_dict(), as_json, lambda: table(result))


def _load_key(path: str | None) -> Any:
    """Load a key; like ssh, refuse a file that others can read, where the Python API warns."""
    from timm_encmixer.keys import find_key

    with warnings.catch_warnings():
        warnings.simplefilter("error", KeyPermissionWarning)
        try:
            return find_key(path, where="--key")
        except KeyPermissionWarning as warning:
            where = str(warning).partition(":")[0]
            raise KeyFormatError(
                where, "a key file for your eyes only", "one that others can read", f"run: chmod 600 {where}"
            ) from None


def _print(value: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    click.echo(json.dumps(value, indent=2) if as_json else text())


def _print_counts(counts: Any, as_json: bool) -> None:
    value = {"written": counts.written, "kept": counts.kept, "passed_over": counts.passed_over}
    _print(value, as_json, lambda: ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in value.items()))


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def main() -> None:
    """Run the command line: exit code 0 done, 1 a check did not hold, 2 bad input with one line on stderr."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context is not None else ""
        _fail(" ".join(error.format_message().split()) + hint)
    except EncMixerError as error:
        _fail(str(error))
    except OSError as error:
        got = error.strerror or str(error)
        _fail(f"{error.filename or 'output'}: expected a file to use, got {got}; check the path and the free space")


def _fail(message: str) -> None:
    click.echo(f"encmixer: error: {message}", err=True)
    sys.exit(BAD_INPUT)
