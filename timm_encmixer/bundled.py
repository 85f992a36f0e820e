"""The files of the package: a trained ConvMixer, 500 test images and two photos. So everything runs offline."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
BUNDLED_MODEL = "convmixer_256_8_ks5_p4.cifar10"
BUNDLED_FOLDER = WEIGHTS_FOLDER / BUNDLED_MODEL
BUNDLED_WEIGHTS = BUNDLED_FOLDER / "model.safetensors"
IMAGES_ARCHIVE = WEIGHTS_FOLDER / "cifar10-test-500.zip"
BUNDLED_PHOTOS = ("cat", "rocket")


def bundled_images() -> tuple[list[Image.Image], list[int], list[str]]:
    """Return 500 CIFAR-10 test images (RGB, 32 x 32 px), their labels 0 to 9 and the class names. Source: see NOTICE."""
    with zipfile.ZipFile(IMAGES_ARCHIVE) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        classes = sorted({name.split("/")[0] for name in names})
        images = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    return images, [classes.index(name.split("/")[0]) for name in names], classes


def bundled_photo(name: str) -> Image.Image:
    """Return one of `BUNDLED_PHOTOS`, an RGB image of 224 x 224 px. Source: see NOTICE."""
    with Image.open(WEIGHTS_FOLDER / f"{name}-224.jpg") as photo:
        return photo.convert("RGB")
