"""PNG: lossless, for every cipher whose ciphertext is 8-bit. The record is a text chunk."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.ciphers.formats import to_pil
from timm_encmixer.files import PNG
from timm_encmixer.images.formats.base import Encoder, FileFormat, Pixels
from timm_encmixer.scheme import Scheme

_IHDR_END = 33  # in every PNG: its signature and its first chunk
_CHUNK = b"tEXt" + RECORD_NAME.encode() + b"\0"


@dataclass(frozen=True)
class Png(FileFormat):
    """PNG at zlib's compression level 0 to 9."""

    def keeps(self, scheme: Scheme) -> bool:
        """True: it loses nothing. Ciphertext that is not 8-bit has no file at all, which `make_codec` says."""
        return True

    def encoder(self, setting: int) -> Encoder:
        """Return the encoder at a compression level."""
        encode = png_encoder(setting)
        return lambda pixels, record: encode(pixels) if record is None else _with_text(encode(pixels), record)

    def record_in(self, image: Image.Image) -> str | None:
        """Return the text chunk of the record."""
        text = image.info.get(RECORD_NAME)
        return str(text) if isinstance(text, str) else None  # of an iTXt chunk Pillow makes a text of its own type

    def attach(self, image: Image.Image, record: str) -> None:
        """Put the record where `png_info` finds it, and let `image.save` write it, also after a copy or in another process."""
        image.info[RECORD_NAME] = record
        image.__class__ = CiphertextImage  # all else of it stays: Pillow's images have no public constructor of their own

    def refuse_changed(self, image: Image.Image, *, where: str) -> None:
        """Refuse nothing: the digest in the record finds every change of pixels."""


class CiphertextImage(Image.Image):
    """A ciphertext in memory, whose `save` writes its record into a PNG file."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Save the image as Pillow does."""
        super().save(fp, format, **{"pnginfo": png_info(self), **params})

    def copy(self) -> CiphertextImage:
        """Return a copy, which keeps the record."""
        copied = super().copy()
        copied.__class__ = CiphertextImage
        return cast("CiphertextImage", copied)

    __copy__ = copy


def png_encoder(level: int) -> Callable[[Pixels], bytes]:
    """Return the function that encodes an array (H, W, C), C = 1 or 3, as PNG, at zlib's compression level 0 to 9.

    libspng of imagecodecs encodes, where that is installed (the extra `data`); else Pillow, which takes longer.
    """
    try:
        from imagecodecs import spng_encode
    except ImportError:

        def with_pillow(pixels: Pixels) -> bytes:
            buffer = io.BytesIO()
            to_pil(pixels).save(buffer, format="PNG", compress_level=level)
            return buffer.getvalue()

        return with_pillow

    def encode(pixels: Pixels) -> bytes:
        array = np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
        return bytes(spng_encode(array, level=level))

    return encode


def png_info(image: Image.Image) -> PngInfo:
    """Return what `image.save("x.png", pnginfo=...)` needs to keep the record of a ciphertext that other code copied."""
    info = PngInfo()
    text = image.info.get(RECORD_NAME)
    if isinstance(text, str):
        info.add_text(RECORD_NAME, text)
    return info


def _with_text(png: bytes, record: bytes) -> bytes:
    """Return a PNG file with the record as a text chunk behind its header."""
    body = _CHUNK + record
    length, checksum = (len(body) - 4).to_bytes(4, "big"), zlib.crc32(body).to_bytes(4, "big")
    return b"".join((png[:_IHDR_END], length, body, checksum, png[_IHDR_END:]))


FORMAT = Png(
    "PNG",
    (".png",),
    PNG,
    lossless=True,
    settings=range(10),
    for_ciphertext=0,  # ciphertext hardly compresses (docs/adr/0008)
    for_plain=1,
    advice="Keep the images as PNG: JPEG or resizing destroys them.",
    option="png_level",
)
