"""General orthogonal maps of a block about mid-grey, as a matrix; for float images only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.ciphers.layout import inverse_order


@dataclass(frozen=True, eq=False, repr=False)
class OrthogonalMap:
    """The map u = 1/2 + A (v - 1/2) for an orthogonal matrix A; and a permutation of the blocks.

    Args:
        matrix: A, shape (D, D), float64.
        order: Where the blocks are permuted too, shape (blocks,), int64: block b of the result is made of block order[b].
    """

    matrix: NDArray[np.float64]
    order: NDArray[np.int64] | None = None

    @property
    def gather(self) -> None:
        """None: a matrix mixes the numbers of a block."""
        return None

    def then(self, other: OrthogonalMap) -> OrthogonalMap:
        """Return the map that applies `self` first and `other`, of a block, second."""
        return OrthogonalMap(other.matrix @ self.matrix, self.order)

    def inverse(self) -> OrthogonalMap:
        """Return the map that undoes `self`; A^-1 is A^T."""
        return OrthogonalMap(np.ascontiguousarray(self.matrix.T), inverse_order(self.order))

    def permuted(self, order: NDArray[Any] | None) -> OrthogonalMap:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        return OrthogonalMap(self.matrix, order)
