"""SHF, pixel shuffling: one of the three block-wise transforms of AprilPyone and Kiya's keyed defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.keyed_defence import AGAINST_ADVERSARIES, KEYED_DEFENCE
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher, one_order


@dataclass(frozen=True, kw_only=True)
class SHF(PermutingCipher):
    """The numbers of a block are shuffled, all blocks alike: u[i] = v[p[i]].

    A block of P x P px in C channels is one vector of D = C P P numbers; p is a keyed permutation of D positions.

    As in the paper and the authors' code, which differ in no point but the source of randomness. It is the cipher `shuffle` of
    this package, which rewrites a trained model instead of training on ciphertext.
    """

    name: ClassVar[str] = "shf"
    title: ClassVar[str] = "SHF, pixel shuffling"
    citation: ClassVar[str] = KEYED_DEFENCE
    purpose: ClassVar[str] = AGAINST_ADVERSARIES

    block: int = 4

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], bool]:
        return one_order(draws, places), False
