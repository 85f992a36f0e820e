"""Somebody who collects ciphertext images, against any orthogonal map of a block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.alignment import align, whitened
from timm_encmixer.audit.methods.colours import CHANNELS, Colours
from timm_encmixer.audit.methods.statistics import blocks_of, common, image_statistics
from timm_encmixer.audit.recovery import RecoveredKey

RIDGE = 0.5  # mean variances


@dataclass(frozen=True, kw_only=True)
class CiphertextOnlyOrthogonal(Attack):
    """Covariances within blocks and between neighbours, aligned with those of public photos; colours decide between channels.

    Args:
        points: As for every attack.
        starts: Starting points of the alignment.
    """

    starts: int = budgeted(12, 32)

    name = "ciphertext_only_orthogonal"
    place = 30
    recover_rank = 3
    attacker = "somebody who collects ciphertext images"
    material = ("ciphertexts", "public_statistics", "photos")
    citation = "our own: orthogonal Procrustes iterations on second-order statistics"
    curve = Curve("ciphertexts", "ciphertext images", (5, 10, 25, 100, 250), (5, 10, 25, 50, 100, 250, 500, 1000, 2000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image: the matrix follows from ciphertexts and statistics of public photos.",
        PARTLY: "Sees what images show: a rough matrix follows from ciphertexts and statistics of public photos.",
        HOLDS: "Does not get the matrix from this many ciphertexts.",
    }
    advice = "Treat ciphertext images as readable: send them over TLS and store them as you would plain ones."
    work = 2.3

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Whiten in part, align, let the light decide the sign, and colours how the channels are mixed."""
        patch = held.scheme.patch_size
        seen = image_statistics(held.ciphertexts, patch)
        targets, references = common(seen, held.public_statistics)
        targets, references = whitened(targets, RIDGE), whitened(references, RIDGE)
        matrix = align(
            targets,
            references,
            starts=self.starts,
            iterations=200,
            generator=effort.generator,
            track=effort.track,
        )
        if held.scheme.in_chans == CHANNELS:
            colours = Colours(blocks_of(held.ciphertexts, patch), patch, held.photos)
            return RecoveredKey(matrix @ colours.mixture(matrix.T, matrix.T @ targets @ matrix, references).T)
        upside_down = float((matrix.T @ seen.light) @ held.public_statistics.light) < 0
        return RecoveredKey(-matrix if upside_down else matrix)
