"""CFE, compression-friendly encryption: EtC's steps within the patches of a video transformer, and of the patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.blocks import TURNS, colour_orders, coloured, join, split, turned
from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher

VARIANTS = ("V1", "V2")


@dataclass(frozen=True, kw_only=True)
class CFE(PermutingCipher):
    """Sub-blocks of each block are turned, reflected, recoloured and permuted; then the blocks of the frame are permuted.

    In block b: u[j] = q(s(t(v[o_b[j]]))), with sub-blocks j. Each sub-block has its own t, one of the 8 rotations and mirror
    images of a square, its own s, x or 255 - x, and its own order q of the colours. In variant V1 all blocks have the same
    values, in V2 each has its own. Last, block b of the frame is encrypted block m[b].

    As in the paper: the five steps in a block, the step of the frame, blocks of 16 px, sub-blocks of 8 px, the variants. The
    paper draws a rotation and a flip, which give each of the 8 turns as often. The paper has one key for the frames of a video
    and another for the next video; here one key is for all images. Otherwise the authors' code behaves alike.

    Args:
        block: Side of a block in px, a multiple of `sub_block`.
        sub_block: Side of a sub-block in px.
        variant: `V1` or `V2`.
    """

    name: ClassVar[str] = "cfe"
    title: ClassVar[str] = "CFE, compression-friendly encryption"
    citation: ClassVar[str] = (
        "Lin, Imaizumi and Kiya, CFE-PPAR: Compression-friendly encryption for privacy-preserving action recognition "
        "leveraging video transformers, ICIP 2026, arXiv 2605.05692"
    )
    purpose: ClassVar[str] = "Recognising actions in encrypted videos that are compressed, without retraining."

    block: int = 16
    sub_block: int = 8
    variant: str = "V2"

    def __post_init__(self) -> None:
        """Refuse sub-blocks that do not fill a block, and unknown variants."""
        super().__post_init__()
        fits = isinstance(self.sub_block, int) and self.sub_block >= 1 and self.block % self.sub_block == 0
        self._require("sub_block", self.sub_block, fits, f"a divisor of the block's {self.block} px")
        self._require("variant", self.variant, self.variant in VARIANTS, " or ".join(VARIANTS))

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        parts = split(places, self.sub_block)  # (blocks, sub-blocks, side, side, C)
        blocks, count = parts.shape[:2]
        drawn = 1 if self.variant == "V1" else blocks
        order = np.broadcast_to(draws.orders(drawn, count), (blocks, count))
        turns, signs, colours = (
            np.broadcast_to(draws.integers(bound, drawn, count), (blocks, count)).reshape(-1)
            for bound in (TURNS, 2, colour_orders(places.shape[-1]))
        )
        source = np.take_along_axis(parts, order[:, :, None, None, None], axis=1).reshape(-1, *parts.shape[2:])
        source = coloured(turned(source, turns), colours).reshape(parts.shape)
        negative = np.broadcast_to((signs == 1).reshape(blocks, count, 1, 1, 1), parts.shape)
        frame = draws.orders(1, blocks)[0]
        return join(source, self.block)[frame], join(negative, self.block)[frame]
