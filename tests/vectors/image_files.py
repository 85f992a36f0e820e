"""Image files put together byte by byte, for the table that make_files.py writes; and the records of ciphertexts."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

FINGERPRINT = "89e2c27a7d8f4efa"  # of the key 00 01 02 ... 1f, as format-1.json has it
WIDTH, HEIGHT = 16, 8
PLAIN = {"input_size": [3, HEIGHT, WIDTH], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
MODELS = {
    "colour": {
        "version": 1, "cipher": "shuffle+negpos", "patch_size": 4, "in_chans": 3, "fingerprint": FINGERPRINT, "plain": PLAIN,
    },
    "etc": {"version": 4, "cipher": "etc", "patch_size": 8, "in_chans": 3, "fingerprint": FINGERPRINT, "plain": PLAIN},
    "grey": {
        "version": 1, "cipher": "shuffle+negpos", "patch_size": 4, "in_chans": 1, "fingerprint": FINGERPRINT,
        "plain": {**PLAIN, "input_size": [1, HEIGHT, WIDTH], "mean": [0.5], "std": [0.5]},
    },
}  # fmt: skip
SIGNATURE = b"\x89PNG\r\n\x1a\n"
RAW_PROFILE = "Raw profile type exif"
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'
Pixels = np.ndarray

NOISE = np.random.default_rng(28).integers(1, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = np.repeat(NOISE[:, :, :1], 3, axis=2)
FEW = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 128], [77, 77, 77]], np.uint8)[NOISE[:, :, 0] % 4]
TWO = np.array([0, 255], np.uint8)[NOISE[:, :, :1] % 2].repeat(3, axis=2)
SMOOTH = np.asarray(Image.fromarray(NOISE[:2, :3]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
SMOOTH_GREY = np.repeat(SMOOTH[:, :, :1], 3, axis=2)


# PNG


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def rows_of(samples: Pixels, depth: int) -> bytes:
    """Filtered rows of samples (H, W, S); each is of the filter 0."""
    bits = (samples.reshape(samples.shape[0], -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.astype(np.uint8).reshape(-1)).tobytes() for row in bits)


def png(
    samples: Pixels,
    colour: int = 2,
    depth: int = 8,
    *,
    before: bytes = b"",
    after: bytes = b"",
    palette: bytes = b"",
    interlaced: bool = False,
    idat: bytes | None = None,
    end: bytes = chunk(b"IEND", b""),
) -> bytes:
    """A PNG of samples (H, W, S), with more chunks before or behind the pixels."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [samples[top::down, left::across] for left, top, across, down in passes] if interlaced else [samples]
    data = b"".join(rows_of(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, int(interlaced))
    colours = chunk(b"PLTE", palette) if palette else b""
    body = chunk(b"IDAT", zlib.compress(data, 9)) if idat is None else idat
    return SIGNATURE + chunk(b"IHDR", header) + before + colours + body + after + end


def text(keyword: str, value: str, kind: str = "tEXt") -> bytes:
    name, data = keyword.encode() + b"\0", value.encode()
    body = {
        "tEXt": data,
        "zTXt": b"\0" + zlib.compress(data, 9),
        "iTXt": b"\0\0\0\0" + data,
        "iTXt, compressed": b"\1\0\0\0" + zlib.compress(data, 9),
    }[kind]
    return chunk(kind[:4].encode(), name + body)


def exif(*tags: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """EXIF of tags (number, type, count, four bytes of value or offset), and behind them eight bytes of a rational -1 / 0."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entries = b"".join(struct.pack(f"{order}HHI", number, kind, count) + value for number, kind, count, value in tags)
    return head + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}Iii", 0, -1, 0)


def orientation(number: int, kind: int = 3, order: str = "<") -> tuple[int, int, int, bytes]:
    value = struct.pack(f"{order}H", number) + b"\0\0" if kind == 3 else struct.pack(f"{order}I", number)
    return (0x0112, kind, 1, value)


def rational(tags: int) -> tuple[int, int, int, bytes]:
    """A brightness of -1 / 0, a signed rational, behind so many tags."""
    return (0x9203, 10, 1, struct.pack("<I", 8 + 2 + 12 * tags + 4))


def profile(data: bytes) -> str:
    """As ImageMagick writes EXIF into a text chunk."""
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\n".join(["", "exif", f"{len(data):8d}", *lines, ""])


# JPEG


def jpeg(pixels: Pixels, mode: str = "RGB", **options: Any) -> bytes:
    image = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels).convert(mode)
    return encoded(image, "JPEG", **{"quality": 95, "subsampling": 0, **options})


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes, fill: int = 0) -> bytes:
    return b"\xff" * (1 + fill) + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(file: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments, behind its first one, JFIF's."""
    at = 4 + int.from_bytes(file[4:6], "big")
    return file[:at] + b"".join(segments) + file[at:]


def with_factors(file: bytes, *factors: int) -> bytes:
    """A JPEG with other sampling factors in its frame's header: what it says, not how it was made."""
    changed, at = bytearray(file), file.index(b"\xff\xc0")
    for component, factor in enumerate(factors):
        changed[at + 11 + 3 * component] = factor
    return bytes(changed)


# records


def record(model: str, pixels: Pixels | None, **changes: Any) -> str:
    """The record of a ciphertext, with a digest where there are pixels (H, W, C)."""
    fields = {name: MODELS[model][name] for name in ("cipher", "patch_size", "fingerprint")}
    ordered = {"version": 2 if pixels is None else 1, "cipher": fields["cipher"], "patch_size": fields["patch_size"]}
    ordered |= {"size": [HEIGHT, WIDTH], "fingerprint": FINGERPRINT}
    if pixels is not None:
        ordered["digest"] = f"{zlib.crc32(np.ascontiguousarray(pixels)):08x}"
    return json.dumps({**ordered, **changes}, separators=(",", ":"))


def comment(value: str, fill: int = 0) -> bytes:
    return segment(0xFE, b"encmixer:" + value.encode(), fill)


# rows of the table


def row(name: str, row: str, file: bytes, pixels: Pixels | None = None, *, reason: str = "", **more: Any) -> dict[str, Any]:
    """A file and its answer: `refused` with a reason, a pattern that every reader's words fit; else `read`."""
    answer = {"answer": "refused", "reason": reason} if reason else {"answer": "read"}
    if pixels is not None and not reason:
        answer |= {"shape": list(pixels.shape), "pixels": base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()}
    return {"name": name, "row": row, "role": "plain", **answer, **more, "file": base64.b64encode(file).decode()}


CONVERTED = "greyscale, palette, 1 bit, CMYK, alpha"
DAMAGED = "truncated or damaged"
ORIENTED = "EXIF orientation"
METADATA = "all metadata (EXIF, comments, text chunks, colour profiles)"
FRAMES = "animated GIF, PNG, WebP; TIFF of several pages"
OWN = "a ciphertext that this package wrote"
