"""Somebody who collects ciphertext images, against signed permutations of a block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.assignment import assign
from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack, Curve, Effort
from timm_encmixer.audit.block_map import signed_permutation
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import RecoveredKey
from timm_encmixer.audit.statistics import BlockStatistics, common, correlation, image_statistics
from timm_encmixer.scheme import Scheme


class CiphertextOnlyShuffle(Attack):
    """Correlations between positions, matched with those of public photos by quadratic assignment.

    That leaves the mirror images of a block, a reordering of the channels and one sign; covariances between neighbouring
    blocks decide the first two, and that light comes from above the last.
    """

    name = "ciphertext_only_shuffle"
    attacker = "somebody who collects ciphertext images"
    material = ("ciphertexts", "public_statistics")
    source = (
        "our own; ciphertext-only attacks on this family: Chang and Li (arXiv 2004.13263), "
        "Sirichotedumrong and Kiya (arXiv 2010.06198)"
    )
    curve = Curve("ciphertexts", "ciphertext images", (25, 50, 100, 250), (10, 25, 50, 100, 250, 500, 1000, 2000))
    ciphers = ("shuffle", "negpos")
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image: the whole key follows from ciphertexts and statistics of public photos.",
        PARTLY: "Reads images in part: most of the key follows from ciphertexts and statistics of public photos.",
        HOLDS: "Does not get the key from this many ciphertexts.",
    }
    advice = "Treat ciphertext images as readable: send them over TLS and store them as you would plain ones."

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match correlations, then decide among what they leave open."""
        parts = held.scheme.cipher.split("+")
        seen = image_statistics(held.ciphertexts, held.scheme.patch_size)
        found = assign(
            correlation(seen.within).numpy(),
            correlation(held.public_statistics.within).numpy(),
            moves="shuffle" in parts,
            signed="negpos" in parts,
            starts=effort.pick(16, 48),
            iterations=1000,
            rng=effort.rng,
        )
        matrix = signed_permutation(torch.from_numpy(found.order), torch.from_numpy(found.sign))
        return RecoveredKey(decide(matrix, seen, held.public_statistics, held.scheme))


def decide(matrix: Tensor, seen: BlockStatistics, public: BlockStatistics, scheme: Scheme) -> Tensor:
    """Return the variant of an estimate of A that agrees best with public statistics of neighbours and of light."""
    targets, references = common(seen, public)

    def agreement(variant: Tensor) -> float:
        return float(((variant.T @ targets @ variant) * references).sum())

    best = max((matrix @ turn for turn in symmetries(scheme)), key=agreement)
    upside_down = float((best.T @ seen.light) @ public.light) < 0
    return -best if upside_down and scheme.cipher != "shuffle" else best


def symmetries(scheme: Scheme) -> Iterator[Tensor]:
    """Yield what within-block correlations hardly tell apart, as matrices: mirrors, channel orders and channel signs."""
    parts = scheme.cipher.split("+")
    channels, patch = scheme.in_chans, scheme.patch_size
    place = torch.arange(scheme.block_size).reshape(channels, patch, patch)
    turns = [torch.rot90(place, k, (1, 2)) for k in range(4)]
    turns += [turn.transpose(1, 2) for turn in turns]
    orders = list(itertools.permutations(range(channels))) if channels <= 3 else [tuple(range(channels))]
    if "shuffle" not in parts and "orthogonal" not in parts:
        turns, orders = [place], [tuple(range(channels))]
    signs = list(itertools.product((1, -1), repeat=channels - 1)) if channels <= 3 and "negpos" in parts else [()]
    for turn, order, rest in itertools.product(turns, orders, signs):
        sign = torch.tensor([1, *(rest or (1,) * (channels - 1))]).repeat_interleave(patch**2)
        yield signed_permutation(turn[list(order)].reshape(-1), sign)
