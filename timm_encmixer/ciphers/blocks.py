"""Tensors of images cut into blocks of side P, each flattened by channel, row, column; and put together again."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(images: Tensor) -> bool:
    """Whether a batch (N, C, H, W) lies in memory as N, H, W, C and not also as N, C, H, W."""
    return not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)


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
