"""A few public photos that come with scikit-image and foolbox, cut to a model's input size."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor
from torchvision.transforms.v2.functional import resize

Array = NDArray[np.uint8]
_SCIKIT_IMAGE = ("astronaut", "chelsea", "coffee", "rocket")
_CLOSER = (1.0, 1.5)
_PORTRAIT_OF, _PORTRAIT = "astronaut", (0, 96, 224)  # whose face; its top, left and side in px


def sample_photos(height: int, width: int) -> Tensor:
    """Return 96 uint8 crops (96, 3, height, width) of 24 photos, four of scikit-image and twenty of foolbox (of ImageNet).

    Each is cut at its middle, as large as it goes and closer, as it is and mirrored.
    """
    photos = [*_scikit_image(), *_foolbox()]
    crops = []
    for closer in _CLOSER:
        for photo in photos:
            scale = closer * max(height / photo.shape[1], width / photo.shape[2])
            sides = [max(height, round(scale * photo.shape[1])), max(width, round(scale * photo.shape[2]))]
            resized = resize(photo, sides, antialias=True)
            top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
            crop = resized[:, top : top + height, left : left + width]
            crops += [crop, crop.flip(-1)]
    return torch.stack(crops)


def portrait(patch: int) -> Tensor:
    """Return a face as a uint8 image (3, S, S), S being 224 or the next smaller multiple of `patch`, in px."""
    top, left, side = _PORTRAIT
    side -= side % patch
    return _channels_first(_sample(_PORTRAIT_OF))[:, top : top + side, left : left + side]


def _scikit_image() -> list[Tensor]:
    return [_channels_first(_sample(name)) for name in _SCIKIT_IMAGE]


def _sample(name: str) -> Array:
    array: Array = getattr(data, name)()
    return array


def _foolbox() -> list[Tensor]:
    package = importlib.util.find_spec("foolbox")  # importing it takes seconds
    assert package is not None  # `audit` is not imported without it
    assert package.origin is not None
    files = sorted((Path(package.origin).parent / "data").glob("imagenet_*.jpg"))
    return [_channels_first(np.array(Image.open(file).convert("RGB"))) for file in files]


def _channels_first(image: Array) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)
