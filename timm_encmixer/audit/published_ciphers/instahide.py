"""InstaHide: each image is mixed with others, and the signs of its numbers are flipped at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Encrypt, PublishedCipher
from timm_encmixer.audit.published_ciphers.draws import Draws


@dataclass(frozen=True, kw_only=True)
class InstaHide(PublishedCipher):
    """A random mixture of k images with random signs, drawn anew for each image: u = s (l_1 v + l_2 v_2 + ... + l_k v_k).

    v are the numbers of an image, scaled to -1 .. 1. v_2 .. v_k are other images of the same batch. The coefficients l are k
    absolute values of Gaussian numbers, divided by their sum, drawn again while one is above `most`. s is -1 or 1 for each
    number. The ciphertext is float32 of the images' shape, -1 to 1. There is no decryption.

    As in the paper and the authors' code: k = 4, the bound 0.65, the signs. Partners come from the batch, by k - 1 random
    permutations of it, as in the authors' code for mixing inside a data set; a partner may be the image itself, and an image
    that is alone is mixed with itself. The paper also mixes with public photos. The authors' code normalises colours by the
    data set's statistics instead of scaling. Labels are mixed with the same coefficients; this function takes no labels and
    does not say the coefficients.

    Args:
        block: 1: the signs are of single numbers.
        k: Images in a mixture, from 1.
        most: The largest coefficient that is allowed, at least 1.3 / k; without meaning for k = 1.
    """

    name: ClassVar[str] = "instahide"
    title: ClassVar[str] = "InstaHide, mixing within the data set"
    citation: ClassVar[str] = (
        "Huang, Song, Li and Arora, InstaHide: Instance-hiding Schemes for Private Distributed Learning, ICML 2020, "
        "arXiv 2010.02772"
    )
    purpose: ClassVar[str] = "Distributed training on images that are encrypted before they leave their owner."
    key_use: ClassVar[str] = "a key an image"

    block: int = 1
    k: int = 4
    most: float = 0.65

    def __post_init__(self) -> None:
        """Refuse mixtures that there are not."""
        super().__post_init__()
        self._require("k", self.k, isinstance(self.k, int) and self.k >= 1, "a whole number from 1")
        bound = isinstance(self.most, (int, float)) and (self.k == 1 or self.most >= 1.3 / self.k)
        self._require("most", self.most, bound, "a number of at least 1.3 / k: smaller bounds are almost never met")

    @property
    def ciphertext(self) -> DTypeLike:
        """The dtype of ciphertext: float32."""
        return np.float32

    def _encrypter(self, key: CipherKey) -> Encrypt:
        draws = key.draws("images")

        def encrypt(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            n = len(images)
            coefficients = self._coefficients(draws, n)
            partners = np.concatenate((np.arange(n)[None], draws.orders(self.k - 1, n)))
            mixed: NDArray[np.float32] = np.zeros(images.shape, dtype=np.float32)
            for partner, weights in zip(partners, coefficients.T, strict=True):
                mixed += weights[:, None, None, None] * images[partner]
            mixed *= np.float32(2 / 255)
            mixed -= np.float32(1)  # the coefficients' sum is 1
            signs = np.frombuffer(draws.read(mixed.size), dtype=np.uint8).reshape(mixed.shape) & 1
            mixed *= 1 - 2 * signs.astype(np.float32)
            return mixed

        return encrypt

    def _coefficients(self, draws: Draws, count: int) -> NDArray[np.float32]:
        """Return the coefficients of so many mixtures, shape (count, k); each row's sum is 1."""
        rows = np.empty((0, self.k), dtype=np.float32)
        while len(rows) < count:
            drawn = np.abs(draws.normals(count, self.k))
            drawn /= drawn.sum(axis=1, keepdims=True)
            rows = np.concatenate((rows, drawn[(drawn.max(axis=1) <= self.most) | (self.k == 1)]))
        return rows[:count]
