"""The plain model's evaluation preprocessing of PIL images, as timm's own transform does it, without torch.

Source: timm.data.transforms_factory.transforms_imagenet_eval, and torchvision's functions for PIL images that it calls. A test
compares both, pixel for pixel.
"""

from __future__ import annotations

import math

from PIL import Image, ImageOps

from timm_encmixer.errors import ImageError
from timm_encmixer.scheme import Preprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_PX = 1 << 30  # of an image between resizing and crop


def resize_and_crop(image: Image.Image, plain: Preprocessing) -> Image.Image:
    """Return an image of the model's input size, by the plain model's resizing, then its crop.

    Args:
        image: Of the mode that the model takes, RGB or L.
        plain: The plain model's preprocessing; its normalisation is left to the model's side.

    Raises:
        ImageError: The image is so long and thin that nothing would be left of its short side, or a giant of the long one.
    """
    height, width = plain.input_size[1:]
    scaled = math.floor(height / plain.crop_pct), math.floor(width / plain.crop_pct)
    ratios = image.height / scaled[0], image.width / scaled[1]
    fill: tuple[int, ...] | None = None  # black
    if plain.crop_mode == "squash":
        size = scaled
    elif plain.crop_mode == "border":
        size, fill = _divided(image, max(ratios)), tuple(round(255 * mean) for mean in plain.mean)
    elif scaled[0] == scaled[1]:
        size = _shorter_side(image, scaled[0])
    else:
        size = _divided(image, min(ratios))
    if 0 in size or math.prod(size) > _LARGEST_PX:
        got = f"{image.height} x {image.width} px, which would become {size[0]} x {size[1]} px"
        raise ImageError("image", "sides that can be brought to the model's input size", got, "crop it first")
    if (image.height, image.width) != size:
        image = image.resize(size[::-1], _FILTERS[plain.interpolation])
    return _centre(image, height, width, fill)


def _shorter_side(image: Image.Image, side: int) -> tuple[int, int]:
    """Return height and width with the shorter of them `side`; torchvision rounds the longer one down."""
    longer = int(side * max(image.size) / min(image.size))
    return (longer, side) if image.width <= image.height else (side, longer)


def _divided(image: Image.Image, ratio: float) -> tuple[int, int]:
    """Return height and width divided by one number, as timm rounds them."""
    return round(image.height / ratio), round(image.width / ratio)


def _centre(image: Image.Image, height: int, width: int, fill: tuple[int, ...] | None) -> Image.Image:
    """Crop to the centre, after adding a border where the image is smaller: black, or of the colour `fill`."""
    if width > image.width or height > image.height:
        across, down = max(0, width - image.width), max(0, height - image.height)
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        colour = fill if fill is not None else (0,) * len(image.getbands())
        image = ImageOps.expand(image, border, colour if len(colour) > 1 else colour[0])
    top, left = round((image.height - height) / 2.0), round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))
