"""Tensors behind a stem that an encryption changes: where a constant goes, and what is permuted with the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Home:
    """Where the constant of the normalisation goes.

    Args:
        tensor: Name of a parameter or buffer of the model.
        sign: 1 where the tensor is added to what the stem gives, -1 where it is subtracted.
        index: For each number of the tensor the stem's output channel that it meets, -1 for none; int64, in its shape.
    """

    tensor: str
    sign: int
    index: Tensor

    def add(self, tensor: Tensor, constant: Tensor) -> Tensor:
        """Return the tensor with a constant (dim,) for the stem's output channels; dtype, device and format as `tensor`."""
        padded = torch.cat([constant.double(), constant.new_zeros(1, dtype=torch.float64)])
        values = tensor.double() + self.sign * padded[self.index.to(constant.device)].to(tensor.device)
        return torch.empty_like(tensor, memory_format=torch.preserve_format).copy_(values)


@dataclass(frozen=True)
class Positions:
    """The position embedding of the blocks, which a permutation of the blocks permutes too.

    Args:
        tensor: Name of a parameter or buffer of the model.
        dim: Its dimension that numbers the blocks.
        start: Place of the first block on it, behind other tokens.
        grid: Rows and columns of blocks.
    """

    tensor: str
    dim: int
    start: int
    grid: tuple[int, int]

    def ordered(self, tensor: Tensor, order: Tensor) -> Tensor:
        """Return the embedding with that of block order[i] in place i; dtype, device and format as `tensor`."""
        places = torch.arange(tensor.shape[self.dim])
        places[self.start : self.start + len(order)] = self.start + order.cpu()
        moved = tensor.index_select(self.dim, places.to(tensor.device))
        return torch.empty_like(tensor, memory_format=torch.preserve_format).copy_(moved)


def bias_home(name: str, channels: int) -> Home:
    """Return the bias of the convolution `name` as the home of a constant."""
    return Home(f"{name}.bias", 1, torch.arange(channels))
