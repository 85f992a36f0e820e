"""Which way up a photo is, as its file says: EXIF's orientation, or XMP's where EXIF has none. Nothing else of EXIF is read.

So a photo whose EXIF is damaged elsewhere is still read. `orientation.js` of the JavaScript client does the same.
Source: TIFF 6.0, section 2; EXIF 2.32, section 4.6.4; Pillow's `Image.getexif`, which finds them in the same places.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

_TAG = 0x0112
_FORMATS = {1: "B", 3: "H", 4: "I"}  # of a tag's value, by its TIFF type: BYTE, SHORT, LONG
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"  # how a JPEG's segment begins
_XMP_BYTES = 1 << 20  # of a packet that is looked at
_CARRIERS = ("exif", RAW_PROFILE := "Raw profile type exif", XMP := "XML:com.adobe.xmp", "xmp")  # Pillow's names
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its file says; the image itself where nothing is to be turned."""
    turn = _TURNS.get(orientation_in({**_in_segments(image), **image.info}))
    return image if turn is None else without_orientation(image.transpose(turn))


def without_orientation(image: Image.Image) -> Image.Image:
    """Take away what an image says of its orientation, and return it: nobody is to turn it again."""
    for name in _CARRIERS:
        image.info.pop(name, None)
    return image


def orientation_in(info: Mapping[Any, Any]) -> int:
    """Return EXIF's number, 1 to 8 in files that are right, of what Pillow found in a file (`Image.info`); 1 for none."""
    exif = info.get("exif")
    if not isinstance(exif, bytes):
        exif = _from_profile(info.get(RAW_PROFILE))
    found = _in_exif(exif)
    if found is None:
        xmp = info.get(XMP) or info.get("xmp") or b""
        match = _IN_XMP.search((xmp.encode() if isinstance(xmp, str) else bytes(xmp))[:_XMP_BYTES])
        found = 1 if match is None else int(match[1])
    return found


def _in_segments(image: Image.Image) -> dict[str, bytes]:
    """Return the XMP of a JPEG file, which Pillow before 11 does not put into `info`."""
    segments = [content for marker, content in getattr(image, "applist", ()) if marker == "APP1"]
    found = [content.removeprefix(_XMP_SEGMENT) for content in segments if content.startswith(_XMP_SEGMENT)]
    return {"xmp": found[-1]} if found else {}


def _from_profile(text: object) -> bytes:
    """Return the EXIF that ImageMagick writes into a text chunk of PNG: three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(str(text).split("\n")[3:]))
    except ValueError:
        return b""


def _in_exif(exif: bytes) -> int | None:
    """Return the orientation in the first directory of a TIFF file; None where there is no such tag."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    (begin,) = struct.unpack_from(f"{order}I", exif, 4)
    if begin + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, begin)
    found = None
    for at in range(begin + 2, min(begin + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", exif, at)
        if tag == _TAG:  # the last one counts, as in Pillow
            known = values == 1 and kind in _FORMATS
            found = struct.unpack_from(f"{order}{_FORMATS[kind]}", exif, at + 8)[0] if known else 1
    return found
