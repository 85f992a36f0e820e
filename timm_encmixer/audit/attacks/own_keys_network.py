"""Somebody who knows the method, has no key, and trains a network on what the method does under keys of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.block_map import unit
from timm_encmixer.audit.methods.inversion import train_inverse
from timm_encmixer.audit.recovery import RecoveredImages


@dataclass(frozen=True, kw_only=True)
class OwnKeysNetwork(Attack):
    """An inverse transformation network trained under many keys: it learns what every key leaves of an image.

    Args:
        points: As for every attack.
        steps: Steps of training.
        keys: Keys of the attacker's own.
    """

    steps: int = budgeted(400, 3000)
    keys: int = budgeted(24, 200)

    name = "own_keys_network"
    place = 120
    attacker = "somebody who knows the method, and has public photos and no key"
    material = ("own_ciphers", "photos")
    citation = "our own; inverse transformation networks as evaluated by Sirichotedumrong and Kiya (arXiv 2010.06198)"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image under every key: the method itself shows them.",
        PARTLY: "Sees what images show under every key.",
        HOLDS: "Does not learn anything that holds for all keys.",
    }
    advice = "Take a method under which the key decides more of the ciphertext."
    any_shape = True
    work = 3.0

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Encrypt public photos under own keys, and train on these pairs."""
        photos, generator = held.photos, effort.generator
        met = [held.own_ciphers(index)(photos).float() for index in range(1, self.keys + 1)]

        def pairs(step: int) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(photos), (16,), generator=generator)
            return unit(photos[chosen]) - 0.5, met[step % self.keys][chosen] - 0.5

        inverse = train_inverse(pairs, held.scheme.patch_size, steps=self.steps, track=effort.track)
        return RecoveredImages(lambda seen: inverse(seen.float() - 0.5) + 0.5)
