"""Arrangements of the blocks of an image.

An arrangement is the block of the plain image at each position of a grid; int64, shape (rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from timm_encmixer.audit.methods.block_map import unit
from timm_encmixer.ciphers.blocks import join, split


def in_place(arrangement: Tensor) -> float:
    """Return the share of blocks that are at their own positions."""
    own = torch.arange(arrangement.numel()).reshape(arrangement.shape)
    return float((arrangement == own).double().mean())


def rearranged(images: Tensor, arrangement: Tensor, patch: int) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] with their blocks arranged so."""
    blocks = split(unit(images), patch).flatten(1, 2)[:, arrangement.flatten()]
    return join(blocks.reshape(-1, *arrangement.shape, blocks.shape[2]), images.shape[1], patch)


def turns(arrangement: Tensor) -> Iterator[Tensor]:
    """Yield an arrangement in its eight turns and mirror images."""
    for turned in (torch.rot90(arrangement, k) for k in range(4)):
        yield from (turned, turned.flip(1))


def neighbours(arrangement: Tensor) -> float:
    """Return the share of neighbours in an arrangement that are neighbours in the image, in the same direction."""
    columns = arrangement.shape[1]
    across = (arrangement[:, 1:] == arrangement[:, :-1] + 1) & (arrangement[:, 1:] % columns != 0)
    down = arrangement[1:] == arrangement[:-1] + columns
    return float(torch.cat([across.flatten(), down.flatten()]).double().mean())
