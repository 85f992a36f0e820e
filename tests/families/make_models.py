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
from timm.models._registry import _deprecated_models  # there is no public way to the names that timm has given up

from timm_encmixer.models import families
from timm_encmixer.models.support import TABLE as TABLE_NAME
from timm_encmixer.models.support import Support, Table

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "timm_encmixer" / "models" / TABLE_NAME
OWN = ["convmixer_256_8_ks5_p4"]  # plain architectures that this package adds
ALIASES = ["convmixer_custom", *_deprecated_models]  # names that work and are not listed
PAGE = ROOT / "docs" / "models.md"

HEAD = """# Models

`make models` wrote this page from timm {version}; do not edit it. `encmixer models` searches the same list, and
`tests/families` checks it.

timm has {all} architectures. {supported} of them read the image through one patch convolution and nothing else. These can be
encrypted exactly. {scrambled} of these may also have their blocks scrambled (`--cipher shuffle+negpos+scramble`). The others
are refused with a reason. No model was looked up by name. Each was examined: its geometry, and the image followed through a
forward pass ([ADR 10](adr/0010-the-image-is-followed-not-believed.md)).

## Encrypted

By class of timm. *Constant* is the tensor that takes the constant of the normalisation: the stem's bias, or, if the stem has
none, the named tensor. "none needed" means that the plain mean is 1/2. *Scramble* says whether the blocks may be scrambled.
"""


def main() -> None:
    """Write both files."""
    names = families.all_names()
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        found = list(pool.map(families.examine, names, chunksize=20))
    TABLE.write_text(table(found).to_json(), encoding="utf-8")
    PAGE.write_text(page(found, timm.__version__), encoding="utf-8")


def table(found: Iterable[Support]) -> Table:
    """Return the table of timm's own models, with what this package adds."""
    own = {name: families.examine(name) for name in OWN}
    return Table(timm.__version__, {support.name: support for support in found}, own, frozenset(ALIASES))


def page(found: Iterable[Support], version: str) -> str:
    """Return docs/models.md."""
    found = sorted(found, key=lambda support: support.name)
    supported = [support for support in found if support.supported]
    scrambled = [support for support in supported if not support.unscrambled]
    text = HEAD.format(version=version, all=len(found), supported=len(supported), scrambled=len(scrambled))
    for (family,), members in _grouped(supported, lambda s: (s.family,)):
        text += f"\n### {family}\n\n"
        kinds = _grouped(members, lambda s: (f"{s.patch_size}", _code(s.constant), "no" if s.unscrambled else "yes"))
        for (patch, constant, scramble), alike in kinds:
            text += f"- Blocks of {patch} px. Constant: {constant}. Scramble: {scramble}.<br>{_list(alike)}\n"
    text += "\n## Encrypted, but not scrambled\n\n"
    for (reason,), members in _grouped((s for s in supported if s.unscrambled), lambda s: (s.unscrambled,)):
        text += f"- **{reason}**:<br>{', '.join(sorted({member.family for member in members}))}\n"
    text += "\n## Refused\n\n"
    for (reason,), members in _grouped((s for s in found if s.refused), lambda s: (s.refused,)):
        text += f"- **{reason}**:<br>{_list(members)}\n"
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
