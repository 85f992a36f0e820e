"""What a file format of ciphertext says of itself: how files are written and read, and where the record travels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from timm_encmixer.files import FileKind
from timm_encmixer.scheme import Scheme

Pixels = NDArray[np.uint8]
Encoder = Callable[[Pixels, bytes | None], bytes]


@dataclass(frozen=True)
class FileFormat(ABC):
    """A file format.

    Args:
        name: As Pillow has it.
        suffixes: Lower-case file suffixes; the first one is that of written files.
        kind: What a file of the format is known by.
        lossless: The pixels that are read are those that were written. Then a record has a digest of them.
        settings: The numbers that its encoder takes: the effort of a lossless format, the quality of a lossy one.
        for_ciphertext: The number for ciphertext, where the caller gives none.
        for_plain: Likewise for plain images.
        refused: Why a cipher's ciphertext is not taken, where `keeps` is false. Empty for a format that every cipher takes.
        advice: What a data set's card says of keeping ciphertext whole.
        option: The field of a manifest's options that holds the number (docs/format.md). None: not for data sets.
        others: Pillow's names of files that are nearly of this format, and are refused.
    """

    name: str
    suffixes: tuple[str, ...]
    kind: FileKind
    lossless: bool
    settings: range
    for_ciphertext: int
    for_plain: int
    refused: str = ""
    advice: str = ""
    option: str | None = None
    others: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The suffix of written files."""
        return self.suffixes[0]

    @abstractmethod
    def keeps(self, scheme: Scheme) -> bool:
        """Whether ciphertext of a scheme can be decrypted again after it was a file of this format."""

    @abstractmethod
    def encoder(self, setting: int) -> Encoder:
        """Return the function that makes a file of an array (H, W, C), C = 1 or 3, and of a record's text, None for none."""

    @abstractmethod
    def record_in(self, image: Image.Image) -> str | None:
        """Return the text of the record that an image carries, as Pillow has read it from a file of this format."""

    def record_in_file(self, content: bytes) -> str | None:
        """Return the text of the record in a whole file, where Pillow may not have found it: None for the other places."""
        return None

    @abstractmethod
    def attach(self, image: Image.Image, record: str) -> None:
        """Give an image in memory a record, so that `image.save` writes it to a file of this format."""

    @abstractmethod
    def refuse_changed(self, image: Image.Image, *, where: str) -> None:
        """Refuse a file that other software has written in a way that destroys ciphertext, as far as it shows.

        Args:
            image: As Pillow opened it.
            where: The file, for messages.

        Raises:
            ImageError: It shows.
        """
