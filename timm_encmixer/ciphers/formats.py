"""PIL images and arrays, checked and brought to one array (N, H, W, C) and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from timm_encmixer.errors import ImageError, ImageTypeError

MODES = {1: "L", 3: "RGB"}  # PIL's names of 8-bit images by channels


def as_array(image: Any, channels: int) -> tuple[NDArray[np.uint8], Callable[[NDArray[np.uint8]], Any]]:
    """Return the image as an array (H, W, C) and the function that gives such an array the image's own form.

    Raises:
        ImageError: Wrong number of channels, dimensions or dtype.
        ImageTypeError: No known image type.
    """
    if isinstance(image, np.ndarray):
        return _array(image, channels), lambda result: result
    if isinstance(image, Image.Image):
        return pixels_of(image, channels), to_pil
    raise ImageTypeError(
        "image", "a PIL image, an HWC array or a CHW or NCHW tensor", type(image).__name__, "convert it to one of these"
    )


def pixels_of(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Return the pixels of a PIL image, shape (H, W, C).

    Raises:
        ImageError: It is of another mode than that of 8-bit pixels with so many channels.
    """
    mode = MODES.get(channels)
    if mode is None or image.mode != mode:
        expected = f"mode {mode}" if mode else f"a tensor: PIL has no 8-bit mode of {channels} channels"
        raise ImageError("PIL image", expected, f"mode {image.mode}", f"call image.convert({mode!r})" if mode else "use CHW")
    pixels = np.asarray(image)
    return pixels[:, :, None] if channels == 1 else pixels


def to_pil(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return the PIL image of pixels (H, W, C), C = 1 or 3."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _array(image: NDArray[Any], channels: int) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8:
        raise ImageError(
            "image array",
            f"a uint8 array of shape (H, W, {channels})",
            f"{image.dtype} of shape {image.shape}",
            "convert it; floats go as CHW tensors in [0, 1]",
        )
    return image
