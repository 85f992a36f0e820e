"""How far the pixels of two clients are apart whose Pillow is before 13, and from 13: what docs/ say.

    python tests/pillow_orders.py

Both orders of the passes are made with the Pillow that is here, as two calls of `resize`. The photos are those that attackers
of the audit take, cut to each shape. The last rows are black and white noise, which is the hardest to resize.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from timm_encmixer.audit.photos import sample_photos

SIDE = 224
SHAPES = ((300, 400), (400, 300), (300, 599), (300, 650), (300, 900), (300, 1600))  # width and height in pixels
HARDEST = (230, 600)  # of noise


def in_order(image: Image.Image, size: tuple[int, int], resample: int, *, down_first: bool) -> np.ndarray:
    """Return the pixels of an image that is resized in two passes."""
    between = (image.width, size[1]) if down_first else (size[0], image.height)
    return np.asarray(image.resize(between, resample).resize(size, resample)).astype(int)


def rows() -> Iterator[tuple[str, tuple[int, int], list[Image.Image]]]:
    """Yield what the images of a shape are and the filter, the shape, and the images."""
    for width, height in SHAPES:
        photos = [Image.fromarray(photo.permute(1, 2, 0).numpy()) for photo in sample_photos(height, width)[:24]]
        yield "photos, bicubic", (width, height), photos
    noise = np.random.default_rng(0)
    images = [Image.fromarray(255 * noise.integers(0, 2, (*HARDEST[::-1], 3), np.uint8)) for _ in range(24)]
    yield "noise, bicubic", HARDEST, images
    yield "noise, lanczos", HARDEST, images


def main() -> None:
    print("images | width x height | Pillow 13 goes down first | values that differ | largest difference of 255")
    for name, (width, height), images in rows():
        scale = SIDE / min(width, height)
        size = (round(width * scale), round(height * scale))
        tall = height - size[1] > 2 * (width - size[0]) > 0
        resample = Image.Resampling[name.partition(", ")[2].upper()]
        differing, largest = [], 0
        for image in images:
            one, other = (in_order(image, size, resample, down_first=first) for first in (False, tall))
            differing.append(float((one != other).mean()))
            largest = max(largest, int(np.abs(one - other).max()))
        print(f"{name} | {width} x {height} | {'yes' if tall else 'no'} | {np.mean(differing):.1%} | {largest}")


if __name__ == "__main__":
    main()
