"""Somebody who collects ciphertext images of `etc`: its squares fit together in one way only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.block_map import signed_permutation
from timm_encmixer.audit.methods.statistics import BlockStatistics, image_statistics
from timm_encmixer.audit.methods.sub_blocks import Arrangement, Array, Borders, arrange
from timm_encmixer.audit.recovery import RecoveredKey
from timm_encmixer.scheme import ETC, CipherFacts

_BEHIND = ((0, 0), (0, 1), (1, 0))  # offsets of blocks whose squares meet


@dataclass(frozen=True, kw_only=True)
class CiphertextOnlyEtc(Attack):
    """The arrangement of the squares whose borders are smoothest: within a block, and from block to block.

    That leaves open one sign and one order of the channels of the whole. The sign is decided by light coming from above. Green
    is the channel that is most like the two others. Red is brighter than blue.

    Args:
        points: As for every attack.
        starts: Starting points of the search.
    """

    starts: int = budgeted(16, 64)

    name = "ciphertext_only_etc"
    place = 40
    recover_rank = 1
    attacker = "somebody who collects ciphertext images"
    material = ("ciphertexts",)
    citation = "our own; jigsaw attacks on EtC images: Chuman, Kurihara, Kiya (IEICE Trans. Inf. Syst. E101-D(1), 2018)"
    curve = Curve("ciphertexts", "ciphertext images", (1, 2, 5, 25, 250), (1, 2, 3, 5, 10, 25, 50, 100, 250, 1000))
    assumes = ETC
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image: the whole key follows from the borders of the squares in a few ciphertexts.",
        PARTLY: "Reads images in part: most squares are put back in their places.",
        HOLDS: "Does not put the squares of this many ciphertexts together.",
    }
    advice = "Count this cipher as a compression format, not as protection."
    work = 2.0

    def unsuited(self, cipher: CipherFacts) -> str:
        """Squares alone are put together."""
        return "" if cipher.moves_sub_blocks else "it is about ciphers that move squares of 8 x 8 px only"

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Put the squares together, then choose channels and sign."""
        scheme = held.scheme
        seen = image_statistics(held.ciphertexts, scheme.patch_size)
        mean = seen.mean.numpy()
        moments = [_moment(seen, offset) for offset in _BEHIND]
        borders = Borders((moments[0], moments[1], moments[2]), scheme.in_chans, scheme.patch_size)
        found = arrange(borders, starts=self.starts, rng=effort.rng)
        return RecoveredKey(_matrix(_coloured(found, moments[0] - np.outer(mean, mean), seen, scheme.in_chans)))


def _moment(seen: BlockStatistics, offset: tuple[int, int]) -> Array:
    """Return second moments about mid-grey of two blocks; zero where no image has two such blocks."""
    covariance = seen.covariances.get(offset)
    mean = seen.mean.numpy()
    return np.zeros((len(mean), len(mean))) if covariance is None else covariance.numpy() + np.outer(mean, mean)


def _coloured(found: Arrangement, within: Array, seen: BlockStatistics, channels: int) -> Arrangement:
    """Return the arrangement with the sign and the order of channels that photos have."""
    light = float(found.sign @ seen.light.numpy()[found.index])
    sign = found.sign if light >= 0 else -found.sign
    if channels != 3:
        return Arrangement(found.index, sign, found.score)
    index, signs = found.index.reshape(3, -1), sign.reshape(3, -1)
    products = np.array([[np.mean(signs[a] * signs[b] * within[index[a], index[b]]) for b in range(3)] for a in range(3)])
    scale = np.sqrt(products.diagonal())
    likeness = products / np.outer(scale, scale)
    green = min(range(3), key=lambda middle: likeness[tuple(other for other in range(3) if other != middle)])
    mean = seen.mean.numpy()
    outer = sorted((c for c in range(3) if c != green), key=lambda c: -float(np.mean(signs[c] * mean[index[c]])))
    order = [outer[0], green, outer[1]]
    return Arrangement(index[order].reshape(-1), signs[order].reshape(-1), found.score)


def _matrix(found: Arrangement) -> torch.Tensor:
    """Return A of u = A v, from where the numbers of v stand in u."""
    return signed_permutation(torch.from_numpy(found.index), torch.from_numpy(found.sign)).T.contiguous()
