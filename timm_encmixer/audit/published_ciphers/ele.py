"""ELE, extended learnable encryption: LE with a key for each block, and a permutation of the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher


@dataclass(frozen=True, kw_only=True)
class ELE(PermutingCipher):
    """The blocks are permuted, then each is encrypted as by `LE` under a key of its own.

    With B blocks of 2 D half bytes h: u[b][i] = h[o[b]][p_b[i]], or 15 minus that where r_b[i]. The permutation o of the
    blocks, the permutations p_b and the masks r_b are keyed, and are the same for all images.

    As in the paper: a key for each position, and the permutation of blocks. We take exactly half of a block's positions to be
    reflected. The authors' code encrypts blocks first and permutes them second, and has masks as LE's code has.
    """

    name: ClassVar[str] = "ele"
    title: ClassVar[str] = "ELE, extended learnable encryption"
    citation: ClassVar[str] = (
        "Madono, Tanaka, Onishi and Ogawa, Block-wise Scrambled Image Recognition Using Adaptation Network, "
        "AAAI workshop on Artificial Intelligence of Things 2020, arXiv 2001.07761"
    )
    purpose: ClassVar[str] = "Recognition of scrambled images by a network with an adaptation network before it."
    parts: ClassVar[int] = 2

    block: int = 4

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        count = len(places)
        flat = places[draws.orders(1, count)[0]].reshape(count, -1)
        source = np.take_along_axis(flat, draws.orders(count, flat.shape[1]), axis=1)
        negative = draws.orders(count, flat.shape[1]) < flat.shape[1] // 2
        return source.reshape(places.shape), negative.reshape(places.shape)
