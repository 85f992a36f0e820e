"""Signed permutations of a block, and of the blocks: the maps that keep uint8 exact. One gather, then one sign."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.ciphers.layout import gather_index, inverse_order, tile

CACHED_SIZES = 8  # of images, whose maps are kept
_CHUNK_BYTES = 1 << 18  # of images to gather and sign at a time: few enough to stay in the processor's cache


@dataclass(frozen=True, eq=False, repr=False)
class ImageMap:
    """The map of whole images of one size, memory order and dtype.

    Args:
        index: Where each number of an image comes from, shape (C * H * W,), int64; None if nothing moves.
        sign: As `sign_of` returns it for each number of an image; None if nothing is reflected.
    """

    index: NDArray[np.int64] | None
    sign: tuple[NDArray[Any], ...] | None

    def apply(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return the mapped images, shape (N, C * H * W), on one thread: gather and sign are done for a few at a time."""
        result = images.copy() if self.index is None else np.empty_like(images)
        step = max(1, _CHUNK_BYTES // max(1, images.itemsize * images.shape[1]))
        for start in range(0, len(images), step):
            some = result[start : start + step]
            if self.index is not None:
                np.take(images[start : start + step], self.index, axis=1, out=some, mode="wrap")  # "raise" copies once more
            if self.sign is not None and some.dtype == np.uint8:
                np.bitwise_xor(some, self.sign[0], out=some)  # 255 - x is x with all its bits flipped
            elif self.sign is not None:
                np.multiply(some, self.sign[0], out=some)
                np.add(some, self.sign[1], out=some)
        return result


def sign_of(negative: NDArray[np.bool_], dtype: np.dtype[Any]) -> tuple[NDArray[Any], ...]:
    """Return what reflects: of uint8 the mask to xor with; of floats -1 or 1 to multiply by, then 1 or 0 to add."""
    if dtype == np.uint8:
        return (np.where(negative, np.uint8(255), np.uint8(0)),)
    return np.where(negative, -1, 1).astype(dtype), negative.astype(dtype)


@dataclass(frozen=True, eq=False, repr=False)
class SignedPermutation:
    """The map u[i] = v[source[i]], reflected about 1/2 where `negative[i]`: u[i] = 1 - v[source[i]].

    Args:
        source: Shape (D,), int64, a permutation of 0 .. D - 1.
        negative: Shape (D,), bool.
        order: Where the blocks are permuted too, shape (blocks,), int64: block b of the result is made of block order[b].
    """

    source: NDArray[np.int64]
    negative: NDArray[np.bool_]
    order: NDArray[np.int64] | None = None
    of_images: Callable[..., ImageMap] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "of_images", functools.lru_cache(maxsize=CACHED_SIZES)(self._make_image_map))

    @classmethod
    def identity(cls, size: int) -> SignedPermutation:
        """Return the map that changes nothing in blocks of `size` numbers."""
        return cls(np.arange(size), np.zeros(size, dtype=bool))

    @property
    def moves(self) -> bool:
        """Whether anything changes its place."""
        return self.order is not None or not np.array_equal(self.source, np.arange(len(self.source)))

    @property
    def signed(self) -> bool:
        """Whether anything is reflected."""
        return bool(self.negative.any())

    @property
    def matrix(self) -> NDArray[np.float64]:
        """A, shape (D, D), float64: row i has 1 or -1 at column `source[i]`."""
        matrix = np.zeros((len(self.source),) * 2)
        matrix[np.arange(len(self.source)), self.source] = np.where(self.negative, -1.0, 1.0)
        return matrix

    @property
    def gather(self) -> SignedPermutation:
        """The map itself."""
        return self

    def then(self, other: SignedPermutation) -> SignedPermutation:
        """Return the map that applies `self` first and `other`, of a block, second."""
        return SignedPermutation(self.source[other.source], self.negative[other.source] ^ other.negative, self.order)

    def permuted(self, order: NDArray[np.int64] | None) -> SignedPermutation:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        return SignedPermutation(self.source, self.negative, order)

    def inverse(self) -> SignedPermutation:
        """Return the map that undoes `self`."""
        back = np.argsort(self.source)
        return SignedPermutation(back, self.negative[back], inverse_order(self.order))

    def __reduce__(self) -> tuple[Any, ...]:
        return SignedPermutation, (self.source, self.negative, self.order)

    def _make_image_map(
        self, height: int, width: int, *, channels: int, patch: int, channels_last: bool, dtype: np.dtype[Any]
    ) -> ImageMap:
        """Return the map of images of one size in pixels; `of_images` keeps it. `channels_last` is that of `gather_index`."""
        layout: dict[str, Any] = {"channels": channels, "patch": patch, "channels_last": channels_last}
        rows, columns = height // patch, width // patch
        index = sign = None
        if self.moves:
            index = gather_index(self.source, self.order, np.arange(rows), np.arange(columns), **layout)
        if self.signed:
            sign = sign_of(tile(self.negative, rows, columns, **layout, library=np), dtype)
        return ImageMap(index, sign)
