"""Somebody who can have images of their choice encrypted, and takes the whole image for one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.image_map import affords_matrix, matrix_from_oracle, places_from_oracle
from timm_encmixer.audit.methods.whole_image import codes_of, of_images
from timm_encmixer.audit.recovery import RecoveredImages

_TRIED = 4  # random images that show whether a map fits
_FITS = 0.5  # grey levels, on average: no more than rounding


@dataclass(frozen=True, kw_only=True)
class ImageChosenPairs(Attack):
    """Spell each position in black and white, then read the tables of all grey values. Where that does not fit, ask a basis."""

    name = "image_chosen_pairs"
    place = 92
    attacker = "somebody who can have images of their choice encrypted, of a cipher of the whole image"
    material = ("oracle",)
    citation = "our own; positions in binary digits, as in chosen-plaintext attacks on permutation-only ciphers"
    of_whole_images = True
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image after some hundred questions: the image has one permutation with tables, or one matrix.",
        PARTLY: "Sees what images show by one map of the whole image.",
        HOLDS: "Finds no permutation with substitutions, and no matrix, of the whole image.",
    }
    advice = "Never encrypt other people's images with your key where they can see the result."
    work = 3.0

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Ask for the map of places, try it, and ask for a matrix where it does not fit."""
        assert held.scheme.plain is not None  # the record that attackers assume
        shape = torch.Size(held.scheme.plain.input_size)

        def ask(images: Tensor) -> Tensor:
            return held.oracle(images.reshape(-1, *shape)).flatten(1)

        places = places_from_oracle(lambda images: codes_of(ask(images)), shape.numel())
        tried = torch.randint(0, 256, (_TRIED, shape.numel()), dtype=torch.uint8)
        affords = affords_matrix(shape.numel())
        if places is not None and (not affords or _fits(places.invert(codes_of(ask(tried))), tried)):
            return RecoveredImages(lambda seen: of_images(places.invert(codes_of(seen)), shape))
        if not affords:
            return RecoveredImages(lambda seen: torch.full((len(seen), *shape), 0.5))
        matrix = matrix_from_oracle(ask, shape.numel())
        return RecoveredImages(lambda seen: matrix.invert(seen.flatten(1)).float().clamp(0, 1).reshape(-1, *shape))

    def details(self, held: Held) -> dict[str, float]:
        """How many images were asked for."""
        return {"images asked for": held.oracle.asked}


def _fits(found: Tensor, plain: Tensor) -> bool:
    return bool((found.float() - plain.float()).abs().mean() < _FITS)
