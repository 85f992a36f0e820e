"""Reading image files: what is taken as it is, what is converted and what is refused. docs/images.md has the table."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from timm_encmixer.ciphers.formats import MODES
from timm_encmixer.errors import ImageError, warn_caller
from timm_encmixer.files import open_regular
from timm_encmixer.images.file_format import FORMATS, PNG, format_of
from timm_encmixer.images.formats.base import FileFormat
from timm_encmixer.images.image_record import refuse_ciphertext
from timm_encmixer.images.jpeg_file import SIGNATURE as JPEG_SIGNATURE
from timm_encmixer.images.jpeg_file import is_cut
from timm_encmixer.images.orientation import upright, without_orientation
from timm_encmixer.images.pillow import NAMED_SUFFIXES, attempt, open_named
from timm_encmixer.images.png_file import SIGNATURE as PNG_SIGNATURE
from timm_encmixer.images.png_file import PngFile, read_png, refuse_short

ImageSource = str | os.PathLike[str] | BinaryIO | bytes
_FIRST_IS_THE_PHOTO = ("MPO", "PSD")  # formats: other pictures behind the first one show the same again, or parts of it
_I_OF_16_BITS = ("PPM", "PNG")  # formats whose 16-bit greys are in Pillow's mode I
_JPEG = FORMATS["jpeg"]
_LOOKED_AT = (PNG.name, _JPEG.name)  # formats of which Pillow does not tell everything
_BAND_PX = 1 << 20  # pixels that are scaled at a time


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
        image = _plain(*_parsed(file, where), where)
    return without_orientation(image.copy())


def opened_plain(image: Image.Image, *, where: str = "image") -> Image.Image:
    """Take an image that Pillow has opened as `open_plain` takes its file: upright, and refused for the same reasons.

    Of an image whose pixels Pillow has loaded already, and of a copy, what Pillow has kept of the file is looked at: frames,
    orientation, record. The image stays as it is.

    Raises:
        ImageError: As for `open_plain`.
    """
    content = _content_of(image)
    if content.startswith(PNG_SIGNATURE):
        return open_plain(content, where=where)
    if content:
        _refuse_cut(content, where)
        refuse_ciphertext(image, where=where, text=_JPEG.record_in_file(content))
    return _plain(image, None, where)


def open_ciphertext(
    source: ImageSource | Image.Image,
    channels: int | None,
    *,
    where: str | None = None,
    formats: Sequence[FileFormat] = (PNG,),
    jpeg: bool | None = None,
) -> Image.Image:
    """Read a ciphertext. `check_ciphertext` compares it with its record.

    Args:
        source: As for `open_plain`; or an image that Pillow has opened, or a copy of one. A copied or converted JPEG does
            not show whether its colours were subsampled: it is refused.
        channels: 1 or 3; None leaves the image in the file's own mode, for `by_pixels`.
        where: As for `open_plain`.
        formats: That are taken; `ciphertext_formats` says which ones a record's ciphertext survives.
        jpeg: The earlier way to take JPEG too; to be removed in version 0.3.

    Raises:
        FileAccessError: The file is missing or unreadable, or no regular file.
        ImageError: No such file, a damaged or an animated one, or not of `channels` channels; or one that was saved again, as
            far as it shows.
    """
    where = where or ("image" if isinstance(source, Image.Image) else str(source))
    if jpeg is not None:
        warn_caller("open_ciphertext(jpeg=) is now formats=te.images.ciphertext_formats(record)", DeprecationWarning)
        formats = (PNG, FORMATS["jpeg"]) if jpeg else (PNG,)
    if isinstance(source, Image.Image):
        content = _content_of(source)
        if not content:
            return _ciphertext(source, None, channels, formats, where)
        source = content
    with _opened(source) as file:
        return _ciphertext(*_parsed(file, where), channels, formats, where)


def by_pixels(image: Image.Image, channels: int, *, where: str) -> Image.Image:
    """Return a ciphertext in the mode of its model, 8 bits with 1 or 3 channels, where that changes no pixel.

    Programs that make PNG files smaller write grey pixels as greyscale, few colours as a palette, and so on.

    Raises:
        ImageError: It has other channels, or is of a lossy format and of another mode.
    """
    mode, read = MODES.get(channels), PNG if image.format is None else format_of(image)
    if image.mode == mode:
        return image
    expected, remedy = f"a {image.format or 'ciphertext'} of mode {mode}", "it is not a ciphertext of this model"
    if mode is None or read is None or not read.lossless:
        raise ImageError(where, expected, f"mode {image.mode}", remedy)
    converted = to_channels(image, 3, where=where)
    if channels == 1:
        red, *others = converted.split()
        if any(red.tobytes() != other.tobytes() for other in others):
            raise ImageError(where, expected, f"colours (mode {image.mode})", remedy)
        converted = red
    converted.info, converted.format = image.info, image.format
    return converted


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
        image = _scaled(image, where)
    elif image.mode == "F":
        raise ImageError(where, "8 or 16 bits per pixel", "floating-point pixels", "scale it to 8 bits first")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    try:
        return image.convert(mode)
    except ValueError as error:  # modes that Pillow makes but does not convert, such as La
        raise ImageError(where, f"a mode that becomes {mode}", f"mode {image.mode}", "convert it first") from error


def image_suffixes() -> frozenset[str]:
    """Return the lower-case file suffixes of the formats that Pillow reads here, and of those that another package reads."""
    read = (suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN)
    return frozenset((*read, *NAMED_SUFFIXES))


def _scaled(image: Image.Image, where: str) -> Image.Image:
    """Return 16-bit greys as 8-bit ones, v as round(v / 257); a band of rows at a time, so that it takes little memory."""
    result = np.empty((image.height, image.width), np.uint8)
    rows = max(1, _BAND_PX // image.width)
    for top in range(0, image.height, rows):
        band = np.asarray(image.crop((0, top, image.width, min(image.height, top + rows)))).astype(np.int64)
        if band.min() < 0 or band.max() > 65535:
            raise ImageError(where, "at most 16 bits per pixel", "32-bit pixels", "scale it to 8 or 16 bits first")
        result[top : top + rows] = (band + 128) // 257
    return Image.fromarray(result)


def _opened(source: ImageSource) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, (str, os.PathLike)):
        return open_regular(Path(source), action="an image to read")
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return nullcontext(source)


def _parsed(file: BinaryIO, where: str) -> tuple[Image.Image, PngFile | None]:
    """Read an image's header; of a PNG, look at the whole file, and return what it says too."""
    png = None
    with contextlib.suppress(io.UnsupportedOperation):
        file.seek(0)  # as Pillow does
    head = attempt(lambda: file.read(len(PNG_SIGNATURE)), where)
    if head.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        content = head + attempt(file.read, where)
        if head == PNG_SIGNATURE:
            png = read_png(content, where=where)
            image = attempt(png.open, where)
        else:
            image = attempt(lambda: Image.open(io.BytesIO(content)), where)
            _refuse_cut(content, where)
            if (record := _JPEG.record_in_file(content)) is not None:
                _JPEG.attach(image, record)
    else:
        image = open_named(file, where)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        got = f"{image.height} x {image.width} px"
        raise ImageError(where, f"at most {limit} pixels, against decompression bombs", got, "scale it down first")
    return image, png


