"""Schemes that move the numbers of an image and reflect some of them: signed permutations, of one image size at a time."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.blocks import split
from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Decrypt, Encrypt, PublishedCipher
from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.ciphers.signed_permutation import CACHED_SIZES, ImageMap

_CHUNK_BYTES = 1 << 24  # of images that are cut into half bytes at a time


@dataclass(frozen=True, kw_only=True)
class PermutingCipher(PublishedCipher):
    """u[i] = v[source[i]], or its reflection m - v[source[i]], where v are an image's numbers and m is the largest of them.

    Attributes:
        parts: 1 if the numbers are bytes, m = 255; 2 if they are the lower and upper halves of bytes, m = 15.
    """

    parts: ClassVar[int] = 1

    @abstractmethod
    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_] | bool]:
        """Return which place each place reads, and whether it is reflected.

        Args:
            places: Of the numbers in each block, shape (blocks, block, block, C); of half bytes (blocks, block, block, C, 2).
            draws: The stream of the key, from its start.

        Returns:
            `places` in another order; and what can be broadcast to its shape.
        """

    def _image_map(self, draws: Draws, shape: tuple[int, int, int]) -> ImageMap:
        """Return the map of all numbers of images (H, W, C)."""
        count = int(np.prod(shape))
        places = split(np.arange(count).reshape(1, *shape), self.block)[0]
        if self.parts == 2:
            places = places[..., None] * 2 + np.arange(2)
        source, negative = self._moved(places, draws)
        index, mask = np.empty(places.size, dtype=np.int64), np.empty(places.size, dtype=np.uint8)
        largest = np.uint8(255 if self.parts == 1 else 15)
        index[places.reshape(-1)] = source.reshape(-1)
        mask[places.reshape(-1)] = np.broadcast_to(negative, places.shape).reshape(-1) * largest
        return ImageMap(index, (mask,))  # m - x is x xor m

    def _encrypter(self, key: CipherKey) -> Encrypt:
        image_map = functools.lru_cache(maxsize=CACHED_SIZES)(lambda shape: self._image_map(key.draws("image"), shape))
        return lambda images: self._applied(image_map(images.shape[1:]), images)

    def _decrypter(self, key: CipherKey) -> Decrypt | None:
        @functools.lru_cache(maxsize=CACHED_SIZES)
        def inverse(shape: tuple[int, int, int]) -> ImageMap:
            image_map = self._image_map(key.draws("image"), shape)
            assert image_map.index is not None
            assert image_map.sign is not None
            back = np.argsort(image_map.index)
            return ImageMap(back, (image_map.sign[0][back],))

        return lambda images: self._applied(inverse(images.shape[1:]), images)

    def _applied(self, image_map: ImageMap, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        numbers = images.reshape(len(images), -1)
        if self.parts == 1:
            return image_map.apply(numbers).reshape(images.shape)
        result = np.empty_like(numbers)
        step = max(1, _CHUNK_BYTES // numbers.shape[1])
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            halves = image_map.apply(np.stack((some & 15, some >> 4), axis=2).reshape(len(some), -1)).reshape(*some.shape, 2)
            result[start : start + step] = halves[..., 0] | halves[..., 1] << 4
        return result.reshape(images.shape)


def one_order(draws: Draws, blocks: NDArray[Any]) -> NDArray[Any]:
    """Return blocks (B, ...), the numbers of each in the same random order."""
    flat = blocks.reshape(len(blocks), -1)
    return flat[:, draws.orders(1, flat.shape[1])[0]].reshape(blocks.shape)
