"""Keyed maps applied to tensors: torch modules that keep no state, on any device, differentiable and under torch.compile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from timm_encmixer.ciphers.blocks import is_channels_last, join, split
from timm_encmixer.ciphers.keyed_map import KeyedMap
from timm_encmixer.ciphers.layout import gather_index, tile
from timm_encmixer.ciphers.signed_permutation import CACHED_SIZES, SignedPermutation

_NUMPY_DTYPES = {torch.uint8: np.uint8, torch.float32: np.float32, torch.float64: np.float64}


def on_tensors(mapping: KeyedMap) -> TensorMap:
    """Return the module that applies a map to tensors."""
    gather = mapping.gather
    return TensorMatrix(mapping) if gather is None else TensorPermutation(gather)


class TensorPermutation(nn.Module):
    """A signed permutation of the numbers of each block, and of the blocks."""

    source: Tensor
    negative: Tensor
    order: Tensor | None

    def __init__(self, mapping: SignedPermutation) -> None:
        super().__init__()
        self.register_buffer("source", torch.from_numpy(mapping.source), persistent=False)
        self.register_buffer("negative", torch.from_numpy(mapping.negative), persistent=False)
        order = None if mapping.order is None else torch.from_numpy(mapping.order)
        self.register_buffer("order", order, persistent=False)
        self._mapping, self._moves, self._signed = mapping, mapping.moves, mapping.signed
        self._of_images: Callable[..., _GatherAndSign] = functools.lru_cache(maxsize=CACHED_SIZES)(self._make_image_map)

    def rows(self, matrix: Tensor) -> Tensor:
        """Return `matrix` A^T for this map's matrix A; shape (n, D) in and out. Exact in every dtype."""
        negative = self.negative.to(matrix.device)
        moved = matrix[:, self.source.to(matrix.device)]
        return torch.where(negative, -moved, moved)

    def forward(self, images: Tensor, channels: int, patch: int) -> Tensor:
        """Apply the map to each block of images (N, C, H, W) in [0, 1] or uint8; keeps dtype and memory format."""
        height, width = images.shape[2:]
        channels_last = is_channels_last(images)
        laid_out = images.permute(0, 2, 3, 1) if channels_last else images
        layout: dict[str, Any] = {"channels": channels, "patch": patch, "channels_last": channels_last}
        compiling = torch.compiler.is_compiling()
        if not compiling and _is_plain(images):  # numpy's kernel takes no second pass over memory
            whole = self._mapping.of_images(height, width, **layout, dtype=np.dtype(_NUMPY_DTYPES[images.dtype]))
            moved = torch.from_numpy(whole.apply(laid_out.flatten(1).numpy()))
        else:
            make = self._make_image_map if compiling else self._of_images
            index, sign = make(height // patch, width // patch, images.dtype, images.device, **layout)
            flat = laid_out.flatten(1)
            moved = flat.clone() if index is None else flat.gather(1, index.expand(len(images), -1))
            if sign is not None and images.dtype == torch.uint8:
                moved.bitwise_xor_(sign[0])
            elif sign is not None:
                moved.mul_(sign[0]).add_(sign[1])
        moved = moved.reshape(laid_out.shape)
        return moved.permute(0, 3, 1, 2) if channels_last else moved

    def _make_image_map(
        self, rows: int, columns: int, dtype: torch.dtype, device: torch.device, **layout: Any
    ) -> _GatherAndSign:
        """Return what `signed_permutation.ImageMap` holds, as tensors."""
        index = sign = None
        if self._moves:
            order = None if self.order is None else self.order.to(device)
            places = (torch.arange(count, device=device) for count in (rows, columns))
            index = gather_index(self.source.to(device), order, *places, **layout)
        if self._signed:
            negative = tile(self.negative.to(device), rows, columns, **layout, library=torch)
            reflecting = torch.where(negative, 255 if dtype == torch.uint8 else -1, 0 if dtype == torch.uint8 else 1).to(dtype)
            sign = reflecting, negative.to(dtype)
        return index, sign


class TensorMatrix(nn.Module):
    """Any keyed map, as an orthogonal matrix applied to each block of float images about mid-grey.

    The matrix is kept in float64 outside the module's buffers, so that `module.half()` does not round the key. Copies in
    the images' dtype and on their device are made on first use.
    """

    def __init__(self, mapping: KeyedMap) -> None:
        super().__init__()
        self.matrix = torch.from_numpy(mapping.matrix)
        self.order = None if mapping.order is None else torch.from_numpy(mapping.order)
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def rows(self, matrix: Tensor) -> Tensor:
        """Return `matrix` A^T; shape (n, D) in and out."""
        return matrix @ self._like(matrix.dtype, matrix.device).T

    def forward(self, images: Tensor, channels: int, patch: int) -> Tensor:
        """Apply the map to each block of float images (N, C, H, W) in [0, 1]; keeps dtype and memory format.

        The result may leave [0, 1]: each block keeps its distance from mid-grey, not its range.
        """
        dtype = torch.promote_types(images.dtype, torch.float32)
        mapped = self.rows(split(images.to(dtype) - 0.5, patch).flatten(0, 2)) + 0.5
        n, _, height, width = images.shape
        rows, columns, values = height // patch, width // patch, mapped.shape[1]
        blocks = mapped.reshape(n, rows * columns, values)
        blocks = blocks if self.order is None else blocks[:, self.order.to(blocks.device)]
        joined = join(blocks.reshape(n, rows, columns, values), channels, patch).to(images.dtype)
        return joined.contiguous(memory_format=torch.channels_last) if is_channels_last(images) else joined

    def _like(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        if torch.compiler.is_compiling():
            return self.matrix.to(dtype=dtype, device=device)
        if (dtype, device) not in self._copies:
            self._copies[dtype, device] = self.matrix.to(dtype=dtype, device=device)
        return self._copies[dtype, device]


TensorMap = TensorPermutation | TensorMatrix
_GatherAndSign = tuple[Tensor | None, tuple[Tensor, Tensor] | None]


def _is_plain(images: Tensor) -> bool:
    """Whether numpy sees a tensor as it is: numbers at hand, of a type that it has, and not followed by autograd."""
    return is_at_hand(images) and images.dtype in _NUMPY_DTYPES and not images.requires_grad


def is_at_hand(images: Tensor) -> bool:
    """Whether a tensor's numbers are in this memory: it is on the CPU, of no subclass, and in no transform of functorch."""
    return images.device.type == "cpu" and type(images) is Tensor and not torch._C._functorch.peek_interpreter_stack()
