"""Which signed permutations a cipher's key can be: what a search for the key need not look outside of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.scheme import Scheme


@dataclass(frozen=True, eq=False)
class KeySpace:
    """Signed permutations that move positions within groups.

    Args:
        groups: Group of each position, shape (D,), int64. A position takes the place of another one of its group.
        signed: Whether signs may be -1.
    """

    groups: NDArray[np.int64]
    signed: bool

    @classmethod
    def whole(cls, size: int, *, signed: bool) -> KeySpace:
        """Return all permutations of `size` positions."""
        return cls(np.zeros(size, dtype=np.int64), signed)

    @classmethod
    def of(cls, scheme: Scheme) -> KeySpace:
        """Return the keys that a cipher with uint8 ciphertext can have for a block."""
        facts, position = scheme.facts, np.arange(scheme.block_size)
        if not facts.moves:
            return cls(position, facts.inverts)
        if not facts.mixes_channels:
            return cls(position // scheme.patch_size**2, facts.inverts)
        return cls.whole(scheme.block_size, signed=facts.inverts)

    @property
    def members(self) -> list[NDArray[np.int64]]:
        """The positions of each group."""
        return [np.flatnonzero(self.groups == group) for group in np.unique(self.groups)]

    @property
    def moves(self) -> bool:
        """Whether anything may move."""
        return len(np.unique(self.groups)) < len(self.groups)

    @property
    def together(self) -> NDArray[np.bool_]:
        """Whether one position may take the place of the other, shape (D, D)."""
        same: NDArray[np.bool_] = self.groups[:, None] == self.groups
        return same

    def random_order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a uniformly random permutation among those."""
        if not self.groups.any():
            return rng.permutation(len(self.groups))
        order = np.arange(len(self.groups))
        for positions in self.members:
            order[positions] = rng.permutation(positions)
        return order
