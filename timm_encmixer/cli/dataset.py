"""encmixer dataset: encrypt, decrypt and describe whole data sets."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timm_encmixer.cli.early import folder_or_none, is_alone, load_key, look_up, many_processes
from timm_encmixer.cli.options import (
    CHECK_FAILED,
    format_option,
    images_for_option,
    json_option,
    key_if_alone_option,
    model_option,
    no_resize_option,
    plain_text,
    public_option,
    quality_option,
    report,
    strict_option,
    token_option,
)
from timm_encmixer.cli.words import PATH_OR_URL, PATH_TEXT, Choice, Commands
from timm_encmixer.keys import KeyLike

if TYPE_CHECKING:
    from timm_encmixer.checkpoints.sources import SourceLike


_PROCESSES = ("--workers", "--worker", "--num-workers", "--num-proc", "--processes", "--jobs")  # as others call them


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that encrypt and decrypt have in common."""
    options = [
        click.option(
            "--image-column", "image_columns", multiple=True, metavar="NAME", help="Repeatable; default: all of them."
        ),
        click.option("--include", multiple=True, metavar="GLOB", help="Shards to take; repeatable; default: all of them."),
        click.option(
            "--on-error",
            type=Choice(["stop", "skip", "quarantine"]),
            default="stop",
            show_default=True,
            help="What to do with an image that cannot be used; quarantine keeps it, plain, in DST.quarantine.",
        ),
        click.option("--png-level", type=click.IntRange(0, 9), help="PNG compression; default: 0 to encrypt, 1 to decrypt."),
        click.option(*_PROCESSES, "workers", type=int, expose_value=False, hidden=True, callback=many_processes),
        token_option,
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group("dataset", cls=Commands)
def dataset() -> None:
    """Encrypt and decrypt whole data sets, on one process or many."""


@dataset.command("encrypt")
@click.argument("src", type=PATH_TEXT)
@click.argument("dst", type=PATH_OR_URL, callback=folder_or_none)
@key_if_alone_option
@images_for_option
@no_resize_option
@format_option
@quality_option
@click.option("--push", metavar="REPO_ID", help="Push the result to the Hub as this data set; private unless --public.")
@public_option
@_shared
def dataset_encrypt(
    src: str,
    dst: Path,
    key: KeyLike | None,
    model: str,
    no_resize: bool,
    push: str | None,
    public: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Encrypt the data set SRC to DST.

    DST has the kind, columns, labels, splits and shards of SRC; its images are ciphertext. SRC is a Hub data set
    (owner/name), a folder (parquet, save_to_disk, images or WebDataset tars) or a URL that fsspec reads. Run it again after
    an interruption and it goes on. accelerate runs it on several processes: accelerate launch --multi_gpu --num_processes N
    --num_machines 1 -m timm_encmixer dataset encrypt ...

    \b
    Example: encmixer dataset encrypt photos ciphertext --key owner.key --model encrypted
    """
    source = _look_up(src, model, options["token"])
    from timm_encmixer.datasets import encrypt_dataset, push_dataset
    from timm_encmixer.distributed.processes import from_main

    secret = _key_of_main(key)
    value = dataclasses.asdict(encrypt_dataset(src, dst, secret, source, resize=not no_resize, **options))
    if push is not None:
        token = options["token"]
        commit = from_main(lambda: push_dataset(dst, push, key=secret, private=not public, token=token))
        value["url"] = commit.commit_url
    _report(value, as_json)


@dataset.command("decrypt")
@click.argument("src", type=PATH_TEXT)
@click.argument("dst", type=PATH_OR_URL, callback=folder_or_none)
@key_if_alone_option
@model_option("Whose record to use; default: the one in the data set's manifest.", encrypted=True)
@strict_option
@_shared
def dataset_decrypt(src: str, dst: Path, key: KeyLike | None, model: str | None, as_json: bool, **options: Any) -> None:
    """Decrypt the data set SRC to DST.

    The images are what the plain model reads, pixel for pixel.

    \b
    Example: encmixer dataset decrypt ciphertext plain --key owner.key
    """
    source = _look_up(src, model, options["token"])
    from timm_encmixer.datasets import decrypt_dataset

    _report(dataclasses.asdict(decrypt_dataset(src, dst, _key_of_main(key), source, **options)), as_json)


@dataset.command("info")
@click.argument("src", type=PATH_TEXT)
@click.option("--verify", is_flag=True, help="Compare with manifest and source, and read it; exit 1 if it differs.")
@token_option
@json_option
def dataset_info(src: str, verify: bool, token: str | None, as_json: bool) -> None:
    """Say what SRC is, and how far it is encrypted.

    Prints its kind and shards, how far a run is, and the record of the encryption if there is one.

    \b
    Example: encmixer dataset info ciphertext --verify
    """
    _look_up(src, None, token)
    from timm_encmixer.datasets import describe_dataset, verify_dataset

    info = describe_dataset(src, token=token)
    checked = verify_dataset(src) if verify else None
    if checked is not None:
        info |= {"verified": checked.holds, "differing": list(checked.differing)}
        info |= {"source_compared": checked.source_compared, "source_differing": list(checked.source_differing)}
        info |= {"unreadable": list(checked.unreadable)}
    report(info, as_json, lambda: "\n".join(f"{name}: {plain_text(value)}" for name, value in info.items()))
    sys.exit(0 if checked is None or checked.holds else CHECK_FAILED)


def _look_up(src: str, model: str | None, token: str | None) -> SourceLike | None:
    """Find out whether source and model are there, and return what the model's name means.

    Many processes do that when they have met, so that they fail together; for them the name is returned.
    """
    from timm_encmixer.datasets.sources import open_source

    if not is_alone():
        return model
    open_source(src, token=token)
    return None if model is None else look_up(model)


def _key_of_main(key: KeyLike | None) -> Any:
    """Load the key on the main process alone; the others get it from there."""
    from timm_encmixer.datasets import join_processes
    from timm_encmixer.distributed import on_every_process

    main = join_processes().is_main_process
    return on_every_process(lambda: load_key(key) if main else None)


def _report(value: dict[str, Any], as_json: bool) -> None:
    """Print on the main process what was done, and leave the run."""
    from timm_encmixer.distributed import leave
    from timm_encmixer.distributed.processes import joined_state

    if joined_state().is_main_process:
        report(value, as_json, lambda: ", ".join(_words(name, item) for name, item in value.items() if _is_told(name, item)))
    leave()


def _is_told(name: str, item: Any) -> bool:
    return bool(item) or name == "written"


def _words(name: str, item: Any) -> str:
    """Return a figure of a run as words: what was left out by reason, and the columns that stay plain by name."""
    if name == "left_out":
        return f"left out: {', '.join(f'{reason} {len(names)}' for reason, names in item.items())}"
    if name == "plain":
        return f"images that stay plain: {' '.join(item)}"
    return f"{name.replace('_', ' ')} {len(item) if isinstance(item, (list, tuple)) else item}"
