"""encmixer demo and encmixer eval: figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from timm_encmixer.cli.early import folder_or_none, look_up, refuse_other_key
from timm_encmixer.cli.options import (
    arch_option,
    cipher_option,
    device_option,
    json_option,
    key_option,
    label_column_option,
    limit_option,
    model_option,
    report,
)
from timm_encmixer.cli.words import PATH, PATH_TEXT
from timm_encmixer.keys import SecretKey


@click.command()
@click.option(
    "--out", type=PATH, callback=folder_or_none, default=Path("encmixer-demo"), show_default=True, help="Folder for demo.png."
)
@json_option
def demo(out: Path, as_json: bool) -> None:
    """Show everything on bundled weights and images, with a picture.

    Nothing is fetched.

    \b
    Example: encmixer demo --out /tmp/demo
    """
    from timm_encmixer.evaluation.demo import demo_table, run_demo

    result = run_demo(out)
    evaluations = [evaluation.to_dict() for evaluation in result.evaluations]
    report(
        {"evaluations": evaluations, "seconds": result.seconds, "picture": str(result.picture)},
        as_json,
        lambda: demo_table(result),
    )


@click.command("eval")
@model_option("Plain or encrypted model: timm name, hf-hub:ID or folder.", required=True)
@key_option
@click.option(
    "--data",
    "--images",
    required=True,
    metavar="SRC",
    type=PATH_TEXT,
    help="Folder of class folders, parquet folder or Hub data set.",
)
@click.option("--split", help="Split of a table, or folder of a split; default: test, else validation, else train.")
@label_column_option
@click.option("--wrong-keys", type=click.IntRange(min=0), default=0, show_default=True, help="How many wrong keys to try.")
@cipher_option
@limit_option
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@device_option
@arch_option
@json_option
def evaluate_command(
    model: str,
    key: SecretKey,
    data: str,
    split: str | None,
    label_column: str | None,
    device: str,
    arch: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure accuracy: plain, right key, no key, and wrong keys. --cipher is for a plain model.

    \b
    Example: encmixer eval --model encrypted --key owner.key --data test-images --wrong-keys 5
    """
    from timm_encmixer.images.data_source import find_data

    find_data(data)
    source = look_up(model)
    refuse_other_key(source, key)
    from timm_encmixer.checkpoints.loading import load_model
    from timm_encmixer.evaluation.accuracy import evaluate, evaluation_table
    from timm_encmixer.images.labelled import open_labelled_images

    images = open_labelled_images(data, split=split, label_column=label_column)
    result = evaluate(load_model(source, arch=arch, device=device), key, images, **options)
    chosen = getattr(images, "split", None)
    value = {"data": data, **({"split": chosen} if chosen else {}), **result.to_dict()}
    report(value, as_json, lambda: evaluation_table(result) + (f"\n  split {chosen}" if chosen else ""))
