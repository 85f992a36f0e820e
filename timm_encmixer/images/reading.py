"""Reading image files: what is taken as it is, what is converted and what is refused. docs/images.md has the table."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from timm_encmixer.ciphers.formats import MODES
from timm_encmixer.errors import EncMixerError, ImageError, warn_caller
from timm_encmixer.files import file_error, open_regular
from timm_encmixer.images.file_format import FORMATS, PNG, format_of
from timm_encmixer.images.formats.base import FileFormat
from timm_encmixer.images.image_record import refuse_ciphertext

ImageSource = str | os.PathLike[str] | BinaryIO | bytes
T = TypeVar("T")
_FIRST_IS_THE_PHOTO = ("MPO", "PSD")  # formats: other pictures behind the first one show the same again, or parts of it
_I_OF_16_BITS = ("PPM", "PNG")  # formats whose 16-bit greys are in Pillow's mode I


def open_plain(source: ImageSource, *, where: str | None = None) -> Image.Image:
    """Read a plain image, upright (its EXIF orientation applied), in the file's own mode.

    Of a file that holds one photo and more (a phone's JPEG with a preview or a depth map; a layered PSD) it is the photo.

    Args:
        source: A file's path, an open file, or its bytes.
        where: Name for messages; None takes the path.

    Raises:
        FileAccessError: The file is missing or unreadable, or no regular file.
        ImageError: No image, damaged, animated, of several pages, of 32-bit pixels, larger than Pillow's limit against
            decompression bombs, or a ciphertext.
    """
    where = where or str(source)
    with _opened(source) as file:
        image = _parsed(file, where)
        if image.format not in _FIRST_IS_THE_PHOTO and (frames := _attempt(lambda: getattr(image, "n_frames", 1), where)) > 1:
            raise ImageError(where, "a still image", f"{frames} frames", "extract the frame you mean")
        _attempt(image.load, where)
        refuse_ciphertext(image, where=where)
        _refuse_32_bit(image, where)
        return _attempt(lambda: ImageOps.exif_transpose(image), where)


def open_ciphertext(
    source: ImageSource,
    channels: int,
    *,
    where: str | None = None,
    formats: Sequence[FileFormat] = (PNG,),
    jpeg: bool | None = None,
) -> Image.Image:
    """Read a ciphertext. `check_ciphertext` compares it with its record.

    Args:
        source: As for `open_plain`.
        channels: 1 or 3.
        where: As for `open_plain`.
        formats: That are taken; `ciphertext_formats` says which ones a record's ciphertext survives.
        jpeg: The earlier way to take JPEG too; to be removed in version 0.3.

    Raises:
        FileAccessError: The file is missing or unreadable, or no regular file.
        ImageError: No such file of 8-bit pixels with `channels` channels; or one that was saved again, as far as it shows.
    """
    where = where or str(source)
    if jpeg is not None:
        warn_caller("open_ciphertext(jpeg=) is now formats=te.images.ciphertext_formats(record)", DeprecationWarning)
        formats = (PNG, FORMATS["jpeg"]) if jpeg else (PNG,)
    with _opened(source) as file:
        image = _parsed(file, where)
        read, taken = format_of(image), " or ".join(one.name for one in formats)
        if read is None or read not in formats or image.format != read.name:
            refused = read.refused if read is not None and read not in formats else ""
            remedy = refused or f"give the {taken} that encmixer wrote"
            raise ImageError(where, f"a ciphertext {taken}", f"{image.format}", remedy)
        read.refuse_changed(image, where=where)
        if image.mode != MODES.get(channels):
            expected, got = f"a {image.format} of mode {MODES.get(channels)}", f"mode {image.mode}"
            raise ImageError(where, expected, got, "it is not a ciphertext of this model")
        _attempt(image.load, where)
        return image


def read_header(source: ImageSource, *, where: str) -> Image.Image:
    """Read what stands before the pixels of a file; the pixels cannot be loaded afterwards.

    Args:
        source: As for `open_plain`; an open file is left where it was.
        where: Name for messages.

    Raises:
        FileAccessError: The file is missing or unreadable, or no regular file.
        ImageError: No image.
    """
    with _opened(source) as file:
        start = file.tell()
        image = _parsed(file, where)
        file.seek(start)
        return image


@contextlib.contextmanager
def without_bomb_warnings() -> Iterator[None]:
    """Keep Pillow from warning of images that `open_plain` refuses. For the main thread: filters are the whole process's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


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
    if image.format is not None:
        _refuse_32_bit(image, where)
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ImageError(where, "at most 16 bits per pixel", "32-bit pixels", "scale it to 8 or 16 bits first")
        image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ImageError(where, "8 or 16 bits per pixel", "floating-point pixels", "scale it to 8 bits first")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    try:
        return image.convert(mode)
    except ValueError as error:  # modes that Pillow makes but does not convert, such as La
        raise ImageError(where, f"a mode that becomes {mode}", f"mode {image.mode}", "convert it first") from error


def image_suffixes() -> frozenset[str]:
    """Return the lower-case file suffixes of all formats that Pillow reads here."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN)


def _opened(source: ImageSource) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, (str, os.PathLike)):
        return open_regular(Path(source), action="an image to read")
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return nullcontext(source)


def _parsed(file: BinaryIO, where: str) -> Image.Image:
    """Read an image's header."""
    image = _attempt(lambda: Image.open(file), where)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        got = f"{image.height} x {image.width} px"
        raise ImageError(where, f"at most {limit} pixels, against decompression bombs", got, "scale it down first")
    return image


def _attempt(read: Callable[[], T], where: str) -> T:
    """Let Pillow read; its plugins raise what they like on damaged files."""
    try:
        return read()
    except Image.DecompressionBombError as error:
        raise ImageError(where, "an image of ordinary size", "a decompression bomb", "scale it down first") from error
    except UnidentifiedImageError as error:
        raise ImageError(where, "an image", "no format that Pillow knows", "check the file") from error
    except EncMixerError:  # of a file of ours that Pillow reads
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not Pillow's
            raise file_error(where, "an image to read", error) from error
        got = f"a damaged one ({str(error) or type(error).__name__})"
        raise ImageError(where, "a whole image", got, "take another copy") from error


def _refuse_32_bit(image: Image.Image, where: str) -> None:
    """Refuse a file of 32-bit pixels: only the file says whether values as small as those of 16 bits are 16-bit ones."""
    if image.mode == "I" and image.format not in _I_OF_16_BITS:
        raise ImageError(where, "8 or 16 bits per pixel", "32-bit pixels", "scale it to 8 or 16 bits first")
