"""A few public photos that come with scikit-image, cut to a model's input size."""

from __future__ import annotations

import torch
from skimage import data
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

_NAMES = ("astronaut", "chelsea", "coffee", "rocket")
_FACE = (0, 76, 224, 224)  # top, left, height and width of the astronaut's face in its photo of 512 x 512


def sample_photos(height: int, width: int) -> Tensor:
    """Return 32 uint8 photos (32, 3, height, width): four photos of scikit-image, each at four scales and mirrored."""
    photos = [torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1) for name in _NAMES]
    cut = []
    for scale in (1.0, 1.25, 1.5, 2.0):
        for photo in photos:
            sides = [round(scale * max(height, width))]
            crop = center_crop(resize(photo, sides, antialias=True), [height, width])
            cut += [crop, crop.flip(-1)]
    return torch.stack(cut)


def portrait() -> Tensor:
    """Return the face of scikit-image's astronaut (Eileen Collins; NASA, public domain), uint8, shape (1, 3, 224, 224)."""
    top, left, height, width = _FACE
    photo = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)
    return photo[None, :, top : top + height, left : left + width]
