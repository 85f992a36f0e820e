"""FFX encryption: one of the three block-wise transforms of AprilPyone and Kiya's keyed defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import ffx
import numpy as np
from numpy.typing import DTypeLike, NDArray

from timm_encmixer.audit.published_ciphers.blocks import join, split
from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Decrypt, Encrypt, PublishedCipher
from timm_encmixer.audit.published_ciphers.keyed_defence import AGAINST_ADVERSARIES, KEYED_DEFENCE

_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class FFX(PublishedCipher):
    """Half of the numbers of a block are encrypted one by one by a format-preserving cipher, all blocks alike.

    w[i] = E(v[i]) where r[i], else v[i]; E permutes 0 .. levels - 1, and the keyed mask r has floor(share D) ones of D = C P P.
    The ciphertext is w / (levels - 1), float32 from 0 to 1, of the images' shape. With 256 levels it is w itself, uint8.

    As in the paper: the block, half of the numbers, and numbers of three decimal digits, so 1000 levels. E acts on one number
    at a time, so it is a table. We take NIST's FF1 (SP 800-38G, with AES-256) from the package libffx. The authors take FFX
    (HMAC-SHA1) from pyffx, encrypt D/2 - 1 numbers, and divide by the largest number of their table.

    Args:
        block: Side of a block in px.
        share: Of a block's numbers, those that are encrypted; 0 to 1.
        levels: Values that E permutes, 256 to 65536.
    """

    name: ClassVar[str] = "ffx"
    title: ClassVar[str] = "FFX encryption"
    citation: ClassVar[str] = KEYED_DEFENCE
    purpose: ClassVar[str] = AGAINST_ADVERSARIES

    block: int = 4
    share: float = 0.5
    levels: int = 1000

    def __post_init__(self) -> None:
        """Refuse shares and levels that are none."""
        super().__post_init__()
        self._require_share("share", self.share)
        levels = isinstance(self.levels, int) and _BYTES <= self.levels <= 1 << 16
        self._require("levels", self.levels, levels, "a whole number from 256 to 65536")

    @property
    def ciphertext(self) -> DTypeLike:
        """The dtype of ciphertext: float32, or uint8 with 256 levels."""
        return np.uint8 if self.levels == _BYTES else np.float32

    def _encrypter(self, key: CipherKey) -> Encrypt:
        plain, coded = (np.stack((np.arange(_BYTES), self._table(key))) / self._scale).astype(self.ciphertext)
        return lambda images: np.where(self._mask(key, images.shape), coded[images], plain[images])

    def _decrypter(self, key: CipherKey) -> Decrypt | None:
        inverse = np.zeros(self.levels, dtype=np.uint8)  # what no byte is encrypted to is decrypted to 0
        inverse[self._table(key)] = np.arange(_BYTES)

        def decrypt(images: NDArray[Any]) -> NDArray[np.uint8]:
            numbers = np.clip(np.rint(images.astype(np.float32) * self._scale), 0, self.levels - 1).astype(np.int64)
            plain: NDArray[np.uint8] = np.minimum(numbers, _BYTES - 1).astype(np.uint8)
            return np.where(self._mask(key, images.shape), inverse[numbers], plain)

        return decrypt

    @property
    def _scale(self) -> int:
        """What numbers are divided by to be ciphertext."""
        return 1 if self.levels == _BYTES else self.levels - 1

    def _table(self, key: CipherKey) -> NDArray[np.int64]:
        """Return what each byte is encrypted to, shape (256,)."""
        cipher = ffx.FF1(key.draws("table").read(32), allow_small_domain=True)
        return np.array([cipher.encrypt_int(value, domain=self.levels) for value in range(_BYTES)])

    def _mask(self, key: CipherKey, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return which numbers of images (N, H, W, C) are encrypted, shape (1, H, W, C)."""
        blocks = split(np.empty((1, *shape[1:]), dtype=bool), self.block)
        chosen = key.draws("mask").chosen(blocks[0, 0].size, self.share).reshape(blocks.shape[2:])
        return join(np.broadcast_to(chosen, blocks.shape), shape[1])
