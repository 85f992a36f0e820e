"""Somebody who looks at ciphertext images: what a block's brightness alone shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.statistics import block_statistics
from timm_encmixer.audit.recovery import RecoveredImages
from timm_encmixer.ciphers.blocks import split


@dataclass(frozen=True, kw_only=True)
class Thumbnail(Attack):
    """One grey value per block, or one colour.

    A shuffle keeps the mean of a block, and a shuffle within colour channels keeps the mean of each channel. Under every
    orthogonal map the first principal component of ciphertext blocks is that of plain blocks, multiplied by A. It is nearly the
    mean brightness, up to a sign that is decided by light coming from above.
    """

    name = "thumbnail"
    place = 140
    recover_rank = 4
    attacker = "somebody who looks at ciphertext images"
    material = ("ciphertexts",)
    citation = (
        "block means: well known; principal components: our own, in the spirit of the feature reconstruction attack of "
        "Chang and Li (arXiv 2004.13263)"
    )
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Sees a thumbnail of every image, one pixel per block; at 224 px a face can be recognised.",
        PARTLY: "Sees a blurred thumbnail of every image, one pixel per block.",
        HOLDS: "Sees nothing in the brightness of blocks.",
    }
    advice = "Do not send images whose outlines must not be seen; the larger the image, the more its thumbnail shows."

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Find the direction of brightness once, from all ciphertexts."""
        patch = held.scheme.patch_size
        if held.scheme.facts.keeps_means:
            colours = 1 if held.scheme.facts.mixes_channels else held.scheme.in_chans
            return RecoveredImages(lambda seen: _means(seen, patch, colours), thumbnail=True)
        direction, middle, scale = _brightness(held.ciphertexts, patch)
        return RecoveredImages(
            lambda seen: ((split(seen.double(), patch) - middle) @ direction * scale + 0.5)[:, None], thumbnail=True
        )


def _means(ciphertexts: Tensor, patch: int, colours: int) -> Tensor:
    """Return the mean of each block, shape (N, 1, H/P, W/P), or of each of its channels, shape (N, C, H/P, W/P)."""
    means = torch.nn.functional.avg_pool2d(ciphertexts.double(), patch)
    return means if colours > 1 else means.mean(dim=1, keepdim=True)


def _brightness(ciphertexts: Tensor, patch: int) -> tuple[Tensor, Tensor, float]:
    """Return the direction in block space that shows brightness, the mean block, and a scale for pictures in [0, 1]."""
    blocks = split(ciphertexts.double(), patch)
    size = blocks.shape[-1]
    statistics = block_statistics([blocks - 0.5])
    direction = torch.linalg.eigh(statistics.within)[1][:, -1]
    if float(statistics.light @ direction) < 0:
        direction = -direction
    return direction, statistics.mean + 0.5, size**-0.5
