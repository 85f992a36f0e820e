"""The plain model's preprocessing without torch, against timm's own transform, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest
import timm
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from timm_encmixer.errors import ImageError
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.models.pretrained_cfg import preprocessing_of
from timm_encmixer.scheme import Preprocessing

LARGEST_PX = 6_000_000  # of the resized image, so that an example takes no seconds


def noise(height: int, width: int, channels: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def assert_as_timm(image: Image.Image, plain: Preprocessing) -> None:
    transform = create_transform(
        plain.input_size,
        is_training=False,
        interpolation=plain.interpolation,
        crop_pct=plain.crop_pct,
        crop_mode=plain.crop_mode,
        mean=plain.mean,
        std=plain.std,
        normalize=False,
    )
    try:
        expected = transform(image).permute(1, 2, 0).numpy()
    except ValueError:  # Pillow's, of a side that becomes 0 px
        with pytest.raises(ImageError, match="sides that can be brought to the model's input size"):
            resize_and_crop(image, plain)
        return
    got = np.asarray(resize_and_crop(image, plain))
    assert np.array_equal(got.reshape(expected.shape), expected), (image.size, plain)


SIDES = st.one_of(st.integers(1, 64), st.integers(1, 2000))


@settings(deadline=None, max_examples=200)
@given(
    channels=st.sampled_from([1, 3]),
    inputs=st.one_of(st.integers(1, 300).map(lambda side: (side, side)), st.tuples(st.integers(1, 300), st.integers(1, 300))),
    size=st.tuples(SIDES, SIDES),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]),
    crop_pct=st.one_of(st.sampled_from([1.0, 0.875, 0.9, 0.95, 0.96, 0.5]), st.floats(0.1, 1.0)),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
    mean=st.floats(-0.2, 1.2),
)
@example(3, (224, 224), (1, 7), "bicubic", 0.875, "border", 0.4)
@example(3, (8, 8), (1, 2000), "bicubic", 1.0, "border", 0.4)  # a side that becomes 0 px
@example(1, (29, 31), (2000, 1999), "lanczos", 0.9, "center", 0.0)
def test_every_mode_and_size(channels, inputs, size, interpolation, crop_pct, crop_mode, mean):
    plain = Preprocessing(
        input_size=(channels, *inputs),
        mean=[mean] * channels,
        std=[0.5] * channels,
        interpolation=interpolation,
        crop_pct=crop_pct,
        crop_mode=crop_mode,
    )
    assume(max(inputs) ** 2 / crop_pct**2 * max(size) / min(size) < LARGEST_PX)
    assert_as_timm(noise(*size, channels, seed=sum(size)), plain)


def test_every_setting_of_timms_models():
    plains = set()
    for name in timm.list_pretrained():
        cfg = timm.get_pretrained_cfg(name).to_dict()
        plains.add(preprocessing_of(cfg, cfg["input_size"][0]).resized(cfg["input_size"]))
    assert len(plains) > 100
    for number, plain in enumerate(sorted(plains, key=repr)):
        image = noise(*((61, 47) if number % 2 else (600, 801)), plain.input_size[0])
        assert_as_timm(image, plain)


def test_an_image_that_would_become_a_giant():
    plain = Preprocessing(input_size=(3, 224, 224), mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(ImageError, match="got 1 x 30000 px, which would become 256 x 7680000 px; crop it first"):
        resize_and_crop(Image.new("RGB", (30000, 1)), plain)
