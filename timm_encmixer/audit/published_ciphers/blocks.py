"""Images cut into square blocks, channels last; and what several ciphers do to whole blocks.

The functions move numbers and do not change them. So they say where the numbers come from if they are given their places.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

TURNS = 8  # of a square: four rotations, each also mirrored


def split(images: NDArray[Any], side: int) -> NDArray[Any]:
    """Cut images (N, H, W, C) into blocks (N, blocks, side, side, C), by rows."""
    n, height, width, channels = images.shape
    cut = images.reshape(n, height // side, side, width // side, side, channels)
    blocks: NDArray[Any] = cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, side, side, channels)
    return blocks


def join(blocks: NDArray[Any], height: int) -> NDArray[Any]:
    """Put blocks (N, blocks, side, side, C) together to images of a height in px; the inverse of `split`."""
    n, count, side, _, channels = blocks.shape
    rows = height // side
    cut = blocks.reshape(n, rows, count // rows, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    images: NDArray[Any] = cut.reshape(n, height, -1, channels)
    return images


def turned(blocks: NDArray[Any], turns: NDArray[np.int64]) -> NDArray[Any]:
    """Return blocks (B, side, side, C), each turned: its axes swapped (4 in a turn), then rows (2) and columns (1) reversed."""
    result = np.empty_like(blocks)
    for turn in range(TURNS):
        some = blocks[turns == turn]
        some = some.transpose(0, 2, 1, 3) if turn & 4 else some
        result[turns == turn] = some[:, :: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
    return result


def coloured(blocks: NDArray[Any], choices: NDArray[np.int64]) -> NDArray[Any]:
    """Return blocks (B, side, side, C), each with its channels in one of the `colour_orders(C)` orders."""
    orders = np.array(list(itertools.permutations(range(blocks.shape[-1]))))
    return np.take_along_axis(blocks, orders[choices][:, None, None, :], axis=3)


def colour_orders(channels: int) -> int:
    """Return how many orders so many channels have."""
    return len(list(itertools.permutations(range(channels))))
