"""The block transform of encryption-then-compression (EtC) images: the one cipher whose ciphertext may travel as JPEG.

A block is cut into sub-blocks of 8 x 8 px, the blocks of JPEG's transform. Whole sub-blocks move, turn and change their
sign, so each stays as smooth as it was, and JPEG compresses it as it compresses the plain one.

Source: Chuman, Sirichotedumrong, Kiya, Encryption-then-compression systems using grayscale-based image encryption for JPEG
images, IEEE TIFS 14(6), 2019; with all channels of a sub-block turned alike, as in their colour-based scheme. Within the blocks
of a transformer's patch embedding: Lin, Imaizumi, Kiya (arXiv 2605.05692).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.ciphers.key_stream import KeyStream, below, permuted
from timm_encmixer.ciphers.signed_permutation import SignedPermutation
from timm_encmixer.scheme import ETC, SCRAMBLE, SUB_BLOCK_PX, Scheme

TURNS = 8  # of a square: four rotations, each also mirrored


def etc(stream: KeyStream, channels: int, patch: int) -> SignedPermutation:
    """Return the map that permutes, turns, reflects and (of three channels) recolours the sub-blocks of a block."""
    side = patch // SUB_BLOCK_PX
    words = stream.words()
    place = np.arange(channels * patch**2).reshape(channels, side, SUB_BLOCK_PX, side, SUB_BLOCK_PX)
    source, negative = np.empty_like(place), np.empty(place.shape, dtype=bool)
    for target, origin in enumerate(permuted(side * side, words)):
        turn, sign = below(TURNS, words), below(2, words)
        colours = permuted(channels, words) if channels == 3 else list(range(channels))
        (to_row, to_column), (from_row, from_column) = divmod(target, side), divmod(origin, side)
        source[:, to_row, :, to_column] = turned(place[:, from_row, :, from_column], turn)[colours]
        negative[:, to_row, :, to_column] = bool(sign)
    return SignedPermutation(source.reshape(-1), negative.reshape(-1))


def turned(square: NDArray[np.int64], turn: int) -> NDArray[np.int64]:
    """Return squares (C, 8, 8), with their axes swapped (4 in `turn`), then rows (2) and columns (1) in reverse order."""
    square = square.transpose(0, 2, 1) if turn & 4 else square
    return square[:, :: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def few_keys(scheme: Scheme) -> str:
    """Return the sentence that says how few keys a cipher with `etc` has; empty for other ciphers."""
    if not scheme.facts.moves_sub_blocks:
        return ""
    number = bits_per_block(scheme.in_chans, scheme.patch_size)
    bits = f"{ETC} has {number:.0f} bits of key for a block of {scheme.patch_size} px"
    if scheme.scrambles:
        return f"{bits}, and the order of the blocks: whoever finds the order tries the rest"
    more = f"+{SCRAMBLE} moves the blocks too, for models that allow it"
    return f"{bits}: alone it keeps out nobody who tries, and outlines show; {more}"


def bits_per_block(channels: int, patch: int) -> float:
    """Return the binary logarithm of the number of maps of a block."""
    count = (patch // SUB_BLOCK_PX) ** 2
    each = math.log2(TURNS * 2 * (math.factorial(channels) if channels == 3 else 1))
    return math.log2(math.factorial(count)) + count * each
