"""Somebody who has two models under one key. The plain weights of one of them are public."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.stem_matching import match_rows
from timm_encmixer.audit.recovery import RecoveredKey


@dataclass(frozen=True, kw_only=True)
class KeyReuse(Attack):
    """The key of the model with public weights, used on this one, whose own weights are not public."""

    name = "key_reuse"
    place = 100
    attacker = "somebody who has another model under the same key (and cipher, block side and channels) with public weights"
    material = ("other_model",)
    citation = "our own"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has this model's key from the other one.",
        PARTLY: "Gets part of the key from the other model.",
        HOLDS: "Does not get the key from the other model.",
    }
    advice = "Give each model a key of its own."

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match the other model's stems."""
        return RecoveredKey(match_rows(*held.other_model, held.scheme))
