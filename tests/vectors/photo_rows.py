"""Files to be encrypted, and the answers: the first part of the table that make_files.py writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from image_files import (
    CONVERTED,
    DAMAGED,
    FEW,
    FRAMES,
    GREY,
    HEIGHT,
    METADATA,
    NOISE,
    ORIENTED,
    OWN,
    RAW_PROFILE,
    SIGNATURE,
    SMOOTH,
    SMOOTH_GREY,
    TWO,
    WIDTH,
    XMP,
    Pixels,
    chunk,
    comment,
    encoded,
    exif,
    jpeg,
    orientation,
    png,
    profile,
    rational,
    record,
    row,
    rows_of,
    segment,
    text,
    with_segments,
)
from PIL import Image


def photos() -> Iterator[dict[str, Any]]:
    alpha = NOISE[:, :, 1:2]
    indices, colours = palette_of(FEW)
    deep = (NOISE.astype(np.int64) * 257 + 100) % 65536
    yield row("RGB", CONVERTED, png(NOISE), NOISE)
    yield row("greyscale", CONVERTED, png(GREY[:, :, :1], 0), GREY)
    yield row("palette", CONVERTED, png(indices, 3, 2, palette=colours), FEW)
    yield row("1 bit", CONVERTED, png(TWO[:, :, :1] // 255, 0, 1), TWO)
    yield row("RGBA", CONVERTED, png(np.concatenate((NOISE, alpha), 2), 6), NOISE)
    yield row("grey and alpha", CONVERTED, png(np.concatenate((GREY[:, :, :1], alpha), 2), 4), GREY)
    yield row("interlaced", CONVERTED, png(NOISE, interlaced=True), NOISE)
    yield row(
        "16-bit grey",
        "16-bit greyscale",
        png(deep[:, :, :1], 0, 16),
        ((deep[:, :, :1] + 128) // 257).repeat(3, 2).astype(np.uint8),
    )
    yield row("16-bit colour", "16-bit colour", png(deep, 2, 16), (deep >> 8).astype(np.uint8))
    yield row("JPEG", CONVERTED, jpeg(SMOOTH), SMOOTH, lossy=True)
    yield row("grey JPEG", CONVERTED, jpeg(SMOOTH, "L"), SMOOTH_GREY, lossy=True)
    first, second = Image.fromarray(SMOOTH), Image.fromarray(NOISE)
    two = encoded(first, "MPO", save_all=True, append_images=[second], quality=95, subsampling=0)
    yield row("a phone's two pictures", "a phone's JPEG with a second picture (MPO), a layered PSD", two, SMOOTH, lossy=True)
    yield row("lossless WebP", CONVERTED, encoded(second, "WEBP", lossless=True), NOISE)
    yield row(
        "32-bit TIFF",
        "32-bit or floating-point pixels",
        encoded(Image.fromarray(NOISE[:, :, 0].astype(np.int32)), "TIFF"),
        reason="32-bit",
        browser=False,
    )
    yield row(
        "floating-point TIFF",
        "32-bit or floating-point pixels",
        encoded(Image.fromarray(NOISE[:, :, 0].astype(np.float32)), "TIFF"),
        reason="floating-point",
        browser=False,
    )
    yield row(
        "HEIC",
        "HEIC, JPEG XL; AVIF where Pillow does not read it",
        struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40),
        reason="HEIC|damaged",
    )
    yield row(
        "something else",
        "what is no image",
        b"once upon a time, there was no image",
        reason="no format|a PNG, outside of a browser",
    )


def palette_of(pixels: Pixels) -> tuple[Pixels, bytes]:
    colours, indices = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    return indices.reshape(HEIGHT, WIDTH, 1), colours.tobytes()


def orientations() -> Iterator[dict[str, Any]]:
    turned = np.rot90(NOISE, -1)
    six, xmp = exif(orientation(6)), XMP.format(6)
    says = {
        "6": chunk(b"eXIf", six),
        "6, big-endian": chunk(b"eXIf", exif(orientation(6, order=">"), order=">")),
        "6, as LONG": chunk(b"eXIf", exif(orientation(6, 4))),
        "twice, 3 and 6": chunk(b"eXIf", exif(orientation(3), orientation(6))),
        "6, beside a rational -1 / 0": chunk(b"eXIf", exif(orientation(6), rational(2))),
        "6, in a text chunk": text(RAW_PROFILE, profile(b"Exif\0\0" + six), "zTXt"),
        "6, in XMP": text("XML:com.adobe.xmp", xmp, "iTXt"),
        "6, in compressed XMP": text("XML:com.adobe.xmp", xmp, "iTXt, compressed"),
        "6, in XMP beside EXIF without it": chunk(b"eXIf", exif(rational(1))) + text("XML:com.adobe.xmp", xmp, "iTXt"),
    }  # fmt: skip
    for name, chunks in says.items():
        yield row(f"PNG, orientation {name}", ORIENTED, png(NOISE, before=chunks), turned)
    yield row("PNG, orientation 6, behind the pixels", ORIENTED, png(NOISE, after=chunk(b"eXIf", six)), turned)
    stays = {
        "1, and 6 in XMP": chunk(b"eXIf", exif(orientation(1))) + text("XML:com.adobe.xmp", xmp, "iTXt"),
        "9": chunk(b"eXIf", exif(orientation(9))),
        "in damaged EXIF": chunk(b"eXIf", b"no EXIF at all"),
        "in EXIF that ends early": chunk(b"eXIf", six[:12]),
        "of two values": chunk(b"eXIf", exif((0x0112, 3, 2, struct.pack("<HH", 6, 6)))),
    }  # fmt: skip
    for name, chunks in stays.items():
        yield row(f"PNG, orientation {name}", ORIENTED, png(NOISE, before=chunks), NOISE)
    smooth = np.rot90(SMOOTH, -1)
    for number in range(1, 9):
        turns = {
            2: np.fliplr, 3: lambda image: np.rot90(image, 2), 4: np.flipud, 5: lambda image: image.transpose(1, 0, 2),
            6: lambda image: np.rot90(image, -1), 7: lambda image: np.rot90(image.transpose(1, 0, 2), 2), 8: np.rot90,
        }  # fmt: skip
        made = turns.get(number, np.array)(NOISE)
        yield row(
            f"PNG, orientation number {number}", ORIENTED, png(NOISE, before=chunk(b"eXIf", exif(orientation(number)))), made
        )
    file = jpeg(SMOOTH)
    app1 = {
        "6": segment(0xE1, b"Exif\0\0" + six),
        "6, as LONG": segment(0xE1, b"Exif\0\0" + exif(orientation(6, 4))),
        "6, beside a rational -1 / 0": segment(0xE1, b"Exif\0\0" + exif(orientation(6), rational(2))),
        "6, in XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode()),
        "6, behind a fill byte": segment(0xE1, b"Exif\0\0" + six, fill=1),
    }
    for name, added in app1.items():
        yield row(f"JPEG, orientation {name}", ORIENTED, with_segments(file, added), smooth, lossy=True)
    webp = encoded(Image.fromarray(NOISE), "WEBP", lossless=True, exif=b"Exif\0\0" + six)
    yield row("WebP, orientation 6", ORIENTED, webp, turned)
    webp = encoded(Image.fromarray(NOISE), "WEBP", lossless=True, xmp=xmp.encode())
    yield row("WebP, orientation 6, in XMP", ORIENTED, webp, turned)


def metadata() -> Iterator[dict[str, Any]]:
    long = "at her home " * 180_000
    yield row("PNG with 2 MB of text", METADATA, png(NOISE, before=text("Comment", long, "zTXt")), NOISE)
    profile_ = chunk(b"iCCP", b"wide\0\0" + zlib.compress(bytes(2_000_000), 9))
    yield row("PNG with 2 MB of colour profile", METADATA, png(NOISE, before=profile_), NOISE)
    yield row(
        "PNG with a text that is cut",
        METADATA,
        png(NOISE, before=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(long.encode())[:20])),
        NOISE,
    )
    yield row("JPEG with a comment", METADATA, with_segments(jpeg(SMOOTH), segment(0xFE, b"at her home")), SMOOTH, lossy=True)
    yield row(
        "PNG with a chunk between those of its pixels",
        METADATA,
        png(NOISE, idat=split_pixels(text("Comment", "between"))),
        NOISE,
    )


def split_pixels(between: bytes) -> bytes:
    data = zlib.compress(rows_of(NOISE, 8), 9)
    return chunk(b"IDAT", data[:100]) + chunk(b"IDAT", b"") + between + chunk(b"IDAT", data[100:])


def frames() -> Iterator[dict[str, Any]]:
    first, second = Image.fromarray(NOISE), Image.fromarray(255 - NOISE)
    several = {"save_all": True, "append_images": [second]}
    for format_ in ("PNG", "GIF", "WEBP", "TIFF"):
        made = encoded(first, format_, **several, **({"lossless": True} if format_ == "WEBP" else {}))
        yield row(f"{format_} of two frames", FRAMES, made, reason="a still image, got 2 frames", browser=format_ != "TIFF")
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0))
    one = chunk(b"acTL", struct.pack(">II", 1, 0))
    yield row("PNG of one frame that is the picture", FRAMES, png(NOISE, before=one + control), NOISE)
    yield row("PNG of one frame beside the picture", FRAMES, png(NOISE, before=one), reason="a still image, got 2 frames")
    begun = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"IDAT", zlib.compress(rows_of(NOISE, 8), 9))
    yield row("PNG of two frames beside a picture", FRAMES, png(NOISE, idat=begun), reason="a still image, got 3 frames")


def damaged() -> Iterator[dict[str, Any]]:
    whole, step = png(NOISE), 1 + 3 * WIDTH
    at = whole.index(b"IDAT")
    rows = rows_of(NOISE, 8)
    half = chunk(b"IDAT", zlib.compress(rows[: step * HEIGHT // 2]))
    bad = {
        "PNG, a bit of its pixels flipped": flipped(whole, at + 40),
        "PNG, a bit of a checksum flipped": flipped(whole, len(whole) - 13),
        "PNG, a bit of its header flipped": flipped(whole, 25),
        "PNG, a bit of a text flipped": flipped(png(NOISE, before=text("Comment", "at her home")), 60),
        "PNG, the last checksum wrong": flipped(whole, len(whole) - 1),
        "PNG, half of its rows": png(NOISE, idat=half),
        "PNG, all rows but a part of the last one": png(NOISE, idat=chunk(b"IDAT", zlib.compress(rows[:-5]))),
        "interlaced PNG, without its last pass": png(NOISE, interlaced=True, idat=without_last_pass()),
        "PNG, other pixels under a checksum that fits": png(NOISE, idat=chunk(b"IDAT", wrong_sum(rows))),
        "PNG that ends in its pixels": whole[: at + 60],
        "PNG without its end": whole[:-12],
        "PNG without pixels": png(NOISE, idat=b""),
        "PNG without a palette": png(palette_of(FEW)[0], 3, 2),
        "PNG whose header comes second": SIGNATURE + text("Comment", "first") + whole[8:],
        "PNG with two headers": whole[:33] + whole[8:33] + whole[33:],
    }  # fmt: skip
    for name, file in bad.items():
        yield row(name, DAMAGED, file, reason="a whole image, got a damaged one|an image, got no format")
    black = NOISE.copy()
    black[-3:] = 0
    yield row("PNG with black rows at its end", DAMAGED, png(black), black)
    cut = png(black, idat=chunk(b"IDAT", zlib.compress(rows_of(black, 8)[: step * (HEIGHT - 3)])))
    yield row("PNG, black rows at its end missing", DAMAGED, cut, reason="a damaged one")
    file = jpeg(NOISE)
    yield row("JPEG that ends in its pixels", DAMAGED, file[:-100], reason="damaged")
    yield row("JPEG without its end", DAMAGED, file[:-2], reason="damaged")
    webp = encoded(Image.fromarray(NOISE), "WEBP", lossless=True)
    yield row("WebP that ends in its pixels", DAMAGED, webp[:-60], reason="damaged")


def without_last_pass() -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    parts = [NOISE[top::down, left::across] for left, top, across, down in passes]
    return chunk(b"IDAT", zlib.compress(b"".join(rows_of(part, 8) for part in parts if part.size)))


def wrong_sum(rows: bytes) -> bytes:
    data = zlib.compress(rows, 9)
    return data[:-4] + bytes(byte ^ 1 for byte in data[-4:])


def flipped(file: bytes, at: int) -> bytes:
    return file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]


def ciphertexts_as_photos() -> Iterator[dict[str, Any]]:
    own = record("colour", NOISE)
    for kind in ("tEXt", "zTXt", "iTXt", "iTXt, compressed"):
        yield row(
            f"ciphertext PNG, record in {kind}", OWN, png(NOISE, before=text("encmixer", own, kind)), reason="a ciphertext"
        )
    yield row("ciphertext PNG, record behind the pixels", OWN, png(NOISE, after=text("encmixer", own)), reason="a ciphertext")
    yield row("PNG with a malformed record", OWN, png(NOISE, before=text("encmixer", "{}")), reason="record: expected")
    lossy, file = record("etc", None), jpeg(SMOOTH)
    eoi = len(file) - 2
    places = {
        "in a comment": with_segments(file, comment(lossy)),
        "before another comment": with_segments(file, comment(lossy), segment(0xFE, b"GIMP")),
        "behind another comment": with_segments(file, segment(0xFE, b"GIMP"), comment(lossy)),
        "behind a fill byte": with_segments(file, comment(lossy, fill=1)),
        "behind the pixels": file[:eoi] + comment(lossy) + file[eoi:],
    }
    for name, made in places.items():
        yield row(f"ciphertext JPEG, record {name}", OWN, made, reason="a ciphertext")
