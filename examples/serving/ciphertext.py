"""Open the ciphertext of a request, or say why it is not ciphertext for the model; read the model's config.json, likewise.

All recipes beside this file use it. Needs no extra: numpy and Pillow, no key and no plugin. Where timm_encmixer is installed,
it is asked, and timm knows its shapes; without it the answers are the same (tests/vectors/files.json). What is compared is
public: config.json of the encrypted model, and the record that every ciphertext carries (docs/format.md). An image of another
size is refused before its pixels are decoded.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

try:
    import timm_encmixer as te
except ImportError:
    te = None

ENCRYPT = "encmixer model encrypt or encmixer model pull writes such a folder"
REMEDY = "encrypt the photo for this model (encmixer images encrypt --model), and send that file unchanged"


def read_config(folder: str | Path, is_model: Callable[[str], bool]) -> dict[str, Any]:
    """Return the contents of an encrypted model's config.json.

    Args:
        folder: Of the model.
        is_model: `timm.is_model`.

    Raises:
        ValueError: It is no folder of an encrypted model, or of a shape that timm does not know.
    """
    for name in ("config.json", "model.safetensors"):
        if not Path(folder, name).is_file():
            raise ValueError(f"{folder}: expected the folder of an encrypted model, got no {name} in it; {ENCRYPT}")
    config = checked_config(Path(folder, "config.json").read_text(), folder)
    if not is_model(config["architecture"]):
        remedy = (
            "pip install timm-encmixer, or see" if te is None else "timm-encmixer, which is here, does not know it either: see"
        )
        expected = "expected a shape that timm knows by its name"
        raise ValueError(f"{folder}: {expected}, got {config['architecture']}; {remedy} docs/server.md")
    return config


def checked_config(text: str, where: object) -> dict[str, Any]:
    """Return the contents of config.json from its text.

    Raises:
        ValueError: It is none of an encrypted model.
    """
    try:
        config: dict[str, Any] = json.loads(text)
        _ = config["encmixer"]["fingerprint"], config["architecture"], config["pretrained_cfg"]["input_size"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: expected the config.json of an encrypted model, got another; {ENCRYPT}") from error
    return config


def open_ciphertext(content: object, config: Mapping[str, Any]) -> Image.Image:
    """Return the ciphertext: RGB or greyscale, of the size that the model reads.

    Args:
        content: A PNG file, with ciphers of `etc` also a JPEG file: its bytes, these as base64, or the image as Pillow opened
            it. A JPEG that was converted too does not show what it was: send the file instead.
        config: Contents of the encrypted model's config.json.

    Raises:
        ValueError: It is not ciphertext for this model: what was expected, what came, what to do.
    """
    _, height, width = config["pretrained_cfg"]["input_size"]
    file = None if isinstance(content, Image.Image) else _file_of(content)
    image = content if file is None else _attempt(lambda: Image.open(io.BytesIO(_bare(file)), formats=["PNG", "JPEG"]))
    if image.size != (width, height):
        raise _refusal(f"an image of {height} x {width} px, the model's input", f"{image.height} x {image.width} px")
    return _with_package(file or image, config) if te is not None else _without_package(image, file, config)


def _with_package(content: bytes | Image.Image, config: Mapping[str, Any]) -> Image.Image:
    scheme = te.Scheme.from_dict(config["encmixer"])
    try:
        image = te.images.open_ciphertext(content, scheme.in_chans, where="image", formats=te.images.ciphertext_formats(scheme))
        te.images.check_ciphertext(image, scheme, where="image", strict=True)
    except te.errors.ImageError as error:
        raise _refusal(error.expected, error.got) from error
    return image


def _without_package(image: Image.Image, file: bytes | None, config: Mapping[str, Any]) -> Image.Image:
    _attempt(image.load)
    text = image.info.get("encmixer")
    is_jpeg = text is None and image.format != "PNG"
    if image.format == "PNG" and image.n_frames > 1:
        raise _refusal("a still image", f"{image.n_frames} frames")
    if is_jpeg:
        text = _comment(image, file, config)
    if text is None:
        raise _refusal("ciphertext that says what it is", "no record: a plain image, or saved by other software")
    image = _by_pixels(image, "L" if config["pretrained_cfg"]["input_size"][0] == 1 else "RGB", is_jpeg)
    wanted = {name: config["encmixer"][name] for name in ("cipher", "patch_size", "fingerprint")}
    wanted |= {"version": 2 if is_jpeg else 1, "size": [image.height, image.width]}
    if not is_jpeg:
        wanted["digest"] = f"{zlib.crc32(np.asarray(image)):08x}"
    try:
        record = {"version": 1, **json.loads(text)}
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal("a record as docs/format.md describes it", "something else") from error
    for name in (*wanted, *record):  # as text: 1, 1.0 and true are three values
        value, got = json.dumps(wanted.get(name)), json.dumps(record.get(name))
        if name not in wanted or value != got:
            raise _refusal(f"ciphertext whose {name} is {value}", got[:100])
    return image


def _file_of(content: object) -> bytes:
    """Return the bytes of a file; base64 may have line breaks, and be a data URL."""
    if not isinstance(content, (str, bytes)) or not content:
        raise _refusal("base64 of a ciphertext file in `inputs`", "something else" if content else "nothing")
    if isinstance(content, bytes):
        return content
    text = content.partition(",")[2] if content.startswith("data:") else content
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise _refusal("base64 of a ciphertext file in `inputs`", "text that is no base64") from error


def _bare(file: bytes) -> bytes:
    """Return a PNG's chunks that make its pixels, and its texts of the record, all with the checksums that Pillow skips."""
    at, kept, name = 8, [file[:8]], b""
    while file.startswith(b"\x89PNG\r\n\x1a\n") and name != b"IEND":
        end = at + 12 + int.from_bytes(file[at : at + 4], "big")
        chunk, name = file[at:end], file[at + 4 : at + 8]
        if len(chunk) < 12 or len(chunk) != end - at or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise _refusal("a whole image", "a damaged one")
        if name[0] & 32 == 0 or name in (b"acTL", b"fcTL") or chunk[8:17] == b"encmixer\0":
            kept.append(chunk)
        at = end
    return b"".join(kept) if name else file


