"""Somebody who has found out the key of a block and now puts the scrambled blocks in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.block_map import invert
from timm_encmixer.audit.methods.border_matching import arrange, misfits
from timm_encmixer.audit.recovery import RecoveredOrder
from timm_encmixer.ciphers.blocks import split


@dataclass(frozen=True, kw_only=True)
class Jigsaw(Attack):
    """Blocks decrypted and put together by their borders; all images share one order, so many of them solve one puzzle.

    Args:
        points: As for every attack.
        starts: Starting points of the arrangement.
    """

    starts: int = budgeted(4, 16)

    name = "jigsaw"
    place = 160
    attacker = "a collector of ciphertext images who has the key of a block, and not the order of the blocks"
    material = ("scrambled", "block_key")
    citation = "border prediction and greedy placement: Pomeranz et al., CVPR 2011; over many images of one order: our own"
    curve = Curve("scrambled", "ciphertext images", (1, 5, 25, 100), (1, 2, 5, 10, 25, 100, 250))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Puts the blocks of every image in order by their borders: scrambling adds nothing.",
        PARTLY: "Puts part of the blocks in order.",
        HOLDS: "Does not find the order of the blocks in this many images.",
    }
    advice = "Count scrambling as nothing where many images go out under one key."

    def attack(self, held: Held, effort: Effort) -> RecoveredOrder:
        """Undo the key of a block, then match borders."""
        channels, patch = held.scheme.in_chans, held.scheme.patch_size
        blocks = split(invert(held.block_key, held.scrambled, patch), patch)
        n, rows, columns, _ = blocks.shape
        across, down = misfits(blocks.reshape(n, rows * columns, channels, patch, patch))
        order = arrange(across, down, (rows, columns), starts=self.starts, rng=effort.rng)
        return RecoveredOrder(torch.from_numpy(order))
