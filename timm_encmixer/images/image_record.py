"""What a ciphertext file says of itself: which cipher and key it was made with, and what its pixels were. docs/format.md.

It says nothing of the plain image. Software that does not know it reads the file as any other PNG or JPEG.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from PIL import Image

from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.errors import ImageError
from timm_encmixer.images.file_format import FORMATS, ciphertext_formats, format_of
from timm_encmixer.images.formats.base import FileFormat
from timm_encmixer.images.formats.png import png_info as png_info
from timm_encmixer.schema import read_as
from timm_encmixer.scheme import Scheme

if TYPE_CHECKING:
    from timm_encmixer.ciphers import BlockCipher

    KeyedCipher = ImageCipher | BlockCipher
VERSION = 1  # with a digest
LOSSY_VERSION = 2  # without one: a lossy format changes the pixels a little
_Hex16 = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
_Pixels = Annotated[int, Meta(ge=1, le=2**31 - 1)]
NO_RECORD = "no record in the file"
UNMARKED = (
    "this ciphertext carries no record, so nobody can say whether it is whole, of this key, or a plain image; "
    "--strict (strict=True) refuses such files"
)
_ORIGINAL = "decrypt the file that encmixer wrote: ciphertext must not be resized, cropped, turned or recompressed"


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of one ciphertext image.

    Args:
        version: Of this format.
        cipher: Name of the cipher.
        patch_size: Side of a block, in pixels.
        size: Height and width, in pixels.
        fingerprint: The key's, 16 hex digits.
        digest: CRC-32 of the ciphertext's bytes, row by row, channels last, as 8 hex digits: against accidents, not attackers.
            None in files of lossy formats, whose pixels change a little with each saving.
    """

    version: Annotated[int, Meta(ge=VERSION, le=LOSSY_VERSION)] = VERSION
    cipher: Annotated[str, Meta(max_length=64)]
    patch_size: Annotated[int, Meta(ge=1, le=1024)]
    size: tuple[_Pixels, _Pixels]
    fingerprint: _Hex16
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.version == VERSION) != isinstance(self.digest, str):
            raise ValueError(f"version {VERSION} has a digest, version {LOSSY_VERSION} has none")

    @classmethod
    def of(cls, ciphertext: NDArray[np.uint8], cipher: KeyedCipher, *, lossless: bool = True) -> ImageRecord:
        """Return the record of a ciphertext, shape (H, W) or (H, W, C), uint8; for a file that keeps its pixels or not."""
        height, width = ciphertext.shape[:2]
        scheme = cipher.scheme
        return cls(
            version=VERSION if lossless else LOSSY_VERSION,
            cipher=scheme.cipher,
            patch_size=scheme.patch_size,
            size=(height, width),
            fingerprint=cipher.fingerprint,
            digest=_digest(ciphertext) if lossless else msgspec.UNSET,
        )

    @classmethod
    def found_in(cls, image: Image.Image, *, where: str, text: str | None = None) -> ImageRecord | None:
        """Return the record of an image that was read from a file, None where it has none.

        Args:
            image: Loaded: a record may stand behind the pixels.
            where: Name for messages.
            text: Of the record, where it is known already.

        Raises:
            ImageError: It is malformed, or of another version.
        """
        text = record_text(image) if text is None else text
        if text is None:
            return None
        remedy = "upgrade timm-encmixer, or take another copy"
        record = read_as(cls, text, where=f"{where}: record", error=ImageError, remedy=remedy)
        read = format_of(image)
        expected = record.version if read is None or image.format != read.name else VERSION if read.lossless else LOSSY_VERSION
        if record.version != expected:
            raise ImageError(
                f"{where}: record", f"version {expected} in {image.format}", f"version {record.version}", _ORIGINAL
            )
        return record

    def to_text(self) -> str:
        """Return the JSON text."""
        return msgspec.json.encode(self).decode()

    def fits(self, image: Image.Image) -> bool:
        """Whether the pixels of an image are those that were written, as far as the record tells."""
        return self.digest in (msgspec.UNSET, _digest(np.asarray(image)))

    def check(self, image: Image.Image, cipher: KeyedCipher | Scheme, *, where: str) -> None:
        """Compare with the image that carries it and with the cipher that is about to decrypt it, or a model's record.

        Raises:
            ImageError: Another key or cipher, or pixels that are not those that were written.
        """
        scheme = cipher if isinstance(cipher, Scheme) else cipher.scheme
        if cipher.fingerprint not in (None, self.fingerprint):
            remedy = "decrypt it with that key, or encrypt the plain image again"
            if cipher is scheme:
                remedy = "encrypt the plain image with the model's key"
            raise ImageError(where, f"a ciphertext under the key {cipher.fingerprint}", f"the key {self.fingerprint}", remedy)
        if (self.cipher, self.patch_size) != (scheme.cipher, scheme.patch_size):
            expected = f"a ciphertext of {scheme.cipher}, blocks of {scheme.patch_size} px"
            got = f"{self.cipher}, blocks of {self.patch_size} px"
            raise ImageError(where, expected, got, "name the model that it was encrypted for")
        if self.size != (image.height, image.width):
            expected = f"{self.size[0]} x {self.size[1]} px, as it was written"
            raise ImageError(where, expected, f"{image.height} x {image.width} px", _ORIGINAL)
        if not self.fits(image):
            raise ImageError(where, "the pixels that were written", "others", _ORIGINAL)


