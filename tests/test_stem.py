from __future__ import annotations

import pytest
import torch
from conftest import ANY_SIDE

import timm_encmixer as te
from timm_encmixer.errors import SchemeMismatchError
from timm_encmixer.models.stem_algebra import decentre, decrypt_stem, encrypt_stem, fold, recentre, rotate_stem, unfold

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def stem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 3, 4, 4, dtype=torch.float64, generator=generator), torch.randn(16, generator=generator).double()


def apply(weight, bias, images, mean, std):
    mean, std = (torch.tensor(v, dtype=images.dtype).reshape(1, -1, 1, 1) for v in (mean, std))
    return torch.nn.functional.conv2d((images - mean) / std, weight, bias, stride=weight.shape[-1])


def test_recentring_changes_the_normalisation_and_nothing_else(stem):
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    centred = recentre(*stem, MEAN, STD)
    assert torch.allclose(apply(*centred, images, (0.5,) * 3, (0.5,) * 3), apply(*stem, images, MEAN, STD), atol=1e-12)
    for got, want in zip(decentre(*centred, MEAN, STD), stem, strict=True):
        assert torch.allclose(got, want, atol=1e-13)


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_the_encrypted_stem_reads_ciphertext(stem, key, cipher):
    block_cipher = te.BlockCipher(key, te.Scheme(cipher=cipher, patch_size=4))
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    encrypted = encrypt_stem(*stem, block_cipher, MEAN, STD)
    got = apply(*encrypted, block_cipher.encrypt(images), (0.5,) * 3, (0.5,) * 3)
    assert torch.allclose(got, apply(*stem, images, MEAN, STD), atol=1e-12)
    for back, want in zip(decrypt_stem(*encrypted, block_cipher, MEAN, STD), stem, strict=True):
        assert torch.allclose(back, want, atol=1e-12)


def test_without_the_fold_it_would_be_wrong(stem, key):
    """The mistake of public code: shuffle across channels, keep the per-channel statistics."""
    block_cipher = te.BlockCipher(key, te.Scheme(patch_size=4))
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    plain = apply(*stem, images, MEAN, STD)
    naive = apply(fold(stem[0], block_cipher), stem[1], block_cipher.encrypt(images), MEAN, STD)
    assert float((naive - plain).abs().max() / plain.std()) > 0.5


def test_the_bias_does_not_depend_on_the_key(stem, key, other_key):
    scheme = te.Scheme(patch_size=4)
    one, two = (encrypt_stem(*stem, te.BlockCipher(k, scheme), MEAN, STD) for k in (key, other_key))
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], two[0])


@pytest.mark.parametrize("cipher", ANY_SIDE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rotation_to_another_key_is_encryption_with_it(stem, key, other_key, cipher, dtype):
    weight, bias = (tensor.to(dtype) for tensor in stem)
    old, new = (te.BlockCipher(k, te.Scheme(cipher=cipher, patch_size=4)) for k in (key, other_key))
    rotated = rotate_stem(encrypt_stem(weight, bias, old, MEAN, STD)[0], old, new)
    direct = encrypt_stem(weight, bias, new, MEAN, STD)[0]
    assert rotated.dtype == dtype
    exact = cipher != "orthogonal"
    assert torch.equal(rotated, direct) if exact else torch.allclose(rotated, direct, atol=16 * torch.finfo(dtype).eps)


def test_dtype_layout_and_inputs_are_kept(stem, key):
    block_cipher = te.BlockCipher(key, te.Scheme(patch_size=4))
    weight = stem[0].half().contiguous(memory_format=torch.channels_last)
    before = weight.clone()
    new_weight, new_bias = encrypt_stem(weight, stem[1].half(), block_cipher, MEAN, STD)
    assert (new_weight.dtype, new_bias.dtype) == (torch.float16, torch.float16)
    assert new_weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, before)


def test_a_cipher_of_another_size_is_an_error(stem, key):
    with pytest.raises(SchemeMismatchError, match="3 x 7 x 7"):
        fold(stem[0], te.BlockCipher(key, te.Scheme(patch_size=7)))
    with pytest.raises(SchemeMismatchError):
        unfold(stem[0], te.BlockCipher(key, te.Scheme(patch_size=4, in_chans=1)))