def _comment(image: Image.Image, file: bytes | None, config: Mapping[str, Any]) -> str | None:
    """Return the text of the record in a JPEG file's last comment that has one."""
    if "etc" not in config["encmixer"]["cipher"].split("+"):
        raise _refusal("a PNG file: JPEG destroys ciphertext of other ciphers than etc", image.format or "another")
    if image.format != "JPEG":
        raise _refusal("a PNG file, or the JPEG file itself in base64", image.format or "an image that was opened already")
    if len({(across, down) for _, across, down, _ in image.layer}) > 1 or image.info.get("progressive"):
        raise _refusal("baseline JPEG with 4:4:4 sampling, as encmixer writes it", "subsampled colours, or progressive JPEG")
    comments = [content for marker, content in image.applist if marker == "COM"]
    if file is not None:  # one may stand behind the pixels, where Pillow does not look
        start, end = file.find(b"\xff\xda"), file.find(b"\xff\xd9")
        comments += [rest[2 : int.from_bytes(rest[:2], "big")] for rest in file[start:end].split(b"\xff\xfe")[1:]]
    records = [comment for comment in comments if comment.startswith(b"encmixer:")]
    return records[-1].removeprefix(b"encmixer:").decode("utf-8", "replace") if records else None


def _by_pixels(image: Image.Image, mode: str, is_jpeg: bool) -> Image.Image:
    """Return the image in the model's mode, where that changes no pixel; programs make greyscale and palettes of PNG files."""
    if image.mode == mode:
        return image
    if is_jpeg:
        raise _refusal(f"a JPEG of mode {mode}", f"mode {image.mode}")
    if image.mode.startswith("I"):
        image = Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).astype(np.uint8))
    return _attempt(lambda: image.convert("RGBA").convert("RGB").convert(mode))


def _attempt(read: Callable[[], Any]) -> Any:
    """Let Pillow read; it raises what it likes on damaged files."""
    try:
        return read()
    except Image.UnidentifiedImageError as error:
        raise _refusal("a PNG file that encmixer wrote", "something else") from error
    except Exception as error:
        raise _refusal("a whole image", "a damaged one") from error


def _refusal(expected: str, got: str) -> ValueError:
    return ValueError(f"image: expected {expected}, got {got}; {REMEDY}")
