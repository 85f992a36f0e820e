"""Somebody who has images both plain and encrypted, and takes the whole image for one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.image_map import affords_matrix, matrix_from_pairs, places_from_pairs
from timm_encmixer.audit.methods.whole_image import bytes_of, codes_of, of_images
from timm_encmixer.audit.recovery import RecoveredImages


@dataclass(frozen=True, kw_only=True)
class ImageKnownPairs(Attack):
    """One permutation of all numbers of an image under a keystream; where that does not fit, one matrix by least squares."""

    name = "image_known_pairs"
    place = 82
    attacker = "somebody who has images both plain and encrypted, of a cipher of the whole image"
    material = ("image_pairs",)
    citation = "our own; differences of two images cancel a keystream, as in known-plaintext attacks on image ciphers"
    of_whole_images = True
    curve = Curve("image_pairs", "image pairs", (2, 8, 32), (2, 8, 32, 128, 1000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image: the whole image has one permutation, keystream or matrix, and pairs give it.",
        PARTLY: "Sees what images show by one map of the whole image.",
        HOLDS: "Finds no permutation, keystream or matrix of the whole image from this many pairs.",
    }
    advice = "Never let an image be seen both plain and encrypted; where it has been, change the key."

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Compare what the numbers did from pair to pair."""
        plain, seen = held.image_pairs
        shape = plain.shape[1:]
        places = places_from_pairs(bytes_of(plain), codes_of(seen))
        if places is not None:
            return RecoveredImages(lambda ciphertexts: of_images(places.invert(codes_of(ciphertexts)), shape))
        if not affords_matrix(plain[0].numel()):
            mean = plain.mean(dim=0)
            return RecoveredImages(lambda ciphertexts: mean.expand(len(ciphertexts), *shape))
        matrix = matrix_from_pairs(plain.flatten(1), seen.flatten(1))

        def reconstruct(ciphertexts: Tensor) -> Tensor:
            return matrix.invert(ciphertexts.flatten(1)).float().clamp(0, 1).reshape(-1, *shape)

        return RecoveredImages(reconstruct)
