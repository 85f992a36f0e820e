"""Somebody who collects ciphertext images, against signed permutations of a block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.alignment import agreement, align, settle, whitened
from timm_encmixer.audit.methods.assignment import assign
from timm_encmixer.audit.methods.block_map import signed_permutation, symmetries
from timm_encmixer.audit.methods.colours import AGREEMENT, CHANNELS, Colours
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.audit.methods.statistics import BlockStatistics, blocks_of, common, correlation, image_statistics
from timm_encmixer.audit.recovery import RecoveredKey
from timm_encmixer.scheme import CipherFacts

RIDGE = 0.1  # mean variances


@dataclass(frozen=True, kw_only=True)
class CiphertextOnlyShuffle(Attack):
    """Covariances within a block and between neighbours, matched with those of public photos.

    In two ways: correlations within a block by quadratic assignment, and all covariances by alignment, brought to the nearest
    signed permutation. What that leaves open, the mirror images of a block, a reordering of the channels and one sign, is
    decided by the neighbours' covariances and by colours, and without colours the sign by light coming from above.

    Args:
        points: As for every attack.
        starts: Starting points of the search for correlations.
        alignments: Starting points of the alignment.
    """

    starts: int = budgeted(4, 16)
    alignments: int = budgeted(12, 32)

    name = "ciphertext_only_shuffle"
    place = 20
    recover_rank = 2
    attacker = "somebody who collects ciphertext images"
    material = ("ciphertexts", "public_statistics", "photos")
    citation = (
        "our own; ciphertext-only attacks on this family: Chang and Li (arXiv 2004.13263), "
        "Sirichotedumrong and Kiya (arXiv 2010.06198)"
    )
    curve = Curve("ciphertexts", "ciphertext images", (5, 10, 25, 100, 250), (5, 10, 25, 50, 100, 250, 500, 1000, 2000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image: the whole key follows from ciphertexts and statistics of public photos.",
        PARTLY: "Reads images in part: most of the key follows from ciphertexts and statistics of public photos.",
        HOLDS: "Does not get the key from this many ciphertexts.",
    }
    advice = "Treat ciphertext images as readable: send them over TLS and store them as you would plain ones."
    work = 2.8

    def unsuited(self, cipher: CipherFacts) -> str:
        """Signed permutations alone are searched."""
        return "" if cipher.exact else "it is about ciphers that move and invert numbers only"

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match, then decide among what that leaves open."""
        patch = held.scheme.patch_size
        seen = image_statistics(held.ciphertexts, patch)
        keys = KeySpace.of(held.scheme)
        order = assign(
            correlation(seen.within).numpy(),
            correlation(held.public_statistics.within).numpy(),
            keys=keys,
            starts=self.starts,
            iterations=1000,
            rng=effort.rng,
            track=functools.partial(effort.track, share=0.5),
        )
        target, reference = (whitened(covariances, RIDGE) for covariances in common(seen, held.public_statistics))
        turned = align(
            target,
            reference,
            starts=self.alignments,
            iterations=200,
            generator=effort.generator,
            track=functools.partial(effort.track, share=0.5),
        )
        found = [
            signed_permutation(torch.from_numpy(order.order), torch.from_numpy(order.sign)),
            settle(turned, target, reference, keys),
        ]
        variants = (matrix @ turn for matrix in found for turn in symmetries(held.scheme))
        likelihood, signs = _likelihood(held, seen), (1, -1) if keys.signed else (1,)
        perfect = float(reference.square().sum())

        def worth(variant: Tensor) -> float:
            likeliest = max(likelihood(sign * variant) for sign in signs)
            return AGREEMENT * agreement(variant, target, reference) / perfect + likeliest

        best = max(variants, key=worth)
        return RecoveredKey(max((sign * best for sign in signs), key=likelihood))


def _likelihood(held: Held, seen: BlockStatistics) -> Callable[[Tensor], float]:
    """Return how likely a matrix is by the colours that it leads to; for images without colours, whether light is above."""
    if held.scheme.in_chans != CHANNELS:
        return lambda matrix: float((matrix.T @ seen.light) @ held.public_statistics.light > 0)
    patch = held.scheme.patch_size
    colours = Colours(blocks_of(held.ciphertexts, patch), patch, held.photos)
    return lambda matrix: colours.likelihood(matrix.T)
