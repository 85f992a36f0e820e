"""Somebody who looks at ciphertext images pixel by pixel: what negatives and orders of channels leave as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import RecoveredImages


@dataclass(frozen=True, kw_only=True)
class FeatureReconstruction(Attack):
    """How far each pixel is from mid-grey, on average over its channels.

    Negatives and orders of channels leave this number as it is, whatever the key is, also where each image has a key of its
    own. It shows edges and texture where the pixels are in their places.
    """

    name = "feature_reconstruction"
    place = 150
    attacker = "somebody who looks at ciphertext images pixel by pixel"
    material = ("ciphertexts",)
    citation = "after the feature reconstruction attack of Chang and Li (arXiv 2004.13263)"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image, one at a time and without any key.",
        PARTLY: "Sees what images show, one at a time and without any key.",
        HOLDS: "Sees nothing in single pixels.",
    }
    advice = "Do not leave pixels in their places, whatever else is done to them."
    work = 0.5

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Fold negatives."""
        return RecoveredImages(_folded)


def _folded(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] of equal channels, brightest where a pixel is furthest from mid-grey."""
    return (2 * (images.float() - 0.5).abs()).mean(dim=1, keepdim=True).expand_as(images)
