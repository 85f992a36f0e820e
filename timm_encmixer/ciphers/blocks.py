"""Where the numbers of a block lie in an image: blocks of side P, each flattened by channel, row, column."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(images: Tensor) -> bool:
    """Whether a batch (N, C, H, W) lies in memory as N, H, W, C and not also as N, C, H, W."""
    return not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)


def gather_index(
    source: Tensor, order: Tensor | None, height: int, width: int, *, channels: int, patch: int, channels_last: bool
) -> Tensor:
    """Return for each index of an image's memory the index that the cipher reads it from.

    Args:
        source: Position in a block that each position reads, shape (D,), int64, D = channels * patch * patch.
        order: Block that each block is read from, by rows, shape (H/P * W/P,), int64; None permutes none.
        height: Image height in pixels, a multiple of `patch`.
        width: Image width in pixels, a multiple of `patch`.
        channels: C.
        patch: P, in pixels.
        channels_last: Whether the image lies in memory as H, W, C rather than C, H, W.

    Returns:
        Shape (C * H * W,), int64, on the device of `source`.
    """
    channel_step, row_step, column_step = (1, width * channels, channels) if channels_last else (height * width, width, 1)
    channel, row, column = source // patch**2, source // patch % patch, source % patch
    within = (channel * channel_step + row * row_step + column * column_step).reshape(channels, patch, patch)
    block_row = torch.arange(height // patch, device=source.device) * (patch * row_step)
    block_column = torch.arange(width // patch, device=source.device) * (patch * column_step)
    block = block_row[:, None] + block_column
    if order is not None:
        block = block.flatten()[order].reshape(block.shape)
    places = within[:, None, :, None, :] + block[None, :, None, :, None]  # C, H/P, P, W/P, P
    return _in_memory_order(places, channels_last)


def tile(values: Tensor, height: int, width: int, *, channels: int, patch: int, channels_last: bool) -> Tensor:
    """Repeat one block's values, shape (D,), over an image, in the image's memory order; shape (C * H * W,)."""
    block = values.reshape(channels, 1, patch, 1, patch)
    return _in_memory_order(block.expand(-1, height // patch, -1, width // patch, -1), channels_last)


def split(images: Tensor, patch: int) -> Tensor:
    """Cut images (N, C, H, W) into blocks (N, H/P, W/P, D)."""
    n, c, h, w = images.shape
    cut = images.reshape(n, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n, h // patch, w // patch, c * patch**2)


def join(blocks: Tensor, channels: int, patch: int) -> Tensor:
    """Put blocks (N, H/P, W/P, D) together to images (N, C, H, W); the inverse of `split`."""
    n, rows, columns, _ = blocks.shape
    cut = blocks.reshape(n, rows, columns, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return cut.reshape(n, channels, rows * patch, columns * patch)


def _in_memory_order(places: Tensor, channels_last: bool) -> Tensor:
    return (places.permute(1, 2, 3, 4, 0) if channels_last else places).reshape(-1)
