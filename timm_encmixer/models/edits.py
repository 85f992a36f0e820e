"""Changes to tensors behind the stem: adding the constant of the normalisation, and permuting the position embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ConstantFold:
    """The tensor into which the constant of the normalisation is folded.

    Args:
        tensor: Name of a parameter or buffer of the model.
        sign: 1 where the model adds the tensor to the stem's output, -1 where it subtracts it.
        channel: The stem's output channel that each number of the tensor meets, -1 for none; int64, in the tensor's shape.
    """

    tensor: str
    sign: int
    channel: Tensor

    @classmethod
    def into_bias(cls, stem: str, channels: int) -> ConstantFold:
        """Return the fold into the bias of the convolution `stem` with this many output channels."""
        return cls(f"{stem}.bias", 1, torch.arange(channels))

    def add(self, tensor: Tensor, constant: Tensor) -> Tensor:
        """Return the tensor with the constant added.

        Args:
            tensor: In the shape of `channel`.
            constant: One number per output channel of the stem, shape (dim,).

        Returns:
            A new tensor; dtype, device and memory format as `tensor`.
        """
        padded = torch.cat([constant.double(), constant.new_zeros(1, dtype=torch.float64)])  # channel -1 gets the zero
        values = tensor.double() + self.sign * padded[self.channel.to(constant.device)].to(tensor.device)
        return torch.empty_like(tensor, memory_format=torch.preserve_format).copy_(values)


@dataclass(frozen=True)
class PositionEmbedding:
    """The position embedding of the blocks. A cipher that permutes the blocks permutes it too.

    Args:
        tensor: Name of a parameter or buffer of the model.
        dim: The dimension that numbers the blocks.
        start: Index of the first block on it; other tokens come before.
        grid: Rows and columns of blocks.
    """

    tensor: str
    dim: int
    start: int
    grid: tuple[int, int]

    def permuted(self, tensor: Tensor, order: Tensor) -> Tensor:
        """Return the embedding with the part of block order[i] at block i; dtype, device and memory format as `tensor`."""
        index = torch.arange(tensor.shape[self.dim])
        index[self.start : self.start + len(order)] = self.start + order.cpu()
        moved = tensor.index_select(self.dim, index.to(tensor.device))
        return torch.empty_like(tensor, memory_format=torch.preserve_format).copy_(moved)
