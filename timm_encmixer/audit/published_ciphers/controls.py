"""Controls: no encryption, encryption that leaves nothing, and noise that has nothing. They show what figures mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Decrypt, Encrypt, PublishedCipher

_CONTROL = "A control: "


@dataclass(frozen=True, kw_only=True)
class Identity(PublishedCipher):
    """u = v: ciphertext is the image itself. Every attack on ciphertexts must succeed on it."""

    name: ClassVar[str] = "identity"
    title: ClassVar[str] = "No encryption"
    citation: ClassVar[str] = "our own"
    purpose: ClassVar[str] = _CONTROL + "what learning gets at most, and attacks that look for a key."
    key_use: ClassVar[str] = "none"

    block: int = 1

    def _encrypter(self, key: CipherKey) -> Encrypt:
        return lambda images: images.copy()

    def _decrypter(self, key: CipherKey) -> Decrypt | None:
        return lambda images: images.copy()


@dataclass(frozen=True, kw_only=True)
class AesCtr(PublishedCipher):
    """The bytes of each image under AES-256 in counter mode, with a nonce an image. No attack may succeed on it.

    u = v xor the key stream. The nonce of the n-th image is n in 8 bytes, and the block counter starts at 0. There is no
    decryption, which would need n.
    """

    name: ClassVar[str] = "aes_ctr"
    title: ClassVar[str] = "AES-CTR of the bytes"
    citation: ClassVar[str] = "NIST FIPS 197 and SP 800-38A"
    purpose: ClassVar[str] = _CONTROL + "what is left of an image by a cipher that hides all."
    key_use: ClassVar[str] = "a key an image"

    block: int = 1

    def _encrypter(self, key: CipherKey) -> Encrypt:
        cipher, met = algorithms.AES(key.draws("aes").read(32)), 0

        def encrypt(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
            nonlocal met
            result = np.empty(images.shape, dtype=np.uint8)
            for index, image in enumerate(images):
                nonce = (met + index).to_bytes(8, "big") + bytes(8)
                coded = Cipher(cipher, modes.CTR(nonce)).encryptor().update(image.tobytes())
                result[index] = np.frombuffer(coded, dtype=np.uint8).reshape(image.shape)
            met += len(images)
            return result

        return encrypt


@dataclass(frozen=True, kw_only=True)
class Noise(PublishedCipher):
    """u is uniform noise, independent of the image and drawn anew for each. No attack may succeed on it."""

    name: ClassVar[str] = "noise"
    title: ClassVar[str] = "Uniform noise"
    citation: ClassVar[str] = "our own"
    purpose: ClassVar[str] = _CONTROL + "what learning and attacks get from nothing."
    key_use: ClassVar[str] = "a key an image"

    block: int = 1

    def _encrypter(self, key: CipherKey) -> Encrypt:
        draws = key.draws("noise")
        return lambda images: np.frombuffer(draws.read(images.size), dtype=np.uint8).reshape(images.shape).copy()
