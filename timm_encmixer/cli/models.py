"""encmixer models: which of timm's models can be encrypted."""

from __future__ import annotations

from typing import Any

import click

from timm_encmixer.cli.options import json_option, plain_text, report
from timm_encmixer.cli.words import PATTERN

_COLUMNS = ("name", "class", "patch side", "constant", "scrambling")


@click.command("models")
@click.argument("pattern", default="*", type=PATTERN)
@click.option("--search", default="", metavar="TEXT", help="Only rows that contain it: a class, pos_embed, 14 px, a reason.")
@click.option("--scramble", is_flag=True, help="Only models whose blocks can be scrambled.")
@click.option("--etc", is_flag=True, help="Only models whose ciphertext may travel as JPEG: blocks of 8, 16, 24 or 32 px.")
@click.option("--refused", is_flag=True, help="The models that cannot be encrypted, and why.")
@json_option
def models(pattern: str, search: str, scramble: bool, etc: bool, refused: bool, as_json: bool) -> None:
    """List which of timm's models can be encrypted.

    PATTERN is as for timm.list_models: 'vit_*'. Of each model: class, patch side, where the constant of the normalisation
    goes, and whether blocks can be scrambled.

    \b
    Example: encmixer models 'vit_*' --search pos_embed
    """
    from timm_encmixer.evaluation.columns import text_table
    from timm_encmixer.models.listing import find

    if (scramble or etc) and refused:
        raise click.UsageError(f"give either --{'scramble' if scramble else 'etc'} or --refused")
    found = [support for support in find(pattern, search=search) if support.supported != refused]
    found = [support for support in found if not (scramble and support.unscrambled)]
    found = [support for support in found if support.takes_jpeg or not etc]
    rows = [_row(support) for support in found]
    last = f"{len(found)} {'refused' if refused else 'can be encrypted'}"
    if not found and not refused and find(pattern, search=search):
        last = f"{last}; --refused shows those that cannot, with the reasons"
    report([support.to_dict() for support in found], as_json, lambda: "\n".join([*text_table(rows, left=len(_COLUMNS)), last]))


def _row(support: Any) -> list[str]:
    """Return the cells of one model, in the order of `_COLUMNS`; of a refused one only the first two and the reason."""
    if support.refused:
        return [support.name, support.family, plain_text(support.refused)]
    constant = support.constant if support.constant in ("bias", "none needed") else f"constant in {support.constant}"
    scramble = f"no scramble: {support.unscrambled}" if support.unscrambled else "scramble"
    return [support.name, support.family, f"{support.patch_size} px", constant, scramble]
