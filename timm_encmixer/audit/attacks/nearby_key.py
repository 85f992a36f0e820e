"""Somebody who has the encrypted model and knows part of its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import GuessedMatrices


@dataclass(frozen=True, kw_only=True)
class NearbyKey(Attack):
    """Accuracy of keys that agree with the right one in part: a key should not be worth approaching.

    Args:
        points: As for every attack.
        tries: Keys for each share.
    """

    tries: int = budgeted(3, 10)

    name = "nearby_key"
    place = 190
    attacker = "somebody who has the encrypted model and knows three quarters of the key's positions"
    material = ("encrypted_model", "labelled", "keys_in_part")
    citation = "Iijima and Kiya (arXiv 2207.11939), section 4, on wrong keys; our own for keys in part"
    curve = Curve(
        "agreement", "share of right positions", (1, 0.9, 0.5, 0.25, 0.75), (1, 0.95, 0.9, 0.8, 0.5, 0.25, 0, 0.75), False
    )
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Uses the model as if with the whole key: it can be found piece by piece.",
        PARTLY: "Gets an impaired use of the model: accuracy returns gradually, so a key can be found piece by piece.",
        HOLDS: "Cannot use the model: a key that is right in part is worth little.",
    }
    advice = "Count a key that is known in part as known, and rotate it."
    work = 1.0

    def attack(self, held: Held, effort: Effort) -> GuessedMatrices:
        """Fill in the rest at random, a few times."""
        return GuessedMatrices(held.keys_in_part(held.setting["agreement"], self.tries))
