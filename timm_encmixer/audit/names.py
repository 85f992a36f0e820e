"""The names of the attacks: those of their files. The command line needs them before it imports torch, so no file is read."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from pathlib import Path

from timm_encmixer.errors import AuditError, did_you_mean

REGISTRY = "registry"  # the one file among the attacks that is not an attack
ATTACK_NAMES = tuple(
    sorted(file.name for file in pkgutil.iter_modules([str(Path(__file__).with_name("attacks"))]) if file.name != REGISTRY)
)


def check_names(names: Iterable[str], where: str, among: Iterable[str] | None = None) -> None:
    """Raise `AuditError` for a name of no attack; with `among` for a name that is not in it."""
    allowed = ATTACK_NAMES if among is None else tuple(among)
    for name in names:
        if name not in allowed:
            remedy = did_you_mean(name, allowed, otherwise="choose among these")
            raise AuditError(where, f"names among {', '.join(allowed)}", repr(name), remedy)
