"""Examine every architecture of timm, and write what was found: models/families.json and docs/models.md (`make models`).

Without memory for weights: on the meta device. tests/families/test_sweep.py examines them again and compares.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import timm
import torch

from timm_encmixer.models import families
from timm_encmixer.models.families import Support

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "timm_encmixer" / "models" / families.TABLE
PAGE = ROOT / "docs" / "models.md"

HEAD = """# Models

Written by `make models` from timm {version}; do not edit. `encmixer models` searches it, `tests/families` checks it.

Of timm's {all} architectures {supported} read the image through one patch convolution and nothing else, and can be encrypted
exactly. {scrambled} of these may also have their blocks scrambled (`--cipher shuffle+negpos+scramble`). The others are
refused, with the reason. Each was examined, not looked up: its geometry, and the image followed through a forward pass
([adr/0010](adr/0010-the-image-is-followed-not-believed.md)).

## Encrypted

*Constant* is where the constant of the normalisation goes: into the stem's bias, or, where it has none, into the tensor that is
named; "none needed" where the plain mean is 1/2. *Scramble* says whether the blocks may be scrambled.

| class | patch | constant | scramble | models |
|---|---|---|---|---|
"""


def main() -> None:
    """Write both files."""
    names = families.all_names()
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        found = list(pool.map(families.examine, names, chunksize=20))
    TABLE.write_text(families.to_json(found), encoding="utf-8")
    PAGE.write_text(page(found, timm.__version__), encoding="utf-8")


def page(found: Iterable[Support], version: str) -> str:
    """Return docs/models.md."""
    found = sorted(found, key=lambda support: support.name)
    supported = [support for support in found if support.supported]
    scrambled = [support for support in supported if not support.unscrambled]
    text = HEAD.format(version=version, all=len(found), supported=len(supported), scrambled=len(scrambled))
    rows = _grouped(supported, lambda s: (s.family, f"{s.patch_size}", _code(s.constant), "no" if s.unscrambled else "yes"))
    text += "".join(f"| {' | '.join(row)} | {_list(members)} |\n" for row, members in rows)
    text += "\n## Encrypted, but not scrambled\n\n| why not | classes |\n|---|---|\n"
    for (reason,), members in _grouped((s for s in supported if s.unscrambled), lambda s: (s.unscrambled,)):
        text += f"| {reason} | {', '.join(sorted({member.family for member in members}))} |\n"
    text += "\n## Refused\n\n| why | models |\n|---|---|\n"
    for (reason,), members in _grouped((s for s in found if s.refused), lambda s: (s.refused,)):
        text += f"| {reason} | {_list(members)} |\n"
    return text


def _grouped(found: Iterable[Support], by: Callable[[Support], tuple[str, ...]]) -> list[tuple[tuple[str, ...], list[Support]]]:
    groups: dict[tuple[str, ...], list[Support]] = defaultdict(list)
    for support in found:
        groups[by(support)].append(support)
    return sorted(groups.items())


def _code(constant: str) -> str:
    return constant if constant in ("bias", "none needed") else f"`{constant}`"


def _list(members: Iterable[Support]) -> str:
    return ", ".join(member.name for member in members)


if __name__ == "__main__":
    main()
