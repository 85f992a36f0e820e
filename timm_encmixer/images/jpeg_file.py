"""The comments of a JPEG file, wherever they stand: one may be a record. `jpeg.js` of the JavaScript client, likewise."""

from __future__ import annotations

from collections.abc import Iterator

SIGNATURE = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_COMMENT, _SCAN = 0xFE, 0xDA
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_LONGEST_COMMENT = 1 << 12  # that is looked at behind the first scan: no record is as long


def comments(content: bytes) -> Iterator[bytes]:
    """Yield the comments of a JPEG file's first picture, in their order.

    Behind the first scan's header are compressed pixels, in which no marker can be: what looks like a comment there is one.
    """
    found, at = _before_pixels(content)
    yield from found
    last = content.find(_END, at)  # of this picture; a phone's file may have more of them
    last = len(content) if last < 0 else last
    while (at := content.find(b"\xff\xfe", at, last)) >= 0:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        yield content[at + 4 : at + 2 + min(length, _LONGEST_COMMENT)]
        at += 2


def is_cut(content: bytes) -> bool:
    """Whether a JPEG file has no end: Pillow reads the pixels that are there, and browsers make grey of the rest."""
    return content.find(_END, _before_pixels(content)[1]) < 0


def _before_pixels(content: bytes) -> tuple[list[bytes], int]:
    """Return the comments before the compressed pixels, and where these begin."""
    found, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF or marker in _ALONE:  # a fill byte, or nothing behind it
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == _COMMENT:
            found.append(content[at + 4 : end])
        at = end
        if marker == _SCAN:
            break
    return found, at
