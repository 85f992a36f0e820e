"""Reading image files: what is taken as it is, what is converted and what is refused. docs/images.md has the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from timm_encmixer.ciphers.formats import MODES
from timm_encmixer.errors import FileAccessError, ImageError
from timm_encmixer.files import file_error

JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))
JPEG_REASON = "JPEG changes ciphertext pixels beyond recovery; keep ciphertext as PNG from end to end"


def open_plain(source: Path | str | os.PathLike[str] | BinaryIO, *, where: str | None = None) -> Image.Image:
    """Read a plain image, upright (its EXIF orientation applied), in the file's own mode.

    Args:
        source: A file's path, or an open file.
        where: Name for messages; None takes the path.

    Raises:
        FileAccessError: The file is missing or unreadable.
        ImageError: No image, truncated, animated, or larger than Pillow's limit against decompression bombs.
    """
    where = where or str(source)
    image = _open(source, where)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(where, "a still image", f"{frames} frames", "extract the frame you mean")
    return ImageOps.exif_transpose(_load(image, where))


def open_ciphertext(
    source: Path | str | os.PathLike[str] | BinaryIO, channels: int, *, where: str | None = None
) -> Image.Image:
    """Read a ciphertext PNG; the arguments are those of `open_plain`.

    Raises:
        FileAccessError: The file is missing or unreadable.
        ImageError: No PNG of 8-bit pixels with `channels` channels. JPEG is refused: it does not keep the pixels.
    """
    where = where or str(source)
    image = _open(source, where)
    if image.format != "PNG":
        raise ImageError(where, "a ciphertext PNG", f"{image.format}", JPEG_REASON)
    if image.mode != MODES.get(channels):
        raise ImageError(
            where, f"a PNG of mode {MODES.get(channels)}", f"mode {image.mode}", "it is not a ciphertext of this model"
        )
    return _load(image, where)


def to_channels(image: Image.Image, channels: int, *, where: str = "image") -> Image.Image:
    """Convert an image to 8 bits and 1 or 3 channels, as timm's own reader does, but 16-bit greys by scaling.

    Alpha is dropped, palettes and CMYK become RGB (Pillow's `convert`). 16-bit grey v becomes round(v / 257), where Pillow
    alone would clip at 255.

    Raises:
        ImageError: Floating-point or 32-bit pixels, or a number of channels that PIL images do not have.
    """
    mode = MODES.get(channels)
    if mode is None:
        raise ImageError(where, "1 or 3 channels", f"{channels}", "encrypt CHW tensors with BlockCipher instead")
    if image.mode == mode:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ImageError(where, "at most 16 bits per pixel", "32-bit pixels", "scale it to 8 or 16 bits first")
        image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ImageError(where, "8 or 16 bits per pixel", "floating-point pixels", "scale it to 8 bits first")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def image_suffixes() -> frozenset[str]:
    """Return the lower-case file suffixes of all formats that Pillow reads here."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN)


def _open(source: str | os.PathLike[str] | BinaryIO, where: str) -> Image.Image:
    try:
        image = Image.open(source)
    except Image.DecompressionBombError as error:
        raise ImageError(where, "an image of ordinary size", "a decompression bomb", "scale it down first") from error
    except UnidentifiedImageError as error:
        raise ImageError(where, "an image", "no format that Pillow knows", "check the file") from error
    except FileAccessError:
        raise
    except OSError as error:
        if not isinstance(source, (str, os.PathLike)):  # what is in memory can only be damaged
            raise ImageError(where, "an image", f"a damaged one ({error})", "take another copy") from error
        raise file_error(where, "an image to read", error) from error
    except Exception as error:  # Pillow's parsers raise what they like on damaged headers
        raise ImageError(where, "an image", f"a damaged one ({error})", "take another copy") from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        got = f"{image.width} x {image.height} px"
        raise ImageError(where, f"at most {limit} pixels, against decompression bombs", got, "scale it down first")
    return image


def _load(image: Image.Image, where: str) -> Image.Image:
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise what they like on damaged data
        raise ImageError(where, "a whole image", f"a damaged one ({error})", "take another copy") from error
    return image