def _refuse_cut(jpeg: bytes, where: str) -> None:
    if is_cut(jpeg):
        raise ImageError(where, "a whole image", "a damaged one (it is truncated)", "take another copy")


def _plain(image: Image.Image, png: PngFile | None, where: str) -> Image.Image:
    """Return a plain image, upright."""
    if not all(image.size):
        raise ImageError(where, "an image with pixels", f"{image.height} x {image.width} px", "give another one")
    _still(image, png, where)
    _load(image, png, where)
    refuse_ciphertext(image, where=where)
    if image.format is not None:
        _refuse_32_bit(image, where)
    return upright(image)


def _ciphertext(
    image: Image.Image, png: PngFile | None, channels: int | None, formats: Sequence[FileFormat], where: str
) -> Image.Image:
    """Return a ciphertext, loaded."""
    read, taken = format_of(image), " or ".join(one.name for one in formats)
    if image.format is None:  # it was copied or converted; its record says what its file was
        read = next((one for one in FORMATS.values() if one.record_in(image) is not None), PNG)
        image = image.copy()
    if read is None or read not in formats or image.format not in (read.name, None):
        refused = read.refused if read is not None and read not in formats else ""
        got = image.format or (read.name if read is not None else "another format")
        raise ImageError(where, f"a ciphertext {taken}", got, refused or f"give the {taken} that encmixer wrote")
    if image.format is None and not read.lossless:
        remedy = "give the file itself: a copy does not show whether its colours were subsampled"
        raise ImageError(where, f"a {read.name} file", "an image that was copied or converted", remedy)
    image.format = read.name
    read.refuse_changed(image, where=where)
    _still(image, png, where)
    _load(image, png, where)
    return image if channels is None else by_pixels(image, channels, where=where)


def _still(image: Image.Image, png: PngFile | None, where: str) -> None:
    """Refuse a file of several frames or pages."""
    if image.format in _FIRST_IS_THE_PHOTO:
        return
    frames = attempt(lambda: getattr(image, "n_frames", 1), where) if png is None else png.frames
    if frames > 1:
        raise ImageError(where, "a still image", f"{frames} frames", "extract the frame you mean")


def _load(image: Image.Image, png: PngFile | None, where: str) -> None:
    attempt(image.load, where)
    if png is not None:
        refuse_short(png, image, where=where)


def _content_of(image: Image.Image) -> bytes:
    """Return the PNG or JPEG file that Pillow has opened an image from, if it has not loaded the pixels yet; else nothing."""
    file = image.fp if isinstance(image, ImageFile.ImageFile) and image.format in _LOOKED_AT else None
    if file is None:
        return b""
    try:
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
    except (OSError, ValueError):  # it is closed, or a stream; Pillow says so when it loads the pixels
        return b""
    return content


def _refuse_32_bit(image: Image.Image, where: str) -> None:
    """Refuse a file of 32-bit pixels: only the file says whether values as small as those of 16 bits are 16-bit ones."""
    if image.mode == "I" and image.format not in _I_OF_16_BITS:
        raise ImageError(where, "8 or 16 bits per pixel", "32-bit pixels", "scale it to 8 or 16 bits first")
