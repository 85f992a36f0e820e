"""Somebody who has the encrypted model and the plain weights that it was made from, or weights related to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.stem_matching import match_rows
from timm_encmixer.audit.pipeline import stem_rows
from timm_encmixer.audit.recovery import RecoveredKey


@dataclass(frozen=True, kw_only=True)
class PublicBaseWeights(Attack):
    """The columns of two stems, matched; with noise on the owner's stem to see how unlike they may be."""

    name = "public_base_weights"
    place = 50
    attacker = "somebody who has the encrypted model and public weights that it was made from"
    material: ClassVar[tuple[str, ...]] = ("encrypted_model", "base_model")
    citation = "our own"
    curve = Curve(
        "noise", "noise on the stem, in standard deviations of its weights", (4, 2, 1, 0.5, 0), (8, 4, 2, 1, 0.5, 0), False
    )
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has the key at once: never encrypt a model whose plain weights, or relatives of them, are public.",
        PARTLY: "Gets part of the key: the public weights are distant relatives.",
        HOLDS: "Does not get the key: these weights are no relatives.",
    }
    advice = (
        "Train weights of your own, the stem from random ones (fine-tuning public ones is not enough), and "
        "keep the plain ones to yourself."
    )

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match the stems."""
        plain, encrypted = (stem_rows(model, held.scheme) for model in (held.base_model, held.encrypted_model))
        return RecoveredKey(match_rows(plain, encrypted, held.scheme))
