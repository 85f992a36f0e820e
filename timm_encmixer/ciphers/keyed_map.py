"""What every keyed map of a block can do: the one interface of signed permutations and orthogonal maps."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

MapT = TypeVar("MapT", bound="KeyedMap")


class KeyedMap(Protocol):
    """The map u = 1/2 + A (v - 1/2) of each block, A orthogonal; and a permutation of the blocks.

    Attributes:
        order: Block of the input that each block of the result is made of, shape (blocks,), int64; None where the blocks stay.
    """

    order: Tensor | None

    def __call__(self, images: Tensor, channels: int, patch: int) -> Tensor:
        """Apply the map to images (N, C, H, W); keeps dtype, device and memory format."""
        ...

    def rows(self, matrix: Tensor) -> Tensor:
        """Return `matrix` A^T; shape (n, D) in and out."""
        ...

    def inverse(self: MapT) -> MapT:
        """Return the map that undoes this one."""
        ...

    def permuted(self: MapT, order: Tensor | None) -> MapT:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        ...
