"""The attack on `etc`: the squares of a few ciphertexts fit together in one way only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch

import timm_encmixer as te
from timm_encmixer.audit.attack import BROKEN, HOLDS, NOT_RUN
from timm_encmixer.audit.attacks.registry import ATTACKS
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.methods.block_map import matrix_of
from timm_encmixer.audit.methods.sub_blocks import Borders, arrange
from timm_encmixer.audit.model_audit import make_target
from timm_encmixer.audit.photos import sample_photos
from timm_encmixer.images import MemoryImages

QUICK = Effort("quick", 0)
PX = 128


@pytest.fixture(scope="module")
def targets():
    """A small ViT on real photos, encrypted by `etc` with and without scrambled blocks."""
    from PIL import Image

    crops = sample_photos(PX, PX)[::2]
    photos = [Image.fromarray(crop.permute(1, 2, 0).numpy()) for crop in crops]
    made = {}

    def target(cipher, patch):
        if (cipher, patch) not in made:
            model = timm.create_model(
                "vit_tiny_patch16_224", img_size=PX, patch_size=patch, embed_dim=32, depth=1, num_heads=2, num_classes=10
            )
            made[cipher, patch] = make_target(
                model.eval(),
                images=MemoryImages(photos, [-1] * len(photos)),
                public_images=None,
                key=te.SecretKey(bytes(range(1, 33))),
                cipher=cipher,
                base=None,
                public_weights=False,
                budget="quick",
                seed=0,
            )
        return made[cipher, patch]

    return target


@pytest.mark.nightly
@pytest.mark.parametrize("patch", [8, 16])
def test_a_few_photos_give_the_key(targets, patch):
    target = targets("etc", patch)
    result = ATTACKS["ciphertext_only_etc"](points=(20,))(target, target.truth(), QUICK)
    assert result.verdict == BROKEN
    assert result.recovered == 1.0


@pytest.mark.nightly
def test_scrambling_changes_nothing_where_the_order_is_known(targets):
    target = targets("etc+scramble", 16)
    result = ATTACKS["ciphertext_only_etc"](points=(20,))(target, target.truth(), QUICK)
    assert result.recovered == 1.0


@pytest.mark.nightly
def test_it_finds_nothing_in_noise(targets):
    plain = targets("etc", 16)
    noise = torch.rand(plain.images.shape, generator=torch.Generator().manual_seed(0))
    target = dataclasses.replace(plain, ciphertexts=noise)
    result = ATTACKS["ciphertext_only_etc"](points=(20,))(target, target.truth(), QUICK)
    assert result.verdict == HOLDS
    assert result.recovered < 0.2


@pytest.mark.nightly
def test_attacks_on_signed_permutations_know_it(targets):
    target = targets("etc", 8)
    for name, attack in (
        ("known_plaintext", ATTACKS["known_plaintext"](points=(64,))),
        ("chosen_plaintext", ATTACKS["chosen_plaintext"]()),
    ):
        assert attack(target, target.truth(), QUICK).verdict == BROKEN, name


@pytest.mark.nightly
def test_it_is_not_run_on_other_ciphers(targets):
    target = targets("shuffle+negpos", 16)
    result = ATTACKS["ciphertext_only_etc"]()(target, target.truth(), QUICK)
    assert result.verdict == NOT_RUN
    assert "it is about ciphers that move squares of 8 x 8 px only" in result.finding


@pytest.mark.nightly(only=("24-3",))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch", [8, 24])
def test_an_arrangement_is_found_from_exact_moments(channels, patch):
    """Moments of a smooth field, turned by a keyed map, are enough: no images."""
    rows, columns = np.mgrid[: 2 * patch, : 2 * patch].reshape(2, -1)
    near = np.exp(-np.hypot(rows[:, None] - rows, columns[:, None] - columns) / 6)
    mixed = 0.9 + 0.1 * np.eye(channels)
    field = np.einsum("ab,xy->axby", mixed, near).reshape(channels, 2 * patch, 2 * patch, channels, 2 * patch, 2 * patch)
    size = channels * patch**2
    plain = [
        field[:, :patch, :patch, :, top : top + patch, left : left + patch].reshape(size, size)
        for top, left in ((0, 0), (0, patch), (patch, 0))
    ]
    cipher = te.BlockCipher(te.SecretKey(bytes(32)), te.Scheme(cipher="etc", patch_size=patch, in_chans=channels))
    matrix = matrix_of(cipher).numpy()
    borders = Borders(tuple(matrix @ moment @ matrix.T for moment in plain), channels, patch)
    found = arrange(borders, starts=20, rng=np.random.default_rng(0))
    recovered = np.zeros_like(matrix)
    recovered[found.index, np.arange(size)] = found.sign
    assert found.score == pytest.approx(1.0 * np.exp(-1 / 6), rel=1e-6)
    blocks = np.abs(recovered.T @ matrix).reshape(channels, patch**2, channels, patch**2)
    assert np.allclose(blocks.sum(axis=(0, 2)), channels * np.eye(patch**2))  # all but the sign and the channels' order
