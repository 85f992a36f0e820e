"""Somebody who has the encrypted model and the public weights that its owner fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass

from timm_encmixer.audit.attacks.public_base_weights import PublicBaseWeights
from timm_encmixer.audit.effort import Curve


@dataclass(frozen=True, kw_only=True)
class FinetunedBaseWeights(PublicBaseWeights):
    """The same after the owner has fine-tuned the whole model."""

    name = "finetuned_base_weights"
    place = 60
    attacker = "somebody who has the encrypted model and the public weights that it was fine-tuned from"
    material = ("encrypted_model", "base_model", "labelled")
    curve = Curve("epochs", "epochs of fine-tuning by the owner", (0, 2), (0, 5, 20), False)
    work = 1.9
