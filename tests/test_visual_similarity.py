"""Verdicts say what an eye sees: pictures in wrong colours, mirrored, inverted or pale show what they show; noise does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, verdict_of
from timm_encmixer.audit.measures import measure
from timm_encmixer.audit.methods.block_map import apply, symmetries, unit
from timm_encmixer.audit.model_audit import make_target
from timm_encmixer.audit.recovery import RecoveredImages, RecoveredKey
from timm_encmixer.audit.visual_similarity import Likeness, controls, likeness, luminance, put_right, seen
from timm_encmixer.bundled import bundled_images
from timm_encmixer.ciphers.blocks import join, split
from timm_encmixer.images.labelled import MemoryImages
from timm_encmixer.scheme import Scheme

PATCH = 4


@pytest.fixture(scope="module")
def target(plain_model):
    images, labels, _ = bundled_images()
    return make_target(
        plain_model,
        images=MemoryImages(images[::10], labels[::10]),
        public_images=None,
        key=None,
        cipher="shuffle+negpos",
        base=None,
        public_weights=False,
        budget="quick",
        seed=0,
    )


@pytest.fixture(scope="module")
def truth(target):
    return target.truth()


@pytest.fixture(scope="module")
def plain(target):
    return unit(target.test_images)


def turned_blocks(images):
    blocks = split(images, PATCH).unflatten(-1, (3, PATCH, PATCH))
    return join(torch.rot90(blocks, 1, (4, 5)).flatten(3), 3, PATCH)


def noisy(images):
    generator = torch.Generator().manual_seed(0)
    return (images + 0.01 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


# What statistics do not decide, each as a change of plain images.
UNDECIDED = {
    "as they are": lambda images: images,
    "in wrong colours": lambda images: images[:, [2, 0, 1]],
    "mirrored": lambda images: images.flip(-1),
    "upside down": lambda images: torch.rot90(images, 2, (2, 3)),
    "turned": lambda images: torch.rot90(images, 1, (2, 3)),
    "inverted": lambda images: 1 - images,
    "one channel inverted": lambda images: torch.cat([images[:, :2], 1 - images[:, 2:]], dim=1),
    "low in contrast": lambda images: 0.45 + 0.1 * images,
    "blocks turned": turned_blocks,
    "all of it": lambda images: 0.6 - 0.2 * turned_blocks(images.flip(-1))[:, [1, 2, 0]],
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_a_picture_that_shows_everything_is_a_broken_cipher(target, truth, plain, name):
    handed_in = UNDECIDED[name](noisy(plain))
    measured = measure(RecoveredImages(lambda met: handed_in), truth, target)
    assert measured.seen.psnr_db > 35
    assert measured.seen.ssim > 0.97
    assert verdict_of(measured, truth.controls) == BROKEN
    if name != "as they are":
        assert measured.handed_in.psnr_db < 30
        assert "recovered, put right" in measured.pictures
    assert likeness(measured.put_right, plain).psnr_db > 35


def test_the_plain_model_reads_what_was_put_right(target, truth, plain):
    inverted = measure(RecoveredImages(lambda met: 1 - plain[:, [2, 0, 1]]), truth, target)
    assert inverted.accuracy < truth.plain_accuracy - 0.2
    share = (target.classify_plain(inverted.put_right).argmax(dim=1) == truth.labels).double().mean()
    assert share == pytest.approx(truth.plain_accuracy, abs=0.03)


@pytest.mark.parametrize("name", ["noise", "mean colour", "another image", "a blur", "nothing"])
def test_a_picture_that_shows_nothing_holds(target, truth, plain, name):
    shape = plain.shape
    made = {
        "noise": torch.rand(shape, generator=torch.Generator().manual_seed(0)),
        "mean colour": plain.mean(dim=(2, 3), keepdim=True).expand(shape),
        "another image": plain.roll(7, dims=0),
        "a blur": torch.nn.functional.interpolate(
            torch.nn.functional.adaptive_avg_pool2d(plain, 2), shape[-2:], mode="bilinear"
        ),
        "nothing": torch.zeros(shape),
    }[name]
    measured = measure(RecoveredImages(lambda met: made), truth, target)
    assert verdict_of(measured, truth.controls) == HOLDS
    assert not measured.seen.beats(truth.controls)


def test_a_picture_that_shows_more_than_the_controls_is_part_of_it(target, truth, plain):
    half = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(plain, 4), plain.shape[-2:], mode="bilinear")
    measured = measure(RecoveredImages(lambda met: half), truth, target)
    assert verdict_of(measured, truth.controls) == PARTLY


def test_a_key_with_the_channels_in_a_wrong_order_is_broken(target, truth):
    """As handed in the error is large, and everything can be seen."""
    turn = next(turn for turn in symmetries(target.scheme) if not torch.equal(turn.abs(), torch.eye(len(turn)).double()))
    for wrong in (turn, -turn):
        measured = measure(RecoveredKey(truth.model.matrix @ wrong), truth, target)
        assert measured.handed_in.psnr_db < 30
        assert measured.recovered < 0.5
        assert verdict_of(measured, truth.controls) == BROKEN


def test_a_key_without_a_right_row_counts_by_its_use(target, truth):
    generator = torch.Generator().manual_seed(0)
    skew = torch.randn(48, 48, generator=generator, dtype=torch.float64)
    near = truth.model.matrix @ torch.matrix_exp(0.055 * (skew - skew.T))
    assert float((near * truth.model.matrix).sum(dim=1).max()) < 0.93
    measured = measure(RecoveredKey(near), truth, target)
    assert measured.recovered < 0.1
    assert measured.use > 0.3
    assert verdict_of(measured, truth.controls) in (PARTLY, BROKEN)
    other = torch.linalg.qr(torch.randn(48, 48, generator=generator, dtype=torch.float64))[0]
    assert measure(RecoveredKey(other), truth, target).use == 0


def test_a_likeness_that_controls_have_too_is_no_part(target, truth, plain):
    blurred = torch.nn.functional.interpolate(
        torch.nn.functional.adaptive_avg_pool2d(plain, 3), plain.shape[-2:], mode="bilinear"
    )
    measured = measure(RecoveredImages(lambda met: blurred), truth, target)
    assert measured.recovered > 0.2
    assert measured.is_likeness
    assert verdict_of(measured, truth.controls) == HOLDS
    share = dataclasses.replace(measured, recovered=0.3, is_likeness=False)
    assert verdict_of(share, truth.controls) == PARTLY


def test_nothing_is_put_right_that_is_right(plain):
    assert torch.allclose(put_right(plain, plain, PATCH), plain, atol=1e-4)
    assert seen(plain, plain, PATCH)[0].psnr_db > 70


def test_controls_are_in_their_order(plain):
    found = controls(plain, PATCH)
    assert set(found) == {"blurred", "mean colour", "unrelated"}
    assert found["blurred"].psnr_db > found["unrelated"].psnr_db >= found["mean colour"].psnr_db - 0.5


def test_one_figure_is_enough_to_be_better():
    others = {"a": Likeness(20.0, 0.4), "b": Likeness(10.0, 0.5)}
    assert Likeness(20.1, 0.1).beats(others)
    assert Likeness(10.0, 0.51).beats(others)
    assert not Likeness(20.0, 0.5).beats(others)
    assert not Likeness(15.0, 0.45).beats(others)


@pytest.mark.parametrize("shape", [(6, 1, 16, 16), (6, 3, 16, 24), (6, 5, 20, 20), (6, 3, 18, 18)])
def test_any_channels_and_sides(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)
    assert seen(1 - images.flip(-1), images, PATCH)[0].psnr_db > 50
    assert luminance(images).shape == (6, 1, *shape[-2:])


def test_blocks_are_turned_as_a_cipher_turns_them(plain):
    """A turn of blocks in the measure is one of the symmetries that the attacks know."""
    turns = list(symmetries(Scheme(cipher="shuffle", patch_size=PATCH)))
    some = plain[:4].double()
    best = [seen(apply(turn, some, PATCH).float(), plain[:4], PATCH)[0].psnr_db for turn in turns[::7]]
    assert np.min(best) > 60
