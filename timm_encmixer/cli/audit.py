"""encmixer audit: attack a model and its images, and report what each attacker gets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from timm_encmixer.audit.extra import require_extra
from timm_encmixer.audit.names import ATTACK_NAMES, check_names
from timm_encmixer.cli.early import free_target, look_up, refuse_other_key
from timm_encmixer.cli.options import (
    CHECK_FAILED,
    cipher_option,
    force_option,
    json_option,
    key_if_any_option,
    label_column_option,
    model_option,
    report,
)
from timm_encmixer.cli.words import PATH, PATH_TEXT, SOURCE, Choice, Text
from timm_encmixer.errors import MissingKeyError
from timm_encmixer.keys import SecretKey


def _attacks(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    check_names(value, "--only")
    return value


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

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the attacks whose names begin so; the number is the user's."""
        return [CompletionItem(f"{name}=") for name in ATTACK_NAMES if name.startswith(incomplete)]


@click.command("audit")
@model_option("Plain or encrypted model: timm name, hf-hub:ID or folder; default: the bundled one.")
@key_if_any_option
@click.option(
    "--images",
    "--data",
    metavar="SRC",
    type=PATH_TEXT,
    help="Images, best with labels: a folder, parquet folder or Hub data set.",
)
@click.option("--split", help="Split of --images; default: test, else validation, else train.")
@label_column_option
@click.option("--public-images", metavar="SRC", type=PATH_TEXT, help="Public photos that are not among --images, likewise.")
@click.option("--public-split", help="Split of --public-images; default: train.")
@click.option("--base", metavar="MODEL", type=SOURCE, help="Public plain weights that the model was made from, as for --model.")
@click.option(
    "--out", type=PATH, callback=free_target, default=Path("encmixer-audit"), show_default=True, help="Folder for the report."
)
@click.option("--budget", type=Choice(["quick", "full"]), default="quick", show_default=True, help="Two minutes, or an hour.")
@click.option(
    "--only",
    multiple=True,
    metavar="ATTACK",
    type=Text(lambda: ATTACK_NAMES, paths=False),
    callback=_attacks,
    help=f"Run this attack alone; repeatable. One of {', '.join(ATTACK_NAMES)}.",
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
    key: SecretKey | None,
    images: str | None,
    public_images: str | None,
    base: str | None,
    out: Path,
    only: tuple[str, ...],
    fail_on: tuple[tuple[str, float], ...],
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Attack a model and its images; report what each attacker gets.

    Every attack runs that the material allows. A plain model is encrypted with --cipher and a fixed public key, or --key; an
    encrypted one needs its --key. Without --images and --public-images all is offline: bundled images, and statistics of
    public photos that come with the package. The folder gets audit.html, audit.md, audit.json and pictures. It needs the
    extra `audit`.

    \b
    Example: encmixer audit --out report
    Example: encmixer audit --model encrypted --key owner.key --images photos --out report --fail-on weights_only=0.5
    """
    from timm_encmixer.bundled import BUNDLED_MODEL
    from timm_encmixer.images.data_source import find_data

    check_names([name for name, _ in fail_on], "--fail-on", among=only or None)
    require_extra()
    for data in filter(None, (images, public_images)):
        find_data(data)
    source, plain = look_up(model or BUNDLED_MODEL), None if base is None else look_up(base)
    if key is None and source.timm_name is None and source.record is not None:
        raise MissingKeyError(source.name, "the key of the encrypted model", "none", "pass --key")
    refuse_other_key(source, key)
    from timm_encmixer.audit import run
    from timm_encmixer.audit.report import above, refuse_target, report_table

    refuse_target(out, overwrite=force)
    what: dict[str, Any] = {"images": images, "public_images": public_images, "base": plain, "key": key}
    result = run(source, attacks=only or None, **what, **options)
    result.save(out, overwrite=force)
    report(
        {"out": str(out), **result.to_dict()}, as_json, lambda: f"{report_table(result)}\nThe report is {out / 'audit.html'}"
    )
    failed = above(result, fail_on)
    for line in failed:
        click.echo(f"encmixer: {line}", err=True)
    sys.exit(CHECK_FAILED if failed else 0)
