"""What every keyed map of a block can do: all that the rest of the package asks of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from timm_encmixer.ciphers.signed_permutation import SignedPermutation

MapT = TypeVar("MapT", bound="KeyedMap")


class KeyedMap(Protocol):
    """The map u = 1/2 + A (v - 1/2) of each block, A orthogonal; and a permutation of the blocks."""

    @property
    def order(self) -> NDArray[Any] | None:
        """Block of the input that each block of the result is made of, shape (blocks,), int64; None where the blocks stay."""
        ...

    @property
    def matrix(self) -> NDArray[np.float64]:
        """A, shape (D, D), float64."""
        ...

    @property
    def gather(self) -> SignedPermutation | None:
        """The map as a permutation with signs, which keeps uint8 exact and is fast; None where it is not one."""
        ...

    def inverse(self: MapT) -> MapT:
        """Return the map that undoes this one."""
        ...

    def permuted(self: MapT, order: NDArray[Any] | None) -> MapT:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        ...

    def then(self: MapT, other: MapT) -> MapT:
        """Return the map that applies this one first and `other`, of the same kind and without an order, second."""
        ...
