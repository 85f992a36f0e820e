"""Where the numbers of a block lie in an image's memory: the map of images of one size.

The functions take numpy arrays or torch tensors, and return the same kind: there is one map, whoever applies it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

ArrayT = TypeVar("ArrayT", NDArray[Any], "Tensor")


def gather_index(
    source: ArrayT, order: ArrayT | None, rows: ArrayT, columns: ArrayT, *, channels: int, patch: int, channels_last: bool
) -> ArrayT:
    """Return for each index of an image's memory the index that the cipher reads it from.

    Args:
        source: Position in a block that each position reads, shape (D,), int64, D = channels * patch * patch.
        order: Block that each block is read from, by rows, shape (H/P * W/P,), int64; None permutes none.
        rows: 0 .. H/P - 1: the rows of blocks, int64.
        columns: 0 .. W/P - 1: the columns of blocks, int64.
        channels: C.
        patch: P, in pixels.
        channels_last: Whether the image lies in memory as H, W, C rather than C, H, W.

    Returns:
        Shape (C * H * W,), int64, beside `source`.
    """
    height, width = len(rows) * patch, len(columns) * patch
    channel_step, row_step, column_step = (1, width * channels, channels) if channels_last else (height * width, width, 1)
    channel, row, column = source // patch**2, source // patch % patch, source % patch
    within = channel * channel_step + row * row_step + column * column_step
    block = (rows[:, None] * (patch * row_step) + columns * (patch * column_step)).reshape(-1)
    block = block if order is None else block[order]
    places: ArrayT = _cells(within, channels, patch, channels_last) + _spread(block, len(rows), channels_last)
    flat: ArrayT = places.reshape(-1)
    return flat


def tile(
    values: ArrayT, rows: int, columns: int, *, channels: int, patch: int, channels_last: bool, library: ModuleType
) -> ArrayT:
    """Repeat one block's values, shape (D,), over an image of so many blocks, in the image's memory order; shape (C * H * W,).

    Args:
        values: One for each position of a block.
        rows: Rows of blocks.
        columns: Columns of blocks.
        channels: C.
        patch: P, in pixels.
        channels_last: As for `gather_index`.
        library: `numpy` or `torch`, whose arrays the values are.
    """
    cells = _cells(values, channels, patch, channels_last)
    shape = (rows, patch, columns, patch, channels) if channels_last else (channels, rows, patch, columns, patch)
    repeated: ArrayT = library.broadcast_to(cells, shape).reshape(-1)
    return repeated


def _cells(values: ArrayT, channels: int, patch: int, channels_last: bool) -> ArrayT:
    """Return a block's values with axes of length 1 for the rows and columns of blocks, in memory order."""
    if channels_last:
        cells: ArrayT = values.reshape(channels, patch**2).T.reshape(1, patch, 1, patch, channels)
        return cells
    return values.reshape(channels, 1, patch, 1, patch)


def _spread(block: ArrayT, rows: int, channels_last: bool) -> ArrayT:
    """Return one value for each block with axes of length 1 for the positions in it, in memory order."""
    columns = len(block) // rows
    return block.reshape(rows, 1, columns, 1, 1) if channels_last else block.reshape(1, rows, 1, columns, 1)


def inverse_order(order: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return the permutation that undoes one, None for none."""
    return None if order is None else order.argsort()
