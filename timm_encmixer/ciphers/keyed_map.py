"""What every keyed map of a block can do: the one interface of signed permutations and orthogonal maps, as arrays."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

MapT = TypeVar("MapT", bound="KeyedMap")


class KeyedMap(Protocol):
    """The map u = 1/2 + A (v - 1/2) of each block, A orthogonal; and a permutation of the blocks.

    Attributes:
        order: Block of the input that each block of the result is made of, shape (blocks,), int64; None where the blocks stay.
    """

    @property
    def order(self) -> NDArray[Any] | None:
        """As described above."""
        ...

    def inverse(self: MapT) -> MapT:
        """Return the map that undoes this one."""
        ...

    def permuted(self: MapT, order: NDArray[Any] | None) -> MapT:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        ...


def inverse_order(order: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return the permutation that undoes one, None for none."""
    return None if order is None else order.argsort()
