"""EtC, encryption then compression: whole blocks move, turn, change sign and colours, so that JPEG still compresses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.blocks import TURNS, colour_orders, coloured, turned
from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher


@dataclass(frozen=True, kw_only=True)
class EtcBlocks(PermutingCipher):
    """The blocks of an image are permuted; each is turned or mirrored, reflected or not, and recoloured.

    u[b] = s_b(q_b(t_b(v[o[b]]))): o permutes the blocks, t_b is one of the 8 rotations and mirror images of a square, q_b is
    one of the 6 orders of the colours, s_b is x or 255 - x. All are keyed for each block, independent and uniform, and the same
    for all images.

    As in the papers: the four steps. We take the colour-based form, whose blocks have all channels, as for isotropic networks;
    Chuman et al. put the components into one grey image and encrypt its blocks. We take blocks of 16 px, the patch of common
    vision transformers. Madono et al. (see `ELE`) compare with blocks of 4 px. Their code reflects exactly half of the blocks,
    and overwrites a channel before it copies it to another, so most blocks lose one.
    """

    name: ClassVar[str] = "etc_blocks"
    title: ClassVar[str] = "EtC block scrambling"
    citation: ClassVar[str] = (
        "Chuman, Sirichotedumrong and Kiya, Encryption-then-Compression Systems using Grayscale-based Image Encryption for "
        "JPEG Images, IEEE TIFS 14(6), 2019, arXiv 1811.00236; for isotropic networks: AprilPyone and Kiya, Privacy-Preserving "
        "Image Classification Using Isotropic Network, 2022, arXiv 2204.07707"
    )
    purpose: ClassVar[str] = "Compressing encrypted images; later, training isotropic networks on them."

    block: int = 16

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        count = len(places)
        source = turned(places[draws.orders(1, count)[0]], draws.integers(TURNS, count))
        source = coloured(source, draws.integers(colour_orders(places.shape[-1]), count))
        return source, (draws.integers(2, count) == 1)[:, None, None, None]