def check_ciphertext(image: Image.Image, cipher: KeyedCipher | Scheme, *, where: str, strict: bool) -> bool:
    """Compare a ciphertext with the record that it carries; returns whether it carries one.

    Args:
        image: As `open_ciphertext` reads it.
        cipher: That is about to decrypt it. Or the record of the model that is about to read it, for a server, which has no
            key; one without a fingerprint takes ciphertext of any key.
        where: Name for messages.
        strict: Refuse ciphertexts that carry no record.

    Raises:
        ImageError: It is not a ciphertext of this cipher, or not whole; or `strict` and it carries no record.
    """
    record = ImageRecord.found_in(image, where=where)
    if record is not None:
        record.check(image, cipher, where=where)
    elif strict:
        remedy = "take the file that encmixer wrote: other software that saves it drops the record"
        raise ImageError(where, "a ciphertext that says what it is", NO_RECORD, remedy)
    return record is not None


def refuse_ciphertext(image: Image.Image, *, where: str = "image", text: str | None = None) -> None:
    """Refuse a ciphertext in place of a plain image; arguments as for `ImageRecord.found_in`.

    Raises:
        ImageError: It carries a record.
    """
    record = ImageRecord.found_in(image, where=where, text=text)
    if record is not None:
        got = f"a ciphertext of {record.cipher} under the key {record.fingerprint}"
        raise ImageError(where, "a plain image", got, "give the plain image; encmixer images decrypt gets it back")


class RecordWriter:
    """Writes the records of ciphertexts; all but the digest is written once for each size.

    Args:
        cipher: That made the ciphertexts.
        format: Of the files that carry the records.
    """

    def __init__(self, cipher: KeyedCipher, format: FileFormat) -> None:
        self._cipher, self._lossless = cipher, format.lossless
        self._templates: dict[tuple[int, ...], tuple[bytes, bytes]] = {}

    def __call__(self, ciphertext: NDArray[np.uint8]) -> bytes:
        """Return the text of the record of a ciphertext, shape (H, W, C), uint8."""
        template = self._templates.get(ciphertext.shape)
        if template is None:
            text = ImageRecord.of(ciphertext, self._cipher, lossless=self._lossless).to_text().encode()
            before, _, after = text.rpartition(_digest(ciphertext).encode()) if self._lossless else (text, b"", b"")
            template = self._templates[ciphertext.shape] = before, after  # the digest is the last field
        return _digest(ciphertext).encode().join(template) if self._lossless else template[0]


def attach_record(image: Image.Image, cipher: KeyedCipher) -> None:
    """Give a ciphertext its record, so that `image.save("x.png")` writes it, also after a copy and in another process.

    In `image.info` it stands as text too. An image that other code makes of it (`resize`, `convert`, numpy) is another image:
    save that one with `pnginfo=png_info(image)`, if its pixels are the same. For ciphers that allow JPEG,
    `image.save("x.jpg", quality=85, subsampling=0)` writes the record.
    """
    pixels = np.asarray(image)
    for one in ciphertext_formats(cipher.scheme):
        one.attach(image, ImageRecord.of(pixels, cipher, lossless=one.lossless).to_text())


def record_text(image: Image.Image) -> str | None:
    """Return the text of the record that an image carries, wherever one of the formats puts it."""
    return next((text for one in FORMATS.values() if (text := one.record_in(image)) is not None), None)


def _digest(pixels: NDArray[np.uint8]) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(pixels).data):08x}"
