"""Signed permutations of a block, and of the blocks: the maps that keep uint8 exact. One gather, then one sign."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from timm_encmixer.ciphers.blocks import gather_index, is_channels_last, tile

_Plan = tuple[Tensor | None, Tensor | None]


class SignedPermutation(nn.Module):
    """The map u[i] = v[source[i]], reflected about 1/2 where `negative[i]`: u[i] = 1 - v[source[i]].

    Args:
        source: Shape (D,), int64, a permutation of 0 .. D - 1.
        negative: Shape (D,), bool.
        order: Where the blocks are permuted too, shape (blocks,), int64: block b of the result is made of block order[b].
    """

    source: Tensor
    negative: Tensor
    order: Tensor | None

    def __init__(self, source: Tensor, negative: Tensor, order: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("negative", negative, persistent=False)
        self.register_buffer("order", order, persistent=False)
        self._moves = order is not None or not torch.equal(source, torch.arange(len(source), device=source.device))
        self._signed = bool(negative.any())
        self._plan: Callable[..., _Plan] = functools.lru_cache(maxsize=8)(self._make_plan)

    @classmethod
    def identity(cls, size: int) -> SignedPermutation:
        """Return the map that changes nothing in blocks of `size` numbers."""
        return cls(torch.arange(size), torch.zeros(size, dtype=torch.bool))

    def then(self, other: SignedPermutation) -> SignedPermutation:
        """Return the map that applies `self` first and `other`, of a block, second."""
        return SignedPermutation(self.source[other.source], self.negative[other.source] ^ other.negative, self.order)

    def permuted(self, order: Tensor | None) -> SignedPermutation:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        return SignedPermutation(self.source, self.negative, order)

    def inverse(self) -> SignedPermutation:
        """Return the map that undoes `self`."""
        back = torch.argsort(self.source)
        return SignedPermutation(back, self.negative[back], None if self.order is None else torch.argsort(self.order))

    def rows(self, matrix: Tensor) -> Tensor:
        """Return `matrix` A^T for this map's matrix A; shape (n, D) in and out. Exact in every dtype."""
        negative = self.negative.to(matrix.device)
        moved = matrix[:, self.source.to(matrix.device)]
        return torch.where(negative, -moved, moved)

    def forward(self, images: Tensor, channels: int, patch: int) -> Tensor:
        """Apply the map to each block of images (N, C, H, W) in [0, 1] or uint8; keeps dtype and memory format."""
        n, _, height, width = images.shape
        channels_last = is_channels_last(images)
        laid_out = images.permute(0, 2, 3, 1) if channels_last else images
        compiling = torch.compiler.is_compiling()
        plan = self._make_plan if compiling else self._plan
        index, sign = plan(height, width, channels, patch, channels_last, images.dtype, images.device)
        flat = laid_out.flatten(1)
        if index is None:
            moved = flat.clone()
        elif compiling or images.requires_grad or images.device.type != "cpu":
            moved = flat.gather(1, index.expand(n, -1))
        else:
            moved = _select_rows(flat, index)
        if sign is not None:
            if images.dtype == torch.uint8:
                moved.bitwise_xor_(sign)  # 255 - x is x with all its bits flipped
            else:
                moved.mul_(sign).add_((1 - sign) / 2)
        moved = moved.reshape(laid_out.shape)
        return moved.permute(0, 3, 1, 2) if channels_last else moved

    def _make_plan(
        self,
        height: int,
        width: int,
        channels: int,
        patch: int,
        channels_last: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> _Plan:
        """Return the gather index, None if nothing moves, and the sign, None if nothing is reflected.

        The sign is 255 or 0 to xor with for uint8, -1 or 1 to multiply by for floats.
        """
        layout: dict[str, Any] = {"channels": channels, "patch": patch, "channels_last": channels_last}
        order = None if self.order is None else self.order.to(device)
        index = gather_index(self.source.to(device), order, height, width, **layout) if self._moves else None
        if not self._signed:
            return index, None
        on, off = (255, 0) if dtype == torch.uint8 else (-1, 1)
        values = torch.where(self.negative.to(device), on, off).to(dtype)
        return index, tile(values, height, width, **layout)


def _select_rows(flat: Tensor, index: Tensor) -> Tensor:
    """Gather each image by itself, whatever the number of threads; autograd and compilers need one gather over all."""
    out = torch.empty_like(flat)
    for row, target in zip(flat, out, strict=True):
        torch.index_select(row, 0, index, out=target)
    return out
