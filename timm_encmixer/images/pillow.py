"""Letting Pillow open files: one error for all that it raises, and the package that reads a format which it does not read."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from PIL import Image, UnidentifiedImageError

from timm_encmixer.errors import EncMixerError, ImageError
from timm_encmixer.files import file_error

T = TypeVar("T")
_HEAD_BYTES = 64


@dataclass(frozen=True)
class _Named:
    """A format of photos that Pillow reads with another package alone.

    Args:
        name: For messages.
        suffixes: Of its files, lower case.
        brands: Of a file in the ISO base media format; one of these is in its head.
        magic: How other files begin.
        package: That reads it.
        module: Of the package.
        opener: The module's function that tells Pillow, None where importing it does.
    """

    name: str
    suffixes: tuple[str, ...]
    brands: tuple[bytes, ...]
    magic: tuple[bytes, ...]
    package: str
    module: str
    opener: str | None

    def fits(self, head: bytes) -> bool:
        """Whether a file that begins so is of this format."""
        brands = {head[at : at + 4] for at in range(8, int.from_bytes(head[:4], "big"), 4)} if head[4:8] == b"ftyp" else set()
        return head.startswith(self.magic) or not brands.isdisjoint(self.brands)

    def register(self) -> bool:
        """Let Pillow read it; returns whether the package is installed."""
        try:
            module = importlib.import_module(self.module)
        except ImportError:
            return False
        if self.opener is not None:
            getattr(module, self.opener)()
        return True


_NAMED = (
    _Named(
        "HEIC",
        (".heic", ".heif", ".hif"),
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"),
        (),
        "pillow-heif",
        "pillow_heif",
        "register_heif_opener",
    ),
    _Named("AVIF", (".avif",), (b"avif", b"avis"), (), "pillow-avif-plugin", "pillow_avif", None),
    _Named("JPEG XL", (".jxl",), (), (b"\xff\x0a", b"\0\0\0\x0cJXL "), "pillow-jxl-plugin", "pillow_jxl", None),
)
NAMED_SUFFIXES = frozenset(suffix for one in _NAMED for suffix in one.suffixes)


def open_named(file: BinaryIO, where: str) -> Image.Image:
    """Read an image's header, with the package that Pillow needs for it.

    Args:
        file: Open; Pillow reads it from its beginning.
        where: Name for messages.

    Raises:
        ImageError: No image, a damaged one, or one of a format whose package is not installed.
    """

    def opened() -> Image.Image:
        try:
            return Image.open(file)
        except UnidentifiedImageError:
            file.seek(0)
            named = _named_by(file.read(_HEAD_BYTES))
            if named is None:
                raise
            if not _registered(named):
                remedy = f"pip install {named.package}, or convert it to JPEG or PNG"
                raise ImageError(where, "a format that Pillow reads here", named.name, remedy) from None
            return Image.open(file)

    return attempt(opened, where)


def _named_by(head: bytes) -> _Named | None:
    return next((one for one in _NAMED if one.fits(head)), None)


@functools.cache
def _registered(named: _Named) -> bool:
    return named.register()


def attempt(read: Callable[[], T], where: str) -> T:
    """Let Pillow read; its plugins raise what they like on damaged files.

    Raises:
        ImageError: No image, or a damaged one.
        FileAccessError: The system does not let it read.
    """
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
