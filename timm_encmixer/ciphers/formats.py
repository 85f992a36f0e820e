"""What an image can come as, brought to one tensor (N, C, H, W) and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from timm_encmixer.errors import ImageError, ImageTypeError

MODES = {1: "L", 3: "RGB"}  # PIL's names of 8-bit images by channels


def as_batch(image: Any, channels: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Return the image as a batch (N, C, H, W) and the function that gives a batch the image's own form back.

    Raises:
        ImageError: Wrong number of channels, dimensions or dtype.
        ImageTypeError: No known image type.
    """
    if isinstance(image, Tensor):
        return _tensor(image, channels)
    if isinstance(image, np.ndarray):
        return _array(image, channels)
    if isinstance(image, Image.Image):
        return _pil(image, channels)
    raise ImageTypeError(
        "image", "a PIL image, an HWC array or a CHW or NCHW tensor", type(image).__name__, "convert it to one of these"
    )


def _tensor(image: Tensor, channels: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    if image.ndim not in (3, 4) or image.shape[-3] != channels:
        raise ImageError(
            "image tensor",
            f"shape ({channels}, H, W) or (N, {channels}, H, W)",
            f"shape {tuple(image.shape)}",
            "give CHW or NCHW tensors with the scheme's channels",
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ImageError("image tensor", "uint8, or floats in [0, 1]", str(image.dtype), "convert it first")
    if image.ndim == 4:
        return image, lambda batch: batch
    return image.unsqueeze(0), lambda batch: batch.squeeze(0)


def _array(image: np.ndarray[Any, Any], channels: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8:
        raise ImageError(
            "image array",
            f"a uint8 array of shape (H, W, {channels})",
            f"{image.dtype} of shape {image.shape}",
            "convert it; floats go as CHW tensors in [0, 1]",
        )
    batch = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1).unsqueeze(0)
    return batch, lambda result: np.ascontiguousarray(result.squeeze(0).permute(1, 2, 0).numpy())


def _pil(image: Image.Image, channels: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    mode = MODES.get(channels)
    if mode is None or image.mode != mode:
        expected = f"mode {mode}" if mode else f"a tensor: PIL has no 8-bit mode of {channels} channels"
        raise ImageError("PIL image", expected, f"mode {image.mode}", f"call image.convert({mode!r})" if mode else "use CHW")
    pixels = np.array(image)
    batch, restore = _array(pixels[:, :, None] if channels == 1 else pixels, channels)

    def to_pil(result: Tensor) -> Image.Image:
        array = restore(result)
        return Image.fromarray(array[:, :, 0] if channels == 1 else array)

    return batch, to_pil
