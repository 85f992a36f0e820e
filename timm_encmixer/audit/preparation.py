"""Images and public photos made ready for an audit: opened, preprocessed, and divided."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from timm_encmixer.audit.methods.statistics import BlockStatistics, image_statistics
from timm_encmixer.audit.photos import sample_photos
from timm_encmixer.bundled import bundled_images
from timm_encmixer.errors import DataError
from timm_encmixer.images.labelled import UNLABELLED, LabelledImages, MemoryImages, open_images
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.images.reading import to_channels
from timm_encmixer.images.tensors import to_tensor
from timm_encmixer.scheme import Preprocessing

ImageSource = LabelledImages | str | os.PathLike[str]
_TEST_IMAGES: Mapping[str, int] = MappingProxyType({"quick": 250, "full": 1000})
_ATTACKED_IMAGES: Mapping[str, int] = MappingProxyType({"quick": 250, "full": 2000})
_PUBLIC_IMAGES = 10_000
_PHOTOS = 96
_LEAST_IMAGES = 4


def opened_public(source: ImageSource | None, split: str | None) -> LabelledImages | None:
    """Return public photos, which need no labels; None without a source."""
    return None if source is None else opened(source, split=split, prefer=("train",), unlabelled=True)


@dataclass(frozen=True)
class Divided:
    """Preprocessed uint8 images (N, C, H, W) and labels.

    Args:
        images: Attackers may meet these.
        labels: Of `images`; None if any image has no label.
        test_images: Recovery is measured on these.
        test_labels: Of `test_images`; None if any image has no label.
    """

    images: Tensor
    labels: Tensor | None
    test_images: Tensor
    test_labels: Tensor | None


def divide(images: LabelledImages, plain: Preprocessing, *, budget: str, seed: int, progress: bool) -> Divided:
    """Preprocess as many images as a budget takes, chosen by chance, and keep half of them to measure on.

    Raises:
        DataError: There are too few.
    """
    count = min(len(images), _ATTACKED_IMAGES[budget] + _TEST_IMAGES[budget])
    if count < _LEAST_IMAGES:
        raise DataError("images", f"at least {_LEAST_IMAGES}, for half of them are kept to measure on", f"{count}", "give more")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    pixels, labels = _pixels(images, order, plain, progress)
    tested = min(_TEST_IMAGES[budget], count // 2)
    parts = (None, None) if labels is None else (labels[tested:], labels[:tested])
    return Divided(pixels[tested:], parts[0], pixels[:tested], parts[1])


def opened(source: ImageSource | None, **options: Any) -> LabelledImages:
    """Return labelled images; None takes those that come with the package."""
    if source is None:
        images, labels, _ = bundled_images()
        return MemoryImages(images, labels)
    return source if isinstance(source, LabelledImages) else open_images(os.fspath(source), **options)


def _pixels(images: LabelledImages, order: Sequence[int], plain: Preprocessing, progress: bool) -> tuple[Tensor, Tensor | None]:
    """Return preprocessed uint8 images (N, C, H, W), and labels; no labels if any image has no label."""
    transform = _Preprocess(plain)
    bar = tqdm(order, desc="reading images", unit="image", disable=None if progress else True, leave=False)
    samples = [images[index] for index in bar]
    labels = torch.tensor([int(label) for _, label in samples])
    pixels = torch.stack([transform(image) for image, _ in samples])
    return pixels, None if bool((labels == UNLABELLED).any()) else labels


class _Preprocess:
    def __init__(self, plain: Preprocessing) -> None:
        self._plain = plain

    def __call__(self, image: Image.Image) -> Tensor:
        return to_tensor(resize_and_crop(to_channels(image, self._plain.input_size[0]), self._plain))


def public_material(
    public: LabelledImages | None, plain: Preprocessing, patch: int, *, seed: int, progress: bool
) -> tuple[BlockStatistics | None, Tensor | None]:
    """Return statistics of blocks of public photos, and a few photos; None where the package has none for these blocks."""
    if public is not None:
        order = torch.randperm(len(public), generator=torch.Generator().manual_seed(seed))[:_PUBLIC_IMAGES].tolist()
        pixels, _ = _pixels(public, order, plain, progress)
        return image_statistics(pixels, patch), pixels[:_PHOTOS]
    bundled = BlockStatistics.load()
    channels, height, width = plain.input_size
    fits = (bundled.patch_size, len(bundled.mean)) == (patch, channels * patch**2)
    photos = sample_photos(height, width)
    if channels == 1:
        photos = photos.float().mean(dim=1, keepdim=True).round().to(torch.uint8)
    return bundled if fits else None, photos if channels in (1, 3) else None


def public_words(source: ImageSource | None, statistics: BlockStatistics | None) -> str:
    """Return in words where public statistics are from."""
    if statistics is None:
        return "none: the statistics that come with the package are of blocks of another size"
    count = statistics.images
    if source is None:
        return f"the statistics that come with the package, of {count} CIFAR-10 training images"
    return f"{count} images{'' if isinstance(source, LabelledImages) else f' of {os.fspath(source)}'}"
