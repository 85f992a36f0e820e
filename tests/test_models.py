from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import timm
import torch
from conftest import ANY_SIDE, assert_no_secret, calibrate, in_float64, normalised
from timm.models.convmixer import ConvMixer
from torch import nn

import timm_encmixer as te
from timm_encmixer.errors import AlreadyEncryptedError, KeyMismatchError, NotEncryptedError, SchemeError, StemError

REAL_SHAPES = ["convmixer_768_32", "convmixer_1024_20_ks9_p14", "convmixer_1536_20"]


def ciphertext_input(model: nn.Module, key: te.SecretKey, pixels: torch.Tensor) -> torch.Tensor:
    """Encrypt, then normalise as stock timm does with the encrypted model's own configuration."""
    cipher = te.BlockCipher(key, model.encmixer)
    if model.encmixer.exact:
        return normalised(cipher.encrypt(pixels), model.pretrained_cfg)
    return normalised(cipher.encrypt(pixels.float() / 255) * 255, model.pretrained_cfg)


@functools.lru_cache(maxsize=4)  # of one model and one batch the two outputs are asked for again with every cipher and key
@torch.no_grad()
def plain_answers(plain: nn.Module, pixels: torch.Tensor, output: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the plain model computes in float64, and in its own precision."""
    truth = getattr(in_float64(plain), output)(normalised(pixels, plain.pretrained_cfg, torch.float64))
    return truth, getattr(plain, output)(normalised(pixels, plain.pretrained_cfg))


@torch.no_grad()
def assert_exact(plain: nn.Module, encrypted: nn.Module, key: te.SecretKey, pixels: torch.Tensor) -> None:
    """The issue's criterion, for logits and features: twice the plain model's own fp32 error, and no changed top-1."""
    for output in ("forward", "forward_features"):
        truth, rounded = plain_answers(plain, pixels, output)
        got = getattr(encrypted, output)(ciphertext_input(encrypted, key, pixels))
        floor = float((rounded - truth).abs().max())
        assert float(truth.std(dim=0).mean()) > 100 * floor, "a constant output would prove nothing"
        assert float((got - truth).abs().max()) <= 2 * floor
        if output == "forward":
            assert torch.equal(got.argmax(1), truth.argmax(1))


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_the_bundled_model_is_exact(plain_model, key, pixels, cipher):
    assert_exact(plain_model, te.encrypt_model(plain_model, key, cipher=cipher), key, pixels)


@pytest.mark.nightly(but=("convmixer_768_32",))
@pytest.mark.parametrize("name", REAL_SHAPES)
def test_the_papers_shapes_are_exact(name, key, photos):
    torch.manual_seed(0)
    plain = timm.create_model(name)
    side = 4 * plain.stem[0].kernel_size[0]
    pixels = torch.stack([torch.from_numpy(np.array(photo.resize((side, side)))).permute(2, 0, 1) for photo in photos[:4]])
    calibrate(plain, normalised(pixels, plain.pretrained_cfg))
    assert_exact(plain, te.encrypt_model(plain, key), key, pixels)


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_decryption_gives_the_plain_model_back(plain_model, key, cipher):
    decrypted = te.decrypt_model(te.encrypt_model(plain_model, key, cipher=cipher), key)
    for name, tensor in plain_model.state_dict().items():
        assert torch.allclose(decrypted.state_dict()[name], tensor, rtol=1e-6, atol=1e-6), name
    places = ("url", "file", "hf_hub_id", "source")
    assert decrypted.pretrained_cfg == {k: v for k, v in plain_model.pretrained_cfg.items() if k not in places}
    assert te.scheme_of(decrypted) is None


def test_decryption_restores_every_preprocessing_field(key):
    plain = timm.create_model("vit_tiny_patch16_224", img_size=64).eval()
    plain.pretrained_cfg = {
        **plain.pretrained_cfg,
        "test_input_size": (3, 96, 96),
        "test_crop_pct": 0.9,
        "crop_mode": "squash",
        "notes": ("mine",),
    }
    encrypted = te.encrypt_model(plain, key)
    assert encrypted.pretrained_cfg["crop_pct"] == 1.0
    assert "test_input_size" not in encrypted.pretrained_cfg
    decrypted = te.decrypt_model(encrypted, key).pretrained_cfg
    for field in ("mean", "std", "crop_pct", "crop_mode", "test_input_size", "test_crop_pct", "first_conv", "notes"):
        assert decrypted[field] == plain.pretrained_cfg[field]


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_rotation(plain_model, key, other_key, pixels, cipher):
    rotated = te.rotate_model(te.encrypt_model(plain_model, key, cipher=cipher), key, other_key)
    assert rotated.encmixer.fingerprint == other_key.fingerprint
    assert_exact(plain_model, rotated, other_key, pixels)
    with pytest.raises(KeyMismatchError):
        te.decrypt_model(rotated, key)


def test_wrong_keys_and_no_key_collapse(plain_model, key, pixels):
    encrypted = te.encrypt_model(plain_model, key)
    wrong = te.BlockCipher(te.SecretKey(bytes(32)), encrypted.encmixer.without_fingerprint())
    with torch.no_grad():
        plain = plain_model(normalised(pixels, plain_model.pretrained_cfg)).argmax(1)
        for images in (wrong.encrypt(pixels), pixels):
            assert float((encrypted(normalised(images, encrypted.pretrained_cfg)).argmax(1) == plain).float().mean()) < 0.4


def test_the_plain_model_is_untouched_and_tensors_are_shared(plain_model, key):
    before = {name: tensor.clone() for name, tensor in plain_model.state_dict().items()}
    cfg = copy.deepcopy(plain_model.pretrained_cfg)
    encrypted = te.encrypt_model(plain_model, key)
    assert plain_model.pretrained_cfg == cfg
    assert not hasattr(plain_model, "encmixer")
    own, new = plain_model.state_dict(), encrypted.state_dict()
    assert list(own) == list(new)
    for name, tensor in own.items():
        assert torch.equal(tensor, before[name])
        assert (tensor.data_ptr() == new[name].data_ptr()) == (not name.startswith("stem.0.")), name
    assert type(encrypted) is type(plain_model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("training", [False, True])
def test_dtype_mode_grad_and_layout_are_kept(key, dtype, training):
    plain = ConvMixer(16, 2, kernel_size=3, patch_size=4, num_classes=5).to(dtype).to(memory_format=torch.channels_last)
    plain.train(training)
    plain.stem[0].weight.requires_grad_(False)
    encrypted = te.encrypt_model(plain, key, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    conv = encrypted.stem[0]
    assert (conv.weight.dtype, conv.bias.dtype, encrypted.training) == (dtype, dtype, training)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not conv.weight.requires_grad
    assert conv.bias.requires_grad
    assert isinstance(conv.weight, nn.Parameter)


def test_the_configuration_asks_for_ciphertext(plain_model, key):
    encrypted = te.encrypt_model(plain_model, key)
    config = timm.data.resolve_model_data_config(encrypted)
    assert config["mean"] == config["std"] == (0.5, 0.5, 0.5)
    assert config["crop_pct"] == 1.0
    assert encrypted.default_cfg is encrypted.pretrained_cfg
    assert not {"url", "file", "hf_hub_id", "source"} & set(encrypted.pretrained_cfg)


def test_a_model_without_configuration_passes_its_normalisation(key, pixels):
    torch.manual_seed(0)
    plain = ConvMixer(32, 2, kernel_size=3, patch_size=4, num_classes=5)
    with pytest.raises(SchemeError, match="pass mean="):
        te.encrypt_model(plain, key)
    with pytest.raises(SchemeError, match="both or neither"):
        te.encrypt_model(plain, key, mean=(0.5,) * 3)
    cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.2)}
    calibrate(plain, normalised(pixels, cfg))
    encrypted = te.encrypt_model(plain, key, **cfg)
    plain.pretrained_cfg = cfg
    assert_exact(plain, encrypted, key, pixels)


def test_one_channel(key, photos):
    pixels = torch.stack([torch.from_numpy(np.array(photo.convert("L")))[None] for photo in photos[:16]])
    plain = ConvMixer(32, 2, kernel_size=3, patch_size=4, num_classes=5, in_chans=1)
    cfg = {"mean": (0.45,), "std": (0.25,)}
    calibrate(plain, normalised(pixels, cfg))
    encrypted = te.encrypt_model(plain, key, **cfg)
    plain.pretrained_cfg = cfg
    assert_exact(plain, encrypted, key, pixels)


def test_other_patch_stems_are_found_by_geometry(key, photos):
    """A ViT's stem has a bias and the same geometry; class names play no part."""
    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    pixels = torch.stack([torch.from_numpy(np.array(photo)).permute(2, 0, 1) for photo in photos[:8]])
    encrypted = te.encrypt_model(plain, key)
    assert encrypted.encmixer.stem == "patch_embed.proj"
    with torch.no_grad():
        want = plain.forward_features(normalised(pixels, plain.pretrained_cfg))
        got = encrypted.forward_features(ciphertext_input(encrypted, key, pixels))
    assert float(want.std(dim=0).mean()) > 1e-2
    assert torch.allclose(got, want, atol=1e-5)


def test_double_encryption_and_decryption_of_plain_models(plain_model, key):
    encrypted = te.encrypt_model(plain_model, key)
    with pytest.raises(AlreadyEncryptedError):
        te.encrypt_model(encrypted, key)
    with pytest.raises(NotEncryptedError):
        te.decrypt_model(plain_model, key)
    with pytest.raises(NotEncryptedError):
        te.rotate_model(plain_model, key, key)
    with pytest.raises(KeyMismatchError, match="another key than the old one"):
        te.rotate_model(encrypted, key, key)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "square kernel equal to the stride"),
        ("crossvit_tiny_240", "one first convolution"),
        ("efficientnet_b0", "stem|Conv2d|kernel"),
    ],
)
def test_stems_that_are_no_patch_convolution(name, message, key):
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(StemError, match=message):
        te.encrypt_model(model, key)


