"""The base of the published ciphers: functions of uint8 images, each with its citation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from timm_encmixer.audit.citation import Cited
from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.errors import RESIZE_REMEDY, AuditError
from timm_encmixer.keys import SecretKey

Encrypt = Callable[[NDArray[np.uint8]], NDArray[Any]]  # (N, H, W, C) uint8 -> (N, H, W, C) uint8, or floats (N, h, w, d)
Decrypt = Callable[[NDArray[Any]], NDArray[np.uint8]]
CHANNELS = range(1, 5)


class CipherKey:
    """A key, and the streams that a cipher draws from it.

    Args:
        cipher: The cipher's name. Other ciphers draw other numbers from the same key.
        key: 32 bytes.

    Raises:
        KeyFormatError: Not 32 bytes.
    """

    def __init__(self, cipher: str, key: bytes) -> None:
        self.secret, self._name = SecretKey(key), cipher

    def draws(self, purpose: str) -> Draws:
        """Return a stream from its start; streams for other purposes are independent."""
        return Draws(self.secret.derive(f"audit/scheme={self._name}/{purpose}"))


@dataclass(frozen=True, kw_only=True)
class PublishedCipher(Cited, ABC):
    """An image cipher that others published, or a control. Its `repr` shows its parameters.

    Not to be confused with `te.Scheme`, the public record of this package's own ciphers.

    Args:
        block: Side, in px, of what is encrypted as a unit; 1 where that is a pixel. Height and width of images are multiples
            of it.

    Attributes:
        name: Its key in `PUBLISHED_CIPHERS`: lower-case letters, digits and _.
        title: Its name for people.
        purpose: What it was proposed for.
        key_use: `one key`, `a key an image` or `none`.

    Raises:
        AuditError: A parameter that no cipher can have.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    purpose: ClassVar[str]
    key_use: ClassVar[str] = "one key"

    block: int

    def __post_init__(self) -> None:
        """Refuse parameters that no cipher can have. Subclasses add theirs."""
        self._require("block", self.block, isinstance(self.block, int) and self.block >= 1, "a whole number of px from 1")

    @property
    def ciphertext(self) -> DTypeLike:
        """The dtype of ciphertext: uint8, or float32."""
        return np.uint8

    def encryption(self, key: bytes) -> Encrypt:
        """Return the cipher of a key.

        Args:
            key: 32 bytes. The same key gives the same cipher. With `a key an image`, the keys of images are a stream from it:
                the n-th image that the returned function meets has the n-th key, over all its calls.

        Returns:
            A function of images, uint8 (N, H, W, C), C from 1 to 4. It returns uint8 of the same shape or, where the docstring
            of the cipher says so, float32 (N, h, w, d). It raises `AuditError` for other images.

        Raises:
            KeyFormatError: Not 32 bytes.
        """
        encrypt = self._encrypter(CipherKey(self.name, key))

        def checked(images: NDArray[np.uint8]) -> NDArray[Any]:
            self._check(images, np.uint8)
            return encrypt(images)

        return checked

    def decryption(self, key: bytes) -> Decrypt | None:
        """Return the function that undoes `encryption(key)`, None if there is none or it would need more than the key.

        Args:
            key: 32 bytes.

        Returns:
            A function of ciphertext as `encryption` returns it. It returns uint8 (N, H, W, C).

        Raises:
            KeyFormatError: Not 32 bytes.
        """
        decrypt = self._decrypter(CipherKey(self.name, key))
        if decrypt is None:
            return None

        def checked(images: NDArray[Any]) -> NDArray[np.uint8]:
            self._check(images, self.ciphertext)
            assert decrypt is not None
            return decrypt(images)

        return checked

    @abstractmethod
    def _encrypter(self, key: CipherKey) -> Encrypt:
        """Return the cipher; the images that it meets are checked already."""

    def _decrypter(self, key: CipherKey) -> Decrypt | None:
        """Return what undoes the cipher; the ciphertext that it meets is checked already."""
        return None

    def _check(self, images: NDArray[Any], dtype: DTypeLike) -> None:
        """Raise `AuditError` for what is no batch of images of this dtype, or does not consist of whole blocks."""
        expected = f"{np.dtype(dtype)} of shape (N, H, W, C), N from 1, C from 1 to 4"
        if not isinstance(images, np.ndarray):
            raise AuditError(f"{self.name}: images", expected, type(images).__name__, "give a numpy array")
        if images.dtype != dtype or images.ndim != 4 or 0 in images.shape or images.shape[3] not in CHANNELS:
            raise AuditError(f"{self.name}: images", expected, f"{images.dtype} of shape {images.shape}", "give such an array")
        height, width = images.shape[1:3]
        if height % self.block or width % self.block:
            sides = f"height and width that are multiples of {self.block} px"
            raise AuditError(f"{self.name}: images", sides, f"{height} x {width} px", RESIZE_REMEDY)

    def _require(self, field: str, value: object, holds: bool, expected: str) -> None:
        """Raise `AuditError` for a parameter's value if something does not hold."""
        if not holds or isinstance(value, bool):
            raise AuditError(f"{type(self).__name__}: {field}", expected, repr(value)[:100], "give such a value")

    def _require_share(self, field: str, value: object) -> None:
        """Raise `AuditError` for what is no number from 0 to 1."""
        self._require(field, value, isinstance(value, (int, float)) and 0 <= value <= 1, "a number from 0 to 1")
