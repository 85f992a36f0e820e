"""Somebody who can have images of their choice encrypted, once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.alignment import polar
from timm_encmixer.audit.recovery import RecoveredKey
from timm_encmixer.ciphers.blocks import join, split


@dataclass(frozen=True, kw_only=True)
class ChosenPlaintext(Attack):
    """One block per position, white at that position and black elsewhere, and one black block: their differences are A."""

    name = "chosen_plaintext"
    place = 90
    attacker = "somebody who can have images of their choice encrypted"
    material = ("oracle",)
    citation = "our own; any linear map is read off its values on a basis"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has the key after one look.",
        PARTLY: "Gets part of the key.",
        HOLDS: "Does not get the key.",
    }
    advice = "Never encrypt other people's images with your key where they can see the result."

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Ask for a basis."""
        scheme, patch = held.scheme, held.scheme.patch_size
        assert scheme.plain is not None  # the record of an encrypted model
        channels, height, width = scheme.plain.input_size
        per_image = (height // patch) * (width // patch)
        count = math.ceil((scheme.block_size + 1) / per_image)
        blocks = torch.zeros(count * per_image, scheme.block_size, dtype=torch.uint8)
        blocks[: scheme.block_size].fill_diagonal_(255)
        asked = join(blocks.reshape(count, height // patch, width // patch, -1), channels, patch)
        answers = split(held.oracle(asked).double(), patch).reshape(count * per_image, -1)
        return RecoveredKey(polar((answers[: scheme.block_size] - answers[scheme.block_size]).T))

    def details(self, held: Held) -> dict[str, float]:
        """How many images were asked for."""
        return {"images asked for": held.oracle.asked}