def test_padding_inside_the_model_is_refused(key):
    with pytest.raises(StemError, match="dynamic_img_pad"):
        te.encrypt_model(timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, dynamic_img_pad=True), key)


def test_changed_channels_are_refused(key):
    model = timm.create_model("convmixer_256_8_ks5_p4", in_chans=1)
    with pytest.raises(SchemeError, match="in_chans was changed"):
        te.encrypt_model(model, key)


@pytest.mark.parametrize("given", [(float("nan"), 0, 1), (0, 0, 10**400), (0, 0, 2e6), (0.5, 0.5), (), "0.5", 3])
def test_a_normalisation_that_is_none_is_named(given, plain_model, key):
    expected = r"expected 3 numbers( above 0,)? up to 1000000, one per channel"
    for name, other in (("mean", "std"), ("std", "mean")):
        with pytest.raises(
            SchemeError, match=rf"^{name}: {expected}, got .*; pass {name}=\(\.\.\., \.\.\., \.\.\.\) \(--{name}"
        ):
            te.encrypt_model(plain_model, key, **{name: given, other: (0.2, 0.2, 0.2)})
    with pytest.raises(SchemeError, match=r"^std: expected 3 numbers above 0"):
        te.encrypt_model(plain_model, key, mean=(0.5, 0.5, 0.5), std=(0.2, 0, 0.2))


