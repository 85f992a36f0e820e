"""The file formats of ciphertext, looked up by name, suffix, image or cipher. Each is a file in `formats`."""

from __future__ import annotations

import importlib

from PIL import Image

from timm_encmixer.errors import SchemeError
from timm_encmixer.images.format_names import DEFAULT_FORMAT, FORMAT_NAMES, format_name
from timm_encmixer.images.formats.base import FileFormat
from timm_encmixer.scheme import Scheme

FORMATS: dict[str, FileFormat] = {
    name: importlib.import_module(f"timm_encmixer.images.formats.{name}").FORMAT for name in FORMAT_NAMES
}
PNG = FORMATS[DEFAULT_FORMAT]  # of plain images, and of ciphertext unless another one is asked for


def find_format(name: str, scheme: Scheme, quality: int | None = None) -> FileFormat:
    """Return the format that ciphertext of a scheme is to be written in.

    Args:
        name: One of `FORMATS`.
        scheme: Of the ciphertext.
        quality: Of a lossy format; None where none was given.

    Raises:
        SchemeError: No such format or quality, or a format that destroys this cipher's ciphertext.
    """
    name = format_name(name) if isinstance(name, str) else name
    if name not in FORMATS:
        raise SchemeError("format", f"one of {', '.join(FORMATS)}", repr(name)[:100], "choose one of these")
    found = FORMATS[name]
    if quality is not None and found.lossless:
        lossy = " or ".join(other.name for other in FORMATS.values() if not other.lossless)
        expected = f"none for {found.name}, which loses nothing"
        raise SchemeError("quality", expected, repr(quality)[:100], f"leave it out, or write {lossy}")
    if quality is not None and (type(quality) is not int or quality not in found.settings):
        expected = f"a whole number from {found.settings[0]} to {found.settings[-1]}"
        raise SchemeError("quality", expected, repr(quality)[:100], f"{found.for_ciphertext} is usual")
    if not found.keeps(scheme):
        taken = " or ".join(one for one, other in FORMATS.items() if other.keeps(scheme))
        raise SchemeError("format", f"{taken} for the cipher {scheme.cipher}", name, found.refused)
    return found


def ciphertext_formats(scheme: Scheme) -> tuple[FileFormat, ...]:
    """Return the formats that a scheme's ciphertext survives; PNG first."""
    return tuple(one for one in FORMATS.values() if one.keeps(scheme))


def format_of(image: Image.Image) -> FileFormat | None:
    """Return the format of the file that Pillow has read an image from, None for one that is none of these."""
    return next((one for one in FORMATS.values() if image.format in (one.name, *one.others)), None)


def format_of_suffix(suffix: str) -> FileFormat | None:
    """Return the format of a file's suffix, None for one that is none of these."""
    return next((one for one in FORMATS.values() if suffix.lower() in one.suffixes), None)
