"""encmixer audit: attack a model and its images, and report what each attacker gets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from timm_encmixer.cli.options import (
    CHECK_FAILED,
    PATH,
    cipher_option,
    force_option,
    json_option,
    key_option,
    label_column_option,
    load_key,
    model_option,
    report,
)


class Threshold(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """ATTACK=THRESHOLD, as a pair of a name and a number from 0 to 1."""

    name = "attack=threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Split and check."""
        attack, _, number = str(value).partition("=")
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if not attack or not 0 <= threshold <= 1:
            self.fail(f"{value!r} is not ATTACK=THRESHOLD with a threshold from 0 to 1", param, ctx)
        return attack, threshold


@click.command("audit")
@model_option("Plain or encrypted model: timm name, hf-hub:ID or folder; default: the bundled one.")
@key_option
@click.option("--images", metavar="SRC", help="Images, best with labels: a folder, parquet folder or Hub data set.")
@click.option("--split", help="Split of --images; default: test, else validation, else train.")
@label_column_option
@click.option("--public-images", metavar="SRC", help="Public photos that are not among --images, likewise.")
@click.option("--public-split", help="Split of --public-images; default: train.")
@click.option("--base", metavar="MODEL", help="Public plain weights that the model was made from, as for --model.")
@click.option("--out", type=PATH, default=Path("encmixer-audit"), show_default=True, help="Folder for the report.")
@click.option(
    "--budget", type=click.Choice(["quick", "full"]), default="quick", show_default=True, help="Two minutes, or an hour."
)
@click.option(
    "--only", multiple=True, metavar="ATTACK", help="Run this attack alone; repeatable. docs/audit.md lists the names."
)
@click.option(
    "--fail-on",
    multiple=True,
    type=Threshold(),
    metavar="ATTACK=SHARE",
    help="Exit 1 if this attack recovers so much (0 to 1).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For all that is left to chance.")
@cipher_option
@force_option
@json_option
def audit_command(
    model: str | None,
    key: str | None,
    out: Path,
    only: tuple[str, ...],
    fail_on: tuple[tuple[str, float], ...],
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Attack a model and its images by every attack that the material allows, and write what each attacker gets to a folder.

    A plain model is encrypted with --cipher and a fixed public key, or --key; an encrypted one needs its --key. Without
    --images and --public-images all is offline: bundled images, and statistics of public photos that come with the package.
    The folder gets audit.html, audit.md, audit.json and pictures. It needs the extra `audit`.

    \b
    Example: encmixer audit --out report
    Example: encmixer audit --model encrypted --key owner.key --images photos --out report --fail-on weights_only=0.5
    """
    from timm_encmixer import audit

    run = audit.run  # first, because it says which extra is missing
    from timm_encmixer.audit.report import above, refuse_target, report_table
    from timm_encmixer.audit.suite import check_names
    from timm_encmixer.bundled import BUNDLED_MODEL

    check_names(only, "--only")
    check_names([name for name, _ in fail_on], "--fail-on", among=only or None)
    refuse_target(out, overwrite=force)
    result = run(model or BUNDLED_MODEL, attacks=only or None, key=load_key(key, optional=True), **options)
    result.save(out, overwrite=force)
    report(
        {"out": str(out), **result.to_dict()}, as_json, lambda: f"{report_table(result)}\nThe report is {out / 'audit.html'}"
    )
    failed = above(result, fail_on)
    for line in failed:
        click.echo(f"encmixer: {line}", err=True)
    sys.exit(CHECK_FAILED if failed else 0)
