"""From a derived seed to permutations and Gaussian numbers: the deterministic part of every cipher.

Source: the ChaCha20 stream is RFC 8439; Fisher-Yates with rejection sampling is Knuth, TAOCP 2, 3.4.2, algorithm P.
The order in which the stream is consumed is a format: docs/format.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

_CHUNK_BYTES = 4096
_WORDS = 1 << 32


class KeyStream:
    """The ChaCha20 stream of one 32-byte seed, from counter 0 and with nonce 0, read from front to back."""

    def __init__(self, seed: bytes) -> None:
        self._encryptor = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return self._encryptor.update(bytes(count))

    def words(self) -> Iterator[int]:
        """Return the stream's 32-bit words, without end; what one iterator has read ahead no other one sees."""
        while True:
            yield from (word for (word,) in struct.iter_unpack("<I", self.read(_CHUNK_BYTES)))

    def permutation(self, size: int) -> list[int]:
        """Return a uniformly random permutation of 0 .. size - 1."""
        return permuted(size, self.words())

    def gaussians(self, count: int) -> NDArray[np.float64]:
        """Return `count` independent N(0, 1) numbers, float64, by Box and Muller's method; `count` is even."""
        words = np.frombuffer(self.read(8 * count), dtype="<u8") & ((1 << 53) - 1)
        uniform = (words.astype(np.float64) + 0.5) * 2.0**-53
        radius = np.sqrt(-2.0 * np.log(uniform[0::2]))
        angle = 2.0 * math.pi * uniform[1::2]
        return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)


def permuted(size: int, words: Iterator[int]) -> list[int]:
    """Return a uniformly random permutation of 0 .. size - 1."""
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        chosen = below(last + 1, words)
        order[last], order[chosen] = order[chosen], order[last]
    return order


def below(bound: int, words: Iterator[int]) -> int:
    """Return a uniform number below `bound`: words past the last whole multiple are thrown away, so there is no bias."""
    limit = _WORDS - _WORDS % bound
    while True:
        word = next(words)
        if word < limit:
            return word % bound
