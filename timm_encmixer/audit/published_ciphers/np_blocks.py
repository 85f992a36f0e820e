"""NP, negative-positive transform: one of the three block-wise transforms of AprilPyone and Kiya's keyed defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.keyed_defence import AGAINST_ADVERSARIES, KEYED_DEFENCE
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher


@dataclass(frozen=True, kw_only=True)
class NP(PermutingCipher):
    """Half of the numbers of a block are reflected, all blocks alike: u[i] = 255 - v[i] where r[i], else v[i].

    A block of P x P px in C channels is one vector of D = C P P numbers. The keyed mask r has floor(share D) ones.

    As in the paper: the block, and half of the numbers. The authors' code reflects D/2 - 1 of them.

    Args:
        block: Side of a block in px.
        share: Of a block's numbers, those that are reflected; 0 to 1.
    """

    name: ClassVar[str] = "np"
    title: ClassVar[str] = "NP, negative-positive transform"
    citation: ClassVar[str] = KEYED_DEFENCE
    purpose: ClassVar[str] = AGAINST_ADVERSARIES

    block: int = 4
    share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        super().__post_init__()
        self._require_share("share", self.share)

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        return places, draws.chosen(places[0].size, self.share).reshape(places[0].shape)
