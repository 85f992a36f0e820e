"""Pictures that the page offers, all public: samples to send, and an album of which the attacker collects ciphertexts."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping, Sequence

import PIL
from PIL import Image

from timm_encmixer.bundled import BUNDLED_PHOTOS, bundled_images, bundled_photo
from timm_encmixer.errors import ImageError, did_you_mean

ALBUM_PICTURES = 100
_PILLOW_OF_BROWSERS = 13  # whose arithmetic encmixer.js has
_COLUMNS = 10  # of the album's sheet


@functools.cache
def samples() -> Mapping[str, Image.Image]:
    """Return the samples by name: two photos, and a picture of each class of the bundled model. RGB."""
    images, labels, classes = bundled_images()
    photos = {name: bundled_photo(name) for name in BUNDLED_PHOTOS}
    return {**photos, **{f"small {name}": images[labels.index(label)] for label, name in enumerate(classes)}}


def sample(name: str) -> Image.Image:
    """Return a sample.

    Raises:
        ImageError: There is none of this name.
    """
    if not isinstance(name, str) or name not in samples():
        remedy = did_you_mean(str(name), samples(), otherwise="choose one of these")
        raise ImageError("sample", f"one of {', '.join(samples())}", repr(name)[:100], remedy)
    return samples()[name]


@functools.cache
def album() -> list[Image.Image]:
    """Return `ALBUM_PICTURES` pictures, RGB, all of one size, the classes one after the other in turn."""
    images, labels, classes = bundled_images()
    of_class = [[image for image, label in zip(images, labels, strict=True) if label == one] for one in range(len(classes))]
    each = ALBUM_PICTURES // len(classes)
    return [pictures[-1 - index] for index in range(each) for pictures in of_class]  # from the end: samples are at the start


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def sheet(pictures: Sequence[Image.Image], *, columns: int) -> Image.Image:
    """Return pictures side by side, by rows, each of the album's size; RGBA, transparent where there is none."""
    width, height = album()[0].size
    made = Image.new("RGBA", (width * columns, height * math.ceil(len(pictures) / columns)))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        made.paste(picture.resize((width, height), Image.Resampling.BOX), (column * width, row * height))
    return made


def pixel_note() -> str | None:
    """Return what whoever serves the page has to know of the Pillow that is here, None where there is nothing."""
    if int(PIL.__version__.partition(".")[0]) >= _PILLOW_OF_BROWSERS:
        return None
    return (
        f"Pillow {PIL.__version__} is here. It shrinks photos more than twice as tall as wide to other pixels than the page "
        f"and clients with Pillow {_PILLOW_OF_BROWSERS} do, by at most a few of 255 (docs/images.md)."
    )


@functools.cache
def album_sheet() -> bytes:
    """Return the album as one PNG file, ten pictures a row."""
    return png(sheet(album(), columns=_COLUMNS))
