"""The forms in which timm's models are built, saved and loaded: exact in each of them, or refused with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from conftest import assert_no_secret
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from exactness import BOUND, KEY, SCRAMBLING, difference, lively, sent, tensor_of

import timm_encmixer as te
from timm_encmixer.errors import CheckpointError, ImageError, SchemeError, SchemeMismatchError, StemError
from timm_encmixer.models.encryption import changed_by_encryption, with_encrypted_stem

DEFAULT = "shuffle+negpos"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 10}
CLIP, VIT = "vit_base_patch32_clip_224", "vit_tiny_patch16_224"


@torch.no_grad()
def built(name, **options):
    torch.manual_seed(0)
    return lively(timm.create_model(name, **options), name)


@torch.no_grad()
def error(plain, encrypted, size=None, call=lambda model, image: model(image)):
    """How far the encrypted model is from the plain one, in standard deviations."""
    preprocessing = encrypted.encmixer.plain
    pixels = torch.rand(2, *(size or preprocessing.input_size), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    answers = (call(plain, (pixels - mean) / std), call(encrypted, sent(encrypted, pixels)))
    return difference(*(tensor_of(answer) for answer in answers))


FORMS = {
    "grey": {"in_chans": 1, "mean": (0.4,), "std": (0.2,)},
    "five channels": {"in_chans": 5, "mean": (0.4,) * 5, "std": (0.2,) * 5},
    "oblong": {"img_size": (32, 64)},
    "dynamic": {"dynamic_img_size": True},
    "registers": {"reg_tokens": 2, "class_token": False, "global_pool": "avg"},
    "attention pool": {"global_pool": "map", "class_token": False},
    "no head": {"num_classes": 0},
}


@pytest.mark.parametrize("name", [CLIP, VIT, "flexivit_small"])
@pytest.mark.parametrize("cipher", [DEFAULT, SCRAMBLING, pytest.param("orthogonal+scramble", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_as_timm_builds_it(name, cipher, form):
    options = {**SMALL, **form}
    normalisation = {field: options.pop(field, None) for field in ("mean", "std")}
    plain = built(name, **options).double()
    encrypted = te.encrypt_model(plain, KEY, cipher=cipher, **normalisation)
    size = options["img_size"] if isinstance(options["img_size"], tuple) else (32, 32)
    assert encrypted.encmixer.plain.input_size[1:] == encrypted.pretrained_cfg["input_size"][1:] == size
    assert error(plain, encrypted) < BOUND
    back = te.decrypt_model(encrypted, KEY)
    for name_of, tensor in back.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name_of], rtol=0, atol=1e-12), name_of
    moved = with_encrypted_stem(plain, changed_by_encryption(encrypted, encrypted.encmixer), encrypted.encmixer)
    for name_of, tensor in moved.state_dict().items():
        assert torch.equal(tensor, encrypted.state_dict()[name_of]), name_of


@pytest.mark.parametrize("name", [CLIP, VIT])
def test_tokens_and_intermediates(name):
    plain = built(name, **{**SMALL, "num_classes": 0, "global_pool": ""}).double()
    encrypted = te.encrypt_model(plain, KEY)
    assert error(plain, encrypted) < BOUND
    assert error(plain, encrypted, call=lambda model, image: model.forward_intermediates(image)) < BOUND
    with pytest.raises(StemError, match="answers block by block, and would do so in the permuted order"):
        te.encrypt_model(plain, KEY, cipher=SCRAMBLING)


@pytest.mark.nightly(only=("swin_tiny_patch4_window7_224-options3",))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        (VIT, {**SMALL, "out_indices": (0, 1)}),
        (CLIP, {**SMALL, "out_indices": (1,)}),
        ("test_convnext", {}),  # its modules are flattened: stem_0
        ("swin_tiny_patch4_window7_224", {"img_size": 56}),
        ("fasternet_t0", {"pretrained_cfg_overlay": {"input_size": (3, 64, 64)}}),
        ("convmixer_custom", {"dim": 16, "depth": 5, "patch_size": 4, "pretrained_cfg_overlay": {"input_size": (3, 32, 32)}}),
    ],
)
def test_features_only(name, options):
    plain = built(name, features_only=True, **options).double()
    encrypted = te.encrypt_model(plain, KEY)
    assert error(plain, encrypted) < BOUND
    moved = with_encrypted_stem(plain, changed_by_encryption(encrypted, encrypted.encmixer), encrypted.encmixer)
    assert error(plain, moved) < BOUND
    back = te.decrypt_model(encrypted, KEY).state_dict()
    assert all(torch.allclose(tensor, plain.state_dict()[name_of], atol=1e-12) for name_of, tensor in back.items())
    with pytest.raises(StemError, match="a block's position by its position embedding alone"):
        te.encrypt_model(plain, KEY, cipher=SCRAMBLING)


@pytest.mark.parametrize("name", [CLIP, VIT])
def test_other_sizes_of_a_dynamic_model(name):
    plain = built(name, dynamic_img_size=True, **SMALL).double()
    assert error(plain, te.encrypt_model(plain, KEY), size=(3, 48, 32)) < 1e-6  # timm resamples pos_embed in float32
    with pytest.raises(ImageError, match="expected 32 x 32 px, the one size whose blocks the scheme permutes"):
        error(plain, te.encrypt_model(plain, KEY, cipher=SCRAMBLING), size=(3, 48, 32))


@pytest.mark.parametrize("name", [CLIP, VIT])
def test_scrambled_tokens_come_in_the_ciphertexts_order(name):
    plain = built(name, **SMALL).double()
    encrypted = te.encrypt_model(plain, KEY, cipher=SCRAMBLING)
    order = te.BlockCipher(KEY, encrypted.encmixer).order
    assert sorted(order.tolist()) == list(range(16))
    assert order.tolist() != list(range(16))

    def tokens(model, image):
        found = model.forward_features(image)
        return found if model is encrypted else torch.cat([found[:, :1], found[:, 1:][:, order]], dim=1)

    assert error(plain, encrypted, call=tokens) < BOUND


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [CLIP, VIT])
@pytest.mark.parametrize("cipher", [DEFAULT, SCRAMBLING])
def test_half_precision_checkpoints(name, dtype, cipher, tmp_path):
    """Only the changed tensors are rounded again, once: their values are the float64 ones to within half a unit."""
    plain = built(name, **SMALL).to(dtype)
    te.save_model(plain, tmp_path / "plain")
    scheme = te.encrypt_checkpoint(tmp_path / "plain", tmp_path / "enc", KEY, cipher=cipher)
    written = load_file(tmp_path / "enc" / "model.safetensors")
    exact = te.encrypt_model(plain.double(), KEY, cipher=cipher)
    changed = set(changed_by_encryption(exact, scheme))
    assert len(changed) == 3 - (name == CLIP or cipher == DEFAULT)
    for name_of, tensor in exact.state_dict().items():
        assert written[name_of].dtype == dtype
        assert torch.equal(written[name_of], tensor.to(dtype)), name_of
    te.rotate_checkpoint(tmp_path / "enc", tmp_path / "rotated", KEY, te.SecretKey(bytes(32)))
    te.decrypt_checkpoint(tmp_path / "rotated", tmp_path / "back", te.SecretKey(bytes(32)))
    for name_of, tensor in load_file(tmp_path / "back" / "model.safetensors").items():
        assert torch.allclose(tensor.float(), plain.state_dict()[name_of].float(), rtol=0.02, atol=0.02), name_of
        assert name_of in changed or torch.equal(tensor, plain.state_dict()[name_of])


@pytest.mark.parametrize("name", [CLIP, VIT])
def test_scrambled_files_are_rewritten_as_models_are(name, tmp_path):
    plain, new = built(name, **SMALL), te.SecretKey(bytes(32))
    te.save_model(plain, tmp_path / "plain")
    scheme = te.encrypt_checkpoint(tmp_path / "plain", tmp_path / "enc", KEY, cipher=SCRAMBLING)
    assert (scheme.version, scheme.grid, scheme.positions) == (3, (4, 4), "pos_embed")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'enc'}", pretrained=True)
    assert te.scheme_of(loaded) == scheme
    encrypted = te.encrypt_model(plain, KEY, cipher=SCRAMBLING)
    for one, other in zip(encrypted.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    te.rotate_checkpoint(tmp_path / "enc", tmp_path / "rotated", KEY, new)
    rotated = te.rotate_model(encrypted, KEY, new)
    for name_of, tensor in load_file(tmp_path / "rotated" / "model.safetensors").items():
        assert torch.equal(tensor, rotated.state_dict()[name_of]), name_of
    te.decrypt_checkpoint(tmp_path / "rotated", tmp_path / "back", new)
    for name_of, tensor in load_file(tmp_path / "back" / "model.safetensors").items():
        assert torch.allclose(tensor, plain.state_dict()[name_of], rtol=0, atol=1e-6), name_of
    with pytest.raises(SchemeError, match="a known architecture, to scramble blocks for"):
        te.encrypt_checkpoint(
            tmp_path / "plain" / "model.safetensors",
            tmp_path / "x.safetensors",
            KEY,
            cipher=SCRAMBLING,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            first_conv="patch_embed.proj",
            stem_stride=8,
        )
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.nightly(only=("swin_tiny_patch4_window7_224-options2",))
@pytest.mark.parametrize(
    ("base", "options"),
    [
        (VIT, SMALL),
        (CLIP, {**SMALL, "cipher": SCRAMBLING}),
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "num_classes": 10}),
        ("mixer_s32_224", {"img_size": 64, "features_only": True, "out_indices": (0, 1)}),
        ("test_convnext", {"pretrained_cfg_overlay": {"input_size": (3, 64, 64)}}),
    ],
)
def test_one_name_builds_any_family(base, options, tmp_path):
    """docs/adr/0002: `timm.list_models` does not fill with hundreds of names."""
    assert len(timm.list_models("encmixer*")) == 5
    torch.manual_seed(0)
    made = timm.create_model("encmixer_custom", base=base, key=KEY, **options)
    torch.manual_seed(0)
    plain = timm.create_model(base, **{option: value for option, value in options.items() if option != "cipher"})
    cipher = options.get("cipher", DEFAULT)
    assert made.encmixer == te.encrypt_model(plain, KEY, cipher=cipher).encmixer
    assert type(made) is type(plain)
    assert error(plain.double().eval(), made.double().eval()) < 1e-4  # the stem was rounded to float32
    if "features_only" not in options:
        te.save_model(made, tmp_path / "made")
        again = timm.create_model("encmixer_custom", base=f"local-dir:{tmp_path / 'made'}", pretrained=True, key=KEY)
        assert again.encmixer == made.encmixer
        assert_no_secret(KEY, tmp_path / "made")


def test_a_file_and_a_record_of_different_grids_are_refused(tmp_path):
    te.save_model(built(VIT, **SMALL), tmp_path / "plain")
    te.encrypt_checkpoint(tmp_path / "plain", tmp_path / "enc", KEY, cipher=SCRAMBLING)
    for path in (tmp_path / "enc").iterdir():
        data = path.read_bytes()
        for one, other in ((b'"grid":[4,4]', b'"grid":[2,8]'), (b'\\"grid\\":[4,4]', b'\\"grid\\":[2,8]')):
            data = data.replace(one, other)
        path.write_bytes(data.replace(b'"grid": [\n      4,\n      4\n', b'"grid": [\n      2,\n      8\n'))
    with pytest.raises(CheckpointError, match=r"grid \(2, 8\), as the record says, got \(4, 4\)"):
        te.decrypt_checkpoint(tmp_path / "enc", tmp_path / "no", KEY)


def test_patches_that_timm_resampled_are_refused(tmp_path):
    """timm fits a kernel and a position embedding to other sizes while loading, silently; encrypted ones do not survive it."""
    te.save_model(built("flexivit_small", **SMALL), tmp_path / "plain")
    for cipher in (DEFAULT, SCRAMBLING):
        te.encrypt_checkpoint(tmp_path / "plain", tmp_path / "enc", KEY, cipher=cipher, force=True)
        source = f"local-dir:{tmp_path / 'enc'}"
        other = timm.create_model(source, pretrained=True, patch_size=16)
        with pytest.raises(SchemeMismatchError, match="patches of 8 x 8 px, as its record says, got 16 x 16; timm resampled"):
            te.scheme_of(other)
        with pytest.raises(SchemeMismatchError, match="timm resampled"):
            te.create_transform(other, key=KEY)
        with pytest.raises(SchemeMismatchError, match="timm resampled"):
            timm.create_model("encmixer_custom", base=source, pretrained=True, key=KEY, patch_size=16)
        larger = timm.create_model(source, pretrained=True, img_size=64)
        if cipher == DEFAULT:
            assert te.scheme_of(larger) is not None  # the kernel is as it was
            continue
        with pytest.raises(SchemeMismatchError, match=r"images of 32 x 32 px, whose blocks were scrambled.*got 64 x 64 px"):
            te.scheme_of(larger)
    changed = te.encrypt_model(built(VIT, **SMALL), KEY)
    changed.set_input_size(patch_size=4)
    with pytest.raises(SchemeMismatchError, match="timm resampled"):
        te.decrypt_model(changed, KEY)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("convmixer_custom", {"dim": 8, "depth": 1, "patch_size": 4}, "no position embedding is directly added to the blocks"),
        ("mixer_s32_224", {"img_size": 64}, "no position embedding is directly added"),
        ("swin_tiny_patch4_window7_224", {"img_size": 56}, "no position embedding is directly added"),
        ("eva02_tiny_patch14_224", {"img_size": 28, "depth": 1}, "each block is treated by its position"),
        ("beit_base_patch16_224", {"img_size": 32, "depth": 1}, "no position embedding is directly added"),
        ("nest_tiny", {"img_size": 64}, "do not lie in order along one axis"),
        (VIT, {**SMALL, "pos_embed": "none"}, "no position embedding is directly added"),
    ],
)
def test_what_cannot_be_scrambled_is_refused_with_the_reason(name, options, reason):
    with pytest.raises(StemError, match=f"{reason}.*; take a cipher without scramble"):
        te.encrypt_model(built(name, **options), KEY, cipher=SCRAMBLING)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dynamic_img_pad": True}, "a model that takes images as they are, got dynamic_img_pad=True"),
        ({"img_size": 36}, "image size in multiples of 8 px, got 36 x 36 px; .*build it with img_size for 32 x 32 px"),
        ({"pos_embed": "none"}, "a bias, or a BatchNorm or position embedding that follows at once, got none of these"),
    ],
)
def test_what_cannot_be_encrypted_is_refused_with_the_reason(options, reason):
    with pytest.raises(StemError, match=reason):
        te.encrypt_model(built(CLIP, **{**SMALL, **options}), KEY)
