"""What a published cipher draws from its key: whole arrays of numbers from a ChaCha20 stream. No format: it may change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.ciphers.key_stream import KeyStream


class Draws(KeyStream):
    """The stream of one seed, read from front to back in arrays."""

    def integers(self, bound: int, *shape: int) -> NDArray[np.int64]:
        """Return numbers from 0 to `bound` - 1, uniform but for a bias below bound / 2^32."""
        scaled: NDArray[np.uint64] = self._words("<u4", shape).astype(np.uint64) * np.uint64(bound)
        high: NDArray[np.uint64] = scaled >> np.uint64(32)
        return high.astype(np.int64)

    def orders(self, count: int, size: int) -> NDArray[np.int64]:
        """Return permutations of 0 .. size - 1, shape (count, size): the order of random 64-bit words."""
        return np.argsort(self._words("<u8", (count, size)), axis=1, kind="stable")

    def chosen(self, size: int, share: float) -> NDArray[np.bool_]:
        """Return a mask, shape (size,), that is True at floor(share * size) places."""
        mask: NDArray[np.bool_] = self.orders(1, size)[0] < int(share * size)
        return mask

    def uniforms(self, *shape: int) -> NDArray[np.float32]:
        """Return numbers between -1 and 1, uniform."""
        words: NDArray[np.float64] = self._words("<i4", shape) * 2.0**-31
        return words.astype(np.float32)

    def normals(self, *shape: int) -> NDArray[np.float32]:
        """Return independent numbers of mean 0 and variance 1, Gaussian."""
        count = int(np.prod(shape))
        return self.gaussians(count + count % 2)[:count].astype(np.float32).reshape(shape)

    def _words(self, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(self.read(count), dtype=dtype).reshape(shape)
