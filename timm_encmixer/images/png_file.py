"""What a PNG file says, before Pillow reads its pixels: every chunk whole, the record wherever it stands, nothing else taken.

Pillow skips checksums of pixels, reads a stream that ends early as black rows, and refuses long texts. `png.js` of the
JavaScript client gives the same answers. Source: PNG specification, third edition.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.errors import ImageError
from timm_encmixer.images.orientation import RAW_PROFILE, XMP

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3  # the colour type
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7
_TEXTS = {RECORD_NAME: 1 << 16, RAW_PROFILE: 1 << 20, XMP: 1 << 20}  # that are read, by keyword, and their most bytes
_PIECE = 1 << 20  # bytes of pixels to count at a time


@dataclass(frozen=True)
class PngFile:
    """A PNG file whose chunks are whole.

    Args:
        file: A PNG with the same pixels, and nothing else.
        frames: How many pictures it has, where it is an animation; else 0.
        info: What Pillow's `Image.info` is to say: the record, and what tells the orientation.
    """

    file: bytes = field(repr=False)
    frames: int
    info: dict[str, str | bytes]

    def open(self) -> Image.Image:
        """Let Pillow read the header; `refuse_short` comes after the pixels."""
        image = Image.open(io.BytesIO(self.file), formats=["PNG"])
        image.info.update(self.info)
        return image


def read_png(content: bytes, *, where: str) -> PngFile:
    """Look at a PNG file.

    Raises:
        ImageError: It is truncated, or a chunk is damaged or not where it belongs.
    """
    parts: dict[bytes, list[bytes | memoryview]] = {b"IHDR": [], b"PLTE": [], b"IDAT": [], b"IEND": []}
    info: dict[str, str | bytes] = {}
    frames, is_first = 0, False  # of an animation, and whether the picture itself is the first one
    for name, body, whole in _chunks(content, where):
        if name != b"IHDR" and not parts[b"IHDR"]:
            raise _damaged(where, "no header")
        if name in parts:
            parts[name].append(whole)
        elif name == b"eXIf":
            info["exif"] = bytes(body)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            info.update(_text(name, bytes(body[:80]), body))
        elif name == b"acTL" and len(body) >= 4:
            frames = int.from_bytes(body[:4], "big")
        elif name == b"fcTL" and not parts[b"IDAT"]:
            is_first = True
    _check_header(parts, where)
    kept = b"".join((SIGNATURE, *parts[b"IHDR"], *parts[b"PLTE"][:1], *parts[b"IDAT"], *parts[b"IEND"]))
    return PngFile(kept, frames if is_first or not frames else frames + 1, info)


def refuse_short(png: PngFile, image: Image.Image, *, where: str) -> None:
    """Refuse a file whose compressed pixels end early, between two rows: Pillow makes black of the rest.

    Rows are read in order, so a last row that is not black has come from the file. Else, and in interlaced files, they
    are counted.

    Raises:
        ImageError: Rows are missing.
    """
    interlaced = png.file[28]
    if not interlaced and np.asarray(image.crop((0, image.height - 1, *image.size))).any():
        return
    wanted, stream = _pixel_bytes(png.file), zlib.decompressobj()
    data = b"".join(bytes(body) for name, body, _ in _chunks(png.file, where) if name == b"IDAT")
    while wanted > 0 and data and not stream.eof:
        wanted -= len(stream.decompress(data, _PIECE))
        data = stream.unconsumed_tail
    if wanted > 0:
        raise _damaged(where, "it is truncated")


def _chunks(content: bytes, where: str) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Yield each chunk's name, what is in it, and the whole of it."""
    view, at = memoryview(content), len(SIGNATURE)
    while at + 12 <= len(view):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if end > len(view):
            break
        name = bytes(view[at + 4 : at + 8])
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise _damaged(where, f"a wrong checksum in {name.decode('latin-1')!r}")
        yield name, view[at + 8 : end - 4], view[at:end]
        if name == b"IEND":
            return
        at = end
    raise _damaged(where, "it is truncated")


def _check_header(parts: dict[bytes, list[bytes | memoryview]], where: str) -> None:
    if len(parts[b"IHDR"]) != 1:
        raise _damaged(where, "several headers")
    header = bytes(parts[b"IHDR"][0][8:-4])
    width, height = header[:4], header[4:8]
    if len(header) != 13 or not any(width) or not any(height) or header[10] or header[11] or header[12] > 1:
        raise _damaged(where, "a wrong header")
    if header[9] == _PALETTE and not parts[b"PLTE"]:
        raise _damaged(where, "no palette")
    if not parts[b"IDAT"]:
        raise _damaged(where, "no pixels")


def _text(name: bytes, head: bytes, body: memoryview) -> dict[str, str]:
    """Return the text of a chunk by its keyword, where it is one of those that are read."""
    keyword, end, _ = head.partition(b"\0")
    found = keyword.decode("latin-1")
    if not end or found not in _TEXTS:
        return {}
    most, rest = _TEXTS[found], body[len(keyword) + 1 :]
    packed, coding = name == b"zTXt", "utf-8" if name == b"iTXt" else "latin-1"
    if name == b"iTXt":  # flag, method, language, translated keyword, text
        packed = bytes(rest[:1]) == b"\1"
        places = [at for at, byte in enumerate(bytes(rest[2 : 2 + most])) if not byte][:2]
        rest = rest[2 + places[1] + 1 :] if len(places) == 2 else rest[:0]
    elif packed:
        rest = rest[1:]  # the method
    data = _inflated(rest, most) if packed else bytes(rest[:most])
    return {found: data.decode(coding, "replace")}


def _inflated(data: memoryview, most: int) -> bytes:
    """Return a compressed text; an empty one where it is damaged or longer than `most` bytes."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(bytes(data), most)
    except zlib.error:
        return b""
    return text if stream.eof else b""


def _pixel_bytes(png: bytes) -> int:
    """Return how many bytes the compressed pixels of a PNG are, filters included."""
    width, height, depth, colour = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big"), png[24], png[25]
    total = 0
    for left, top, across, down in _PASSES if png[28] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * _SAMPLES[colour] * depth // 8))
    return total


def _damaged(where: str, reason: str) -> ImageError:
    return ImageError(where, "a whole image", f"a damaged one ({reason})", "take another copy")
