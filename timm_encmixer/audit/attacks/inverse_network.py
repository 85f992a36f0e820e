"""Somebody who trains a network to undo the encryption, from a few images both plain and encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.inversion import block_order, reordered, side_of_block, train_inverse
from timm_encmixer.audit.recovery import RecoveredImages

_LEAST_FOR_ORDER = 8  # pairs from which the variances of blocks tell their order


@dataclass(frozen=True, kw_only=True)
class InverseNetwork(Attack):
    """An inverse transformation network that knows of the cipher only that it works on blocks.

    Args:
        points: As for every attack.
        steps: Steps of training.
        local: Look for the order of blocks first, and give each position of the image weights of its own: for ciphers that
            treat positions in different ways.
    """

    steps: int = budgeted(600, 3000)
    local: bool = False

    name = "inverse_network"
    place = 110
    attacker = "somebody who has images both plain and encrypted and trains a network on them"
    material = ("image_pairs",)
    citation = (
        "inverse transformation network attacks as evaluated by Sirichotedumrong and Kiya (arXiv 2010.06198), on networks for "
        "scrambled blocks as in Madono et al. (arXiv 2001.07761)"
    )
    curve = Curve("image_pairs", "images both plain and encrypted", (1, 10, 100), (1, 10, 100, 1000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image, without knowing the method.",
        PARTLY: "Sees what images show, without knowing the method.",
        HOLDS: "Does not learn to read images from this many pairs.",
    }
    advice = "Never let an image be seen both plain and encrypted; where it has been, rotate the key."
    work = 2.0

    any_shape = True

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Train on random images of the pairs."""
        plain, encrypted = held.image_pairs
        patch, generator = held.scheme.patch_size, effort.generator
        side = side_of_block(plain, encrypted, patch)
        order = block_order(plain, encrypted, patch) if self.local and len(plain) >= _LEAST_FOR_ORDER else None
        met = encrypted.float() if order is None else reordered(encrypted.float(), order, side)

        def pairs(step: int) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(plain), (16,), generator=generator)
            return plain[chosen] - 0.5, met[chosen] - 0.5

        inverse = train_inverse(pairs, patch, steps=self.steps, local=self.local, track=effort.track)

        def reconstruct(seen: Tensor) -> Tensor:
            seen = seen.float() if order is None else reordered(seen.float(), order, side)
            return inverse(seen - 0.5) + 0.5

        return RecoveredImages(reconstruct)
