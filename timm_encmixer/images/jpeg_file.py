"""The comments of a JPEG file, wherever they stand: one may be a record. `jpeg.js` of the JavaScript client, likewise."""

from __future__ import annotations

from collections.abc import Iterator

SIGNATURE = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_COMMENT, _SCAN = 0xFE, 0xDA
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_LONGEST_COMMENT = 1 << 12  # that is looked at behind the first scan: no record is as long


def comments(content: bytes, beginning: bytes) -> Iterator[bytes]:
    """Yield the comments of a JPEG file's first picture that begin so, in their order.

    Behind the first scan's header are compressed pixels, in which no marker can be: what looks like a comment there is one.
    """
    found, start = _before_pixels(content)
    yield from (comment for comment in found if comment.startswith(beginning))
    at = start
    while (at := content.find(beginning, at + 1)) >= 0:  # this alone costs time, as nearly always nothing is found
        length = int.from_bytes(content[at - 2 : at], "big")
        if content[at - 4 : at - 2] == b"\xff\xfe" and content.find(_END, start, at) < 0:  # else of a phone's second picture
            yield content[at : at - 2 + min(length, _LONGEST_COMMENT)]


def is_cut(content: bytes) -> bool:
    """Whether a JPEG file has no end: Pillow reads the pixels that are there, and browsers make grey of the rest."""
    return content.rfind(_END) < _before_pixels(content)[1]


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