def test_unusable_weights(key):
    with torch.device("meta"):
        model = timm.create_model("convmixer_768_32")
    with pytest.raises(StemError, match="meta device"):
        te.encrypt_model(model, key)
    model = timm.create_model("convmixer_256_8_ks5_p4")
    model.stem[0].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(StemError, match="NaN"):
        te.encrypt_model(model, key)
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.int8):  # torch cannot compute with these
        weight = torch.ones(256, 3, 4, 4).to(dtype)
        model.stem[0].weight = nn.Parameter(weight, requires_grad=False)
        with pytest.raises(StemError, match=rf"stem\.0\.weight: .*float64\), got {dtype}; encrypt before quantising"):
            te.encrypt_model(model, key)
    model.stem[0] = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 256, 4, 4))
    with pytest.raises(StemError, match=r"torch\.nn\.Conv2d"):
        te.encrypt_model(model, key)


def test_an_unknown_cipher(plain_model, key):
    with pytest.raises(SchemeError, match="one of shuffle"):
        te.encrypt_model(plain_model, key, cipher="rot13")


def test_wrapped_models_show_their_record(plain_model, key):
    encrypted = te.encrypt_model(plain_model, key)
    assert te.scheme_of(nn.DataParallel(encrypted)) == encrypted.encmixer
    assert te.scheme_of(torch.compile(encrypted)) == encrypted.encmixer


def test_the_key_reaches_no_pickle_or_repr(plain_model, key, tmp_path):
    encrypted = te.encrypt_model(plain_model, key)
    torch.save(encrypted, tmp_path / "model.pt")
    torch.save(encrypted.state_dict(), tmp_path / "state.pt")
    assert_no_secret(key, tmp_path, repr(encrypted), str(encrypted.__dict__))


@pytest.mark.nightly
def test_compile_trace_and_onnx(plain_model, key, pixels, tmp_path):
    encrypted = te.encrypt_model(plain_model, key)
    images = ciphertext_input(encrypted, key, pixels[:2])
    with torch.no_grad():
        want = encrypted(images)
        assert torch.allclose(torch.compile(encrypted, backend="aot_eager")(images), want, atol=1e-4)
        assert torch.allclose(torch.jit.trace(encrypted, images)(images), want, atol=1e-4)
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.onnx.export(encrypted, (images,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (got,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.allclose(got, want.numpy(), atol=1e-4)
    assert_no_secret(key, tmp_path)
