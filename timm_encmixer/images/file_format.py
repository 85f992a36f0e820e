"""The file formats of ciphertext: PNG for every cipher, and JPEG for those that it does not destroy."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from timm_encmixer.ciphers.formats import to_pil
from timm_encmixer.errors import ImageError, SchemeError
from timm_encmixer.files import PNG as PNG_FILE
from timm_encmixer.files import FileKind
from timm_encmixer.scheme import JPEG_CIPHERS, Scheme

JPEG_REASON = (
    "JPEG changes ciphertext pixels beyond recovery; keep ciphertext as PNG from end to end, "
    f"or encrypt the model with cipher={JPEG_CIPHERS[0]!r} (--cipher) and images with format='jpeg' (--format)"
)
DEFAULT_QUALITY = 85
QUALITIES = range(1, 101)
_LONGEST_JPEG_PX = 65500  # libjpeg's limit
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class FileFormat:
    """A file format.

    Args:
        name: As Pillow has it.
        suffixes: Lower-case file suffixes; the first one is that of written files.
        kind: What a file of the format is known by.
    """

    name: str
    suffixes: tuple[str, ...]
    kind: FileKind

    @property
    def suffix(self) -> str:
        """The suffix of written files."""
        return self.suffixes[0]


PNG = FileFormat("PNG", (".png",), PNG_FILE)
JPEG = FileFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), FileKind("a JPEG file", b"\xff\xd8\xff"))
FORMATS = {"png": PNG, "jpeg": JPEG}


def find_format(name: str, scheme: Scheme, quality: int | None = None) -> FileFormat:
    """Return the format that ciphertext of a scheme is to be written in.

    Args:
        name: "png" or "jpeg".
        scheme: Of the ciphertext.
        quality: JPEG's quality, 1 to 100; None where none was given.

    Raises:
        SchemeError: No such format or quality, or JPEG for a cipher whose ciphertext it destroys.
    """
    if name not in FORMATS:
        raise SchemeError("format", f"one of {', '.join(FORMATS)}", repr(name)[:100], "choose one of these")
    if quality is not None and name != "jpeg":
        raise SchemeError("quality", "none for PNG, which loses nothing", repr(quality)[:100], "leave it out, or write JPEG")
    if quality is not None and (type(quality) is not int or quality not in QUALITIES):
        expected = f"a whole number from {QUALITIES[0]} to {QUALITIES[-1]}"
        raise SchemeError("quality", expected, repr(quality)[:100], f"{DEFAULT_QUALITY} is usual")
    if name == "jpeg" and not scheme.takes_jpeg:
        raise SchemeError("format", f"png for the cipher {scheme.cipher}", "jpeg", JPEG_REASON)
    return FORMATS[name]


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


def encode_jpeg(pixels: Pixels, quality: int, comment: str) -> bytes:
    """Return an array (H, W, C), C = 1 or 3, as baseline JPEG without subsampling of colours, and a comment.

    Raises:
        ImageError: A side is longer than JPEG allows.
    """
    if max(pixels.shape[:2]) > _LONGEST_JPEG_PX:
        got = f"{pixels.shape[0]} x {pixels.shape[1]} px"
        raise ImageError("image", f"sides of at most {_LONGEST_JPEG_PX} px for JPEG", got, "write PNG, or crop it first")
    buffer = io.BytesIO()
    to_pil(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0, progressive=False, comment=comment)
    return buffer.getvalue()


def refuse_changed_jpeg(image: Image.Image, *, where: str) -> None:
    """Refuse a JPEG that other software has written in a way that mixes neighbouring squares of 8 x 8 px, as far as it shows.

    Args:
        image: As Pillow opened it.
        where: The file, for messages.

    Raises:
        ImageError: Its colours are subsampled, or it is progressive.
    """
    remedy = "take the file that encmixer wrote, or save it as baseline JPEG with 4:4:4 sampling"
    factors = [(across, down) for _, across, down, _ in getattr(image, "layer", ())]
    if len(set(factors)) > 1:
        got = "4:2:0" if factors[0] == (2, 2) else f"colours at other factors ({', '.join(f'{a} x {d}' for a, d in factors)})"
        raise ImageError(where, "a JPEG whose colours are not subsampled (4:4:4)", got, remedy)
    if image.info.get("progressive"):
        raise ImageError(where, "a baseline JPEG, as encmixer writes it", "a progressive one, which was saved again", remedy)
