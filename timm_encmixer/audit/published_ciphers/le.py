"""LE, learnable encryption: the first of the block-wise ciphers for learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher, one_order


@dataclass(frozen=True, kw_only=True)
class LE(PermutingCipher):
    """Half bytes of a block are shuffled and half of them are reflected, all blocks alike.

    A block of P x P px in C channels has D = C P P numbers. Each is split into its lower and its upper 4 bits, so there are 2 C
    channels of values h from 0 to 15. Then u[i] = h[p[i]], or 15 - h[p[i]] where r[i], with a keyed permutation p of the 2 D
    positions and a keyed mask r. Pairs of half bytes are bytes again.

    As in the paper: the blocks, the split, the reflection, the shuffle, one key for all blocks. We take exactly half of the
    positions to be reflected. The authors' code reflects before and after the shuffle, with one mask, which is the numbers of
    the permutation that are above the middle: then u is reflected where two of its bits differ, and p and r are not
    independent.
    """

    name: ClassVar[str] = "le"
    title: ClassVar[str] = "LE, learnable encryption"
    citation: ClassVar[str] = "Tanaka, Learnable Image Encryption, ICCE-TW 2018, arXiv 1804.00490"
    purpose: ClassVar[str] = "Training networks on images that people cannot understand."
    parts: ClassVar[int] = 2

    block: int = 4

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        source = one_order(draws, places)
        return source, draws.chosen(source[0].size, 0.5).reshape(source[0].shape)
