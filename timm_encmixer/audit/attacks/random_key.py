"""Somebody who has the encrypted model and tries keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import GuessedKeys
from timm_encmixer.evaluation.accuracy import wrong_key


@dataclass(frozen=True, kw_only=True)
class RandomKey(Attack):
    """Accuracy of the best of many wrong keys."""

    name = "random_key"
    place = 180
    attacker = "somebody who has the encrypted model and tries random keys"
    material = ("encrypted_model", "labelled")
    citation = "Iijima and Kiya (arXiv 2207.11939), section 4"
    curve = Curve("keys", "random keys tried", (1, 10), (1, 10, 100), amount=False)
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Uses the model: some wrong keys are as good as the right one.",
        PARTLY: "Gets an impaired use of the model: the best wrong keys keep part of its accuracy.",
        HOLDS: "Cannot use the model: even the best of these keys is not far from guessing.",
    }
    advice = "Prefer a cipher that changes the mean of a block: shuffle+negpos."
    work = 1.9

    def attack(self, held: Held, effort: Effort) -> GuessedKeys:
        """Try public wrong keys, the same each time."""
        return GuessedKeys([wrong_key(index) for index in range(int(held.setting["keys"]))])
