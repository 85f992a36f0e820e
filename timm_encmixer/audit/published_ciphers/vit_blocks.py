"""The cipher for vision transformers: the blocks are permuted, and the numbers in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher, one_order


@dataclass(frozen=True, kw_only=True)
class VitBlocks(PermutingCipher):
    """The blocks of an image are permuted, then the numbers of each, all blocks alike: u[b][i] = v[o[b]][p[i]].

    Blocks are the patches of a vision transformer. A block of P x P px in C channels is one vector of D = C P P numbers. o is a
    keyed permutation of the blocks, p one of the D positions. Both are the same for all images.

    As in the paper: the two steps, and one key for all images. We take blocks of 16 px, the patch of ViT-B/16, and one
    permutation p for all blocks and channels; no public code of the authors was found to compare with.
    """

    name: ClassVar[str] = "vit_blocks"
    title: ClassVar[str] = "Block permutation and pixel shuffling for ViTs"
    citation: ClassVar[str] = (
        "Qi, AprilPyone, Kinoshita and Kiya, Privacy-Preserving Image Classification Using Vision Transformer, 2022, "
        "arXiv 2205.12041"
    )
    purpose: ClassVar[str] = "Training and inference of vision transformers on encrypted images."

    block: int = 16

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], bool]:
        order = draws.orders(1, len(places))[0]
        return one_order(draws, places[order]), False
