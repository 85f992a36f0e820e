"""Images that stay plain: told by their first bytes, wherever a data set keeps them."""

from __future__ import annotations

import io
import warnings
from typing import Any

from PIL import Image

_BEGINNINGS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"GIF8",
    b"BM",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"RIFF",  # WebP
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"8BPS",  # Photoshop
    b"qoif",
)


def is_image(cell: Any) -> bool:
    """Whether bytes, or the `bytes` of a struct, are an image that Pillow opens: cheap for what is none."""
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    if not isinstance(cell, bytes) or not (cell.startswith(_BEGINNINGS) or cell[4:8] == b"ftyp"):  # ftyp: AVIF
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(cell)).close()
    except Image.DecompressionBombError:
        return True
    except Exception:  # Pillow's parsers raise what they like on damaged headers
        return False
    return True
