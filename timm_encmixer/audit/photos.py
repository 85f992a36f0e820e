"""A few public photos that come with scikit-image, cut to a model's input size."""

from __future__ import annotations

import torch
from skimage import data
from torch import Tensor
from torchvision.transforms.v2.functional import resize

_NAMES = ("astronaut", "chelsea", "coffee", "rocket")
_PLACES = ((0.5, 0.5), (0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8))  # down and to the right, as shares


def sample_photos(height: int, width: int) -> Tensor:
    """Return 96 uint8 crops (96, 3, height, width) of four photos of scikit-image: whole, and closer at five places."""
    photos = [torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1) for name in _NAMES]
    crops = []
    for closer, places in ((1.0, ((0.5, 0.5),)), (2.0, _PLACES), (3.0, _PLACES), (1.5, ((0.5, 0.5),))):
        for down, right in places:
            for photo in photos:
                scale = closer * max(height / photo.shape[1], width / photo.shape[2])
                sides = [max(height, round(scale * photo.shape[1])), max(width, round(scale * photo.shape[2]))]
                resized = resize(photo, sides, antialias=True)
                top, left = round(down * (sides[0] - height)), round(right * (sides[1] - width))
                crop = resized[:, top : top + height, left : left + width]
                crops += [crop, crop.flip(-1)]
    return torch.stack(crops)
