"""The limits that docs/security.md states, each shown by the attack itself, so that nobody has to take our word for them."""

from __future__ import annotations

import torch
from conftest import normalised

import timm_encmixer as te
from timm_encmixer.audit.methods.block_map import invert, matrix_of
from timm_encmixer.audit.methods.stem_matching import match_rows
from timm_encmixer.models.stem_algebra import recentre


def test_public_weights_give_the_whole_key(plain_model, key, pixels):
    """No secret is used below the first line but to check the result."""
    encrypted = te.encrypt_model(plain_model, key)
    plain_stem, encrypted_stem = plain_model.stem[0], encrypted.stem[0]
    cfg = plain_model.pretrained_cfg
    centred, _ = recentre(plain_stem.weight.detach(), plain_stem.bias.detach(), cfg["mean"], cfg["std"])
    found = match_rows(centred.flatten(1), encrypted_stem.weight.detach().double().flatten(1), encrypted.encmixer)
    assert torch.equal(found, matrix_of(te.BlockCipher(key, encrypted.encmixer)))


def test_one_known_image_gives_the_whole_key(key, pixels):
    """A plain image and its ciphertext: positions are matched over the image's 64 blocks, then another image is read."""
    cipher = te.BlockCipher(key, te.Scheme(patch_size=4))
    blocks = [_blocks(images[:4].double() / 255 - 0.5) for images in (pixels, cipher.encrypt(pixels))]
    found = match_rows(*blocks, cipher.scheme)
    plain = pixels[10:11].double() / 255
    assert torch.allclose(invert(found, cipher.encrypt(plain), 4), plain, atol=1e-12)


def test_shuffle_keeps_block_means_which_are_a_thumbnail(key, pixels):
    cipher = te.BlockCipher(key, te.Scheme(cipher="shuffle", patch_size=4))
    means = [torch.nn.functional.avg_pool2d(images.double(), 4).mean(dim=1) for images in (pixels, cipher.encrypt(pixels))]
    assert torch.allclose(*means, atol=1e-9)


def test_a_server_that_runs_the_model_sees_the_plain_stems_output(plain_model, key, pixels):
    encrypted = te.encrypt_model(plain_model, key)
    cipher = te.BlockCipher(key, encrypted.encmixer)
    with torch.no_grad():
        seen = encrypted.stem[0](normalised(cipher.encrypt(pixels), encrypted.pretrained_cfg))
        plain = plain_model.stem[0](normalised(pixels, plain_model.pretrained_cfg))
    assert torch.allclose(seen, plain, atol=1e-4)


def _blocks(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) to (blocks, 48)."""
    return torch.nn.functional.unfold(images, 4, stride=4).transpose(1, 2).reshape(-1, 48)
