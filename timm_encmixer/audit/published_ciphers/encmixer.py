"""This package's own ciphers in the form of the published ones, so that they meet the same attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from timm_encmixer.audit.published_ciphers.blocks import join, split
from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Decrypt, Encrypt, PublishedCipher
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.ciphers.keyed_map import KeyedMap
from timm_encmixer.scheme import DEFAULT_CIPHER, ETC, SUB_BLOCK_PX, Scheme, facts_of


@dataclass(frozen=True, kw_only=True)
class EncMixer(PublishedCipher):
    """A cipher of this package, through `te.ImageCipher` with the same 32 bytes as its key. docs/format.md has the formulas.

    uint8 ciphertext is bit for bit that of `te.ImageCipher`. That of `orthogonal` is 1/2 + A (v - 1/2) of v from 0 to 1,
    float32 of the images' shape, and may leave 0 .. 1. `name` names the cipher: `encmixer_` and its parts.

    Args:
        block: Side of a block in px, 2 to 32.
        cipher: Any name of a cipher, such as `shuffle+negpos+scramble`.

    Raises:
        SchemeError: There is no such cipher of such blocks.
    """

    name: ClassVar[str] = "encmixer_shuffle_negpos"
    title: ClassVar[str] = "timm-encmixer, a cipher of blocks"
    citation: ClassVar[str] = (
        "this package; shuffle: Iijima and Kiya, An Encryption Method of ConvMixer Models without Performance Degradation, "
        "2022, arXiv 2207.11939"
    )
    purpose: ClassVar[str] = "Encrypted images for a trained model, which is rewritten with the key and not trained again."

    block: int = 4
    cipher: str = DEFAULT_CIPHER

    def __post_init__(self) -> None:
        """Refuse what is no cipher, and give the object its cipher's name."""
        super().__post_init__()
        self._record(3, (1, 1))
        object.__setattr__(self, "name", f"encmixer_{self.cipher.replace('+', '_')}")

    @property
    def ciphertext(self) -> DTypeLike:
        """The dtype of ciphertext: uint8, or float32 where the cipher mixes numbers."""
        return np.uint8 if facts_of(self.cipher).exact else np.float32

    def _record(self, channels: int, grid: tuple[int, int]) -> Scheme:
        """Return the record for images of so many channels, and rows and columns of blocks."""
        record = {"cipher": self.cipher, "patch_size": self.block, "in_chans": channels}
        return Scheme(**record, grid=grid if facts_of(self.cipher).scrambles else None)  # type: ignore[arg-type]

    def _cipher(self, key: CipherKey, shape: tuple[int, ...]) -> ImageCipher:
        _, height, width, channels = shape
        return ImageCipher(key.secret, self._record(channels, (height // self.block, width // self.block)))

    def _encrypter(self, key: CipherKey) -> Encrypt:
        def encrypt(images: NDArray[np.uint8]) -> NDArray[Any]:
            cipher = self._cipher(key, images.shape)
            if not cipher.scheme.exact:
                return self._mapped(cipher.maps[0], images.astype(np.float32) / np.float32(255))
            return cipher.encrypt_batch(images)

        return encrypt

    def _decrypter(self, key: CipherKey) -> Decrypt | None:
        def decrypt(images: NDArray[Any]) -> NDArray[np.uint8]:
            cipher = self._cipher(key, images.shape)
            if not cipher.scheme.exact:
                plain = self._mapped(cipher.maps[1], images)
                return np.clip(np.rint(plain * 255), 0, 255).astype(np.uint8)
            return cipher.decrypt_batch(images)

        return decrypt

    def _mapped(self, mapping: KeyedMap, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return images (N, H, W, C) whose blocks are mapped; a block's numbers are in the order channel, row, column."""
        blocks = split(images, self.block)
        blocks = blocks if mapping.order is None else blocks[:, mapping.order]
        shape = blocks.transpose(0, 1, 4, 2, 3).shape
        numbers = blocks.transpose(0, 1, 4, 2, 3).reshape(*shape[:2], -1) - np.float32(0.5)
        mapped = numbers @ mapping.matrix.T.astype(np.float32) + np.float32(0.5)
        return join(mapped.reshape(shape).transpose(0, 1, 3, 4, 2), images.shape[1])


@dataclass(frozen=True, kw_only=True)
class EncMixerEtc(EncMixer):
    """`EncMixer` with the cipher `etc`, whose ciphertext may travel as JPEG."""

    name: ClassVar[str] = "encmixer_etc"
    citation: ClassVar[str] = "this package, after the sources of `etc_blocks` and `cfe`"

    block: int = SUB_BLOCK_PX
    cipher: str = ETC


def ours(cipher: str = DEFAULT_CIPHER, patch: int = 4) -> EncMixer:
    """Return a cipher of this package in the form of a published one.

    Args:
        cipher: Its name, such as `orthogonal`.
        patch: Side of a block in px.

    Raises:
        SchemeError: There is no such cipher of such blocks.
    """
    return EncMixer(cipher=cipher, block=patch)
