"""Open the ciphertext of a request, or say why it is not ciphertext for the model; read the model's config.json, likewise.

All recipes beside this file use it.

Needs no extra: numpy and Pillow, no key and no plugin. What it compares is public: config.json of the encrypted model, and the
record that every ciphertext carries (docs/format.md). An image of another size is refused before its pixels are decoded.
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
from PIL import Image, JpegImagePlugin

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
        raise ValueError(
            f"{folder}: expected a shape that timm knows by its name, got {config['architecture']}; "
            "pip install timm-encmixer and import it first, or see docs/server.md"
        )
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
        content: A PNG file, with ciphers of `etc` also a JPEG file: its bytes, these as base64, or the image opened already.
        config: Contents of the encrypted model's config.json.

    Raises:
        ValueError: It is not ciphertext for this model: what was expected, what came, what to do.
    """
    channels, height, width = config["pretrained_cfg"]["input_size"]
    image = content if isinstance(content, Image.Image) else _opened(content)
    if image.size != (width, height):
        raise _refusal(f"an image of {height} x {width} px, the model's input", f"{image.height} x {image.width} px")
    record, is_jpeg = _record_of(image)
    if is_jpeg:
        _check_jpeg(image, config["encmixer"]["cipher"])
    image = _decoded(image, "L" if channels == 1 else "RGB")
    wanted = {name: config["encmixer"][name] for name in ("fingerprint", "cipher", "patch_size")}
    wanted |= {"size": [height, width], "version": 2 if is_jpeg else 1}
    if not is_jpeg:
        wanted["digest"] = f"{zlib.crc32(np.asarray(image)):08x}"
    for name, value in wanted.items():
        if record.get(name) != value:
            raise _refusal(f"ciphertext whose {name} is {value}", f"{record.get(name)!r:.100}")
    return image


def _opened(content: object) -> Image.Image:
    if not isinstance(content, (str, bytes)):
        raise _refusal("base64 of a ciphertext file in `inputs`", "something else" if content is not None else "nothing")
    try:
        file = base64.b64decode(content, validate=True) if isinstance(content, str) else content
        return Image.open(io.BytesIO(file), formats=["PNG", "JPEG"])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _refusal("a PNG file that encmixer wrote", "something else") from error


def _record_of(image: Image.Image) -> tuple[dict[str, Any], bool]:
    """Return the record that a ciphertext carries, and whether it comes from a JPEG file."""
    text, comment = image.info.get("encmixer"), image.info.get("comment")
    is_jpeg = text is None and isinstance(comment, bytes) and comment.startswith(b"encmixer:")
    try:
        record = json.loads(comment.removeprefix(b"encmixer:") if is_jpeg else text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(
            "ciphertext", "an image without a record: a plain image, or ciphertext saved by other software"
        ) from error
    return (record if isinstance(record, dict) else {}), is_jpeg


def _check_jpeg(image: Image.Image, cipher: str) -> None:
    if "etc" not in cipher.split("+"):
        raise _refusal(f"a PNG file: JPEG destroys ciphertext of {cipher}", "a JPEG file")
    if image.format == "JPEG" and JpegImagePlugin.get_sampling(image) > 0:
        raise _refusal("JPEG with 4:4:4 sampling, as encmixer writes it", "subsampled colours")


def _decoded(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (OSError, ValueError, SyntaxError) as error:
        raise _refusal("a whole image file", "a damaged one") from error


def _refusal(expected: str, got: str) -> ValueError:
    return ValueError(f"image: expected {expected}, got {got}; {REMEDY}")
