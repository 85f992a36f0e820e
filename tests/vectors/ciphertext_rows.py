"""Files to be decrypted, and the answers: the second part of the table that make_files.py writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from image_files import (
    DAMAGED,
    FEW,
    FRAMES,
    GREY,
    HEIGHT,
    NOISE,
    SMOOTH,
    TWO,
    WIDTH,
    Pixels,
    chunk,
    comment,
    encoded,
    exif,
    jpeg,
    orientation,
    png,
    record,
    row,
    rows_of,
    segment,
    text,
    with_factors,
    with_segments,
)
from photo_rows import flipped, palette_of
from PIL import Image

PNG_READ = "PNG of any colour type and depth"
RECORDS = "a record in a text chunk of its keyword or any comment, before or behind the pixels; of several, the last one"
CHANGED = "other pixels, another size, key or cipher than the record says"
UNMARKED = "no record"
OTHER_FORMATS = "JPEG, for ciphers other than those of `etc`; other formats"
JPEG_READ = "compressed again as baseline JPEG, 4:4:4"
SUBSAMPLED = "4:2:0 or other subsampled colours"
PROGRESSIVE = "progressive"
OTHER_MODES = "grey or CMYK JPEG for a model of colours; a phone's JPEG with a second picture (MPO)"


def ciphertexts() -> Iterator[dict[str, Any]]:
    def sent(
        name: str, row_: str, file: bytes, pixels: Pixels | None = None, model: str = "colour", **more: Any
    ) -> dict[str, Any]:
        return row(name, row_, file, pixels, role="ciphertext", model=model, **more)

    def said(pixels: Pixels, model: str = "colour", **changes: Any) -> bytes:
        return text("encmixer", record(model, pixels, **changes))

    own, (indices, colours) = record("colour", NOISE), palette_of(FEW)
    grey, opaque = GREY[:, :, :1], np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    wide = chunk(b"iCCP", b"wide\0\0" + zlib.compress(bytes(2_000_000), 9))
    as_written = {
        "RGB": (png(NOISE, before=said(NOISE)), NOISE),
        "palette": (png(indices, 3, 2, palette=colours, before=said(FEW)), FEW),
        "greyscale": (png(grey, 0, before=said(GREY)), GREY),
        "1 bit": (png(TWO[:, :, :1] // 255, 0, 1, before=said(TWO)), TWO),
        "RGBA": (png(np.concatenate((NOISE, opaque), 2), 6, before=said(NOISE)), NOISE),
        "grey and alpha": (png(np.concatenate((grey, opaque), 2), 4, before=said(GREY)), GREY),
        "16-bit colour": (png(NOISE.astype(np.int64) * 257, 2, 16, before=said(NOISE)), NOISE),
        "16-bit grey": (png(grey.astype(np.int64) * 257, 0, 16, before=said(GREY)), GREY),
        "interlaced": (png(NOISE, interlaced=True, before=said(NOISE)), NOISE),
        "with 2 MB of colour profile": (png(NOISE, before=wide + said(NOISE)), NOISE),
        "lying, by its EXIF": (png(NOISE, before=chunk(b"eXIf", exif(orientation(6))) + said(NOISE)), NOISE),
    }  # fmt: skip
    for name, (file, pixels) in as_written.items():
        yield sent(f"ciphertext PNG, {name}", PNG_READ, file, pixels)
    yield sent(
        "ciphertext PNG of two colours, under etc",
        PNG_READ,
        png(TWO[:, :, :1] // 255, 0, 1, before=said(TWO, "etc")),
        TWO,
        "etc",
    )
    yield sent("grey ciphertext", PNG_READ, png(grey, 0, before=said(grey, "grey")), grey, "grey")
    yield sent("grey ciphertext, as RGB", PNG_READ, png(GREY, before=said(grey, "grey")), grey, "grey")
    yield sent("colours for a grey model", PNG_READ, png(NOISE), model="grey", reason="expected|got")
    for kind in ("zTXt", "iTXt", "iTXt, compressed"):
        yield sent(f"ciphertext PNG, its record in {kind}", RECORDS, png(NOISE, before=text("encmixer", own, kind)), NOISE)
    yield sent("ciphertext PNG, its record behind the pixels", RECORDS, png(NOISE, after=text("encmixer", own)), NOISE)
    yield sent("ciphertext PNG, its record the second", RECORDS, png(NOISE, before=said(GREY) + said(NOISE)), NOISE)
    yield sent(
        "ciphertext PNG, its record the first of two",
        RECORDS,
        png(NOISE, before=said(NOISE) + said(GREY)),
        reason="the pixels that were written|whose digest is",
    )
    yield sent(
        "ciphertext PNG with a malformed record",
        RECORDS,
        png(NOISE, before=text("encmixer", "[]")),
        reason="docs/format.md|a record",
    )
    yield sent(
        "ciphertext PNG with a record of JPEG",
        RECORDS,
        png(NOISE, before=text("encmixer", record("colour", None))),
        reason="version|docs/format.md",
    )
    yield sent(
        "ciphertext PNG, a pixel changed",
        CHANGED,
        png(NOISE, before=said(GREY)),
        reason="the pixels that were written|whose digest is",
    )
    yield sent(
        "ciphertext PNG of another size",
        CHANGED,
        png(NOISE, before=said(NOISE, size=[4, 32])),
        reason="4 x 32 px|whose size is",
    )
    yield sent(
        "ciphertext PNG of another key",
        CHANGED,
        png(NOISE, before=said(NOISE, fingerprint="0" * 16)),
        reason="the key|whose fingerprint is",
    )
    yield sent(
        "ciphertext PNG of another cipher",
        CHANGED,
        png(NOISE, before=said(NOISE, cipher="negpos")),
        reason="a ciphertext of|whose cipher is",
    )
    yield sent("ciphertext PNG without a record", UNMARKED, png(NOISE), NOISE, answer="unmarked")
    lying = png(NOISE, before=chunk(b"eXIf", exif(orientation(6))))
    yield sent("ciphertext PNG without a record, lying by its EXIF", UNMARKED, lying, NOISE, answer="unmarked")
    yield sent("grey ciphertext PNG without a record", UNMARKED, png(grey, 0), GREY, answer="unmarked")
    flipped_, half = (
        flipped(png(NOISE, before=said(NOISE)), 250),
        chunk(b"IDAT", zlib.compress(rows_of(NOISE, 8)[: 49 * HEIGHT // 2])),
    )
    for name, file in {
        "a bit flipped": flipped_,
        "a bit of its checksum flipped": flipped(png(NOISE, before=said(NOISE)), -13),
        "half of its rows": png(NOISE, idat=half, before=said(NOISE)),
        "without its end": png(NOISE, before=said(NOISE), end=b""),
    }.items():
        yield sent(f"ciphertext PNG, {name}", DAMAGED, file, reason="a whole image|whose digest is")
    animated = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0)
    )
    yield sent("animated ciphertext PNG", FRAMES, png(NOISE, before=said(NOISE) + animated), reason="a still image")
    yield sent(
        "ciphertext JPEG of a cipher that it destroys",
        OTHER_FORMATS,
        with_segments(jpeg(SMOOTH), comment(record("colour", None))),
        reason="PNG",
    )
    yield sent("ciphertext WebP", OTHER_FORMATS, encoded(Image.fromarray(NOISE), "WEBP", lossless=True), reason="PNG")
    yield sent("ciphertext GIF", OTHER_FORMATS, encoded(Image.fromarray(NOISE), "GIF"), model="etc", reason="PNG")
    yield sent("no ciphertext at all", OTHER_FORMATS, b"once upon a time, there was no image", reason="expected")

    file, lossy = jpeg(SMOOTH), record("etc", None)
    marked = with_segments(file, comment(lossy))
    read = {
        "": (marked, JPEG_READ),
        ", before another comment": (with_segments(file, comment(lossy), segment(0xFE, b"GIMP")), RECORDS),
        ", behind a fill byte": (with_segments(file, comment(lossy, fill=1)), RECORDS),
        ", behind the pixels": (file[:-2] + comment(lossy) + file[-2:], RECORDS),
        ", the last one of two": (
            with_segments(file, comment(record("etc", None, fingerprint="0" * 16)), comment(lossy)),
            RECORDS,
        ),
        ", lying by its EXIF": (with_segments(marked, segment(0xE1, b"Exif\0\0" + exif(orientation(6)))), JPEG_READ),
    }
    for name, (made, row_) in read.items():
        yield sent(f"ciphertext JPEG{name}", row_, made, SMOOTH, "etc", lossy=True)
    yield sent("ciphertext JPEG without a record", UNMARKED, file, SMOOTH, "etc", lossy=True, answer="unmarked")
    wrong = with_segments(file, comment(lossy), comment(record("etc", None, fingerprint="0" * 16)))
    yield sent(
        "ciphertext JPEG, the last record of another key", RECORDS, wrong, model="etc", reason="the key|whose fingerprint is"
    )
    with_digest = with_segments(file, comment(record("etc", SMOOTH)))
    yield sent(
        "ciphertext JPEG with a record of PNG", RECORDS, with_digest, model="etc", reason="version|docs/format.md|digest"
    )
    for name, made in {
        "4:2:0": jpeg(SMOOTH, subsampling=2),
        "4:2:2": jpeg(SMOOTH, subsampling=1),
        "4:4:0": with_factors(file, 0x12, 0x11, 0x11),
        "4:1:1": with_factors(file, 0x41, 0x11, 0x11),
    }.items():
        yield sent(f"ciphertext JPEG, {name}", SUBSAMPLED, with_segments(made, comment(lossy)), model="etc", reason="4:4:4")
    progressive = with_segments(jpeg(SMOOTH, progressive=True), comment(lossy))
    yield sent("progressive ciphertext JPEG", PROGRESSIVE, progressive, model="etc", reason="baseline JPEG")
    grey_jpeg = with_segments(jpeg(SMOOTH, "L"), comment(lossy))
    yield sent("grey ciphertext JPEG for colours", OTHER_MODES, grey_jpeg, model="etc", reason="mode|channels")
    cmyk = encoded(
        Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95, subsampling=0, comment=b"encmixer:" + lossy.encode()
    )
    yield sent("CMYK ciphertext JPEG", OTHER_MODES, cmyk, model="etc", reason="mode|channels")
    pictures = {"save_all": True, "append_images": [Image.fromarray(NOISE)], "quality": 95, "subsampling": 0}
    phone = with_segments(encoded(Image.fromarray(SMOOTH), "MPO", **pictures), comment(lossy))
    yield sent("ciphertext JPEG with a second picture", OTHER_MODES, phone, model="etc", reason="MPO")
