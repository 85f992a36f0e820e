"""The image trace: only a stem that is the only reader of the image is encrypted; without a bias it finds a constant fold."""

from __future__ import annotations

import copy
import json

import pytest
import timm
import torch
from conftest import ANY_SIDE, calibrate, in_float64, normalised
from safetensors.torch import load_file, save_file
from torch import nn

import timm_encmixer as te
from timm_encmixer.errors import CheckpointError, StemError
from timm_encmixer.models.encryption import changed_by_encryption, with_encrypted_stem
from timm_encmixer.models.families import examine
from timm_encmixer.models.image_trace import trace_image
from timm_encmixer.models.meta_results import MetaResults
from timm_encmixer.scheme import facts_of

SIDE = 32
SMALL_VIT = {"img_size": SIDE, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 10}
FOLDING = [cipher for cipher in ANY_SIDE if not facts_of(cipher).keeps_normalisation]
CLIP_LIKE = ("vit_base_patch32_clip_224", {**SMALL_VIT}, "pos_embed")
BATCH_NORM = (
    "fasternet_t0",
    {"num_classes": 10, "pretrained_cfg_overlay": {"input_size": (3, 64, 64)}},
    "patch_embed.norm.running_mean",
)


def build(name, options):
    torch.manual_seed(0)
    model = timm.create_model(name, **options)
    size = (3, *model.patch_embed.img_size) if "img_size" in options else model.pretrained_cfg["input_size"]
    pixels = torch.randint(0, 256, (4, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return calibrate(model, normalised(pixels, model.pretrained_cfg)), pixels


class Reader(nn.Module):
    """A patch stem, and whatever else is done with the image before."""

    def __init__(self, prepare=lambda image: image, finish=lambda model, image, seen: seen, bias=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4, bias=bias)
        self.prepare, self.finish = prepare, finish

    def forward(self, image):
        return self.finish(self, image, self.stem(self.prepare(image)))


@pytest.mark.parametrize(
    "copied", [lambda x: x, lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.clone()]
)
def test_the_stem_alone_reads_the_image_and_its_copies(copied):
    model = Reader(copied)
    fold = trace_image(model, model.stem, (3, SIDE, SIDE)).constant_fold
    with torch.inference_mode():  # as evaluation runs
        assert trace_image(model, model.stem, (3, SIDE, SIDE)).constant_fold.tensor == fold.tensor
    assert (fold.tensor, fold.sign, fold.channel.tolist()) == ("stem.bias", 1, list(range(8)))


@pytest.mark.parametrize(
    "model",
    [
        Reader(lambda x: nn.functional.interpolate(x, scale_factor=2)),
        Reader(lambda x: nn.functional.pad(x, (0, 4, 0, 4))),
        Reader(lambda x: x[..., 4:]),
        Reader(lambda x: x * 2),
        Reader(finish=lambda model, image, seen: seen + image.mean()),
        Reader(finish=lambda model, image, seen: seen + nn.functional.avg_pool2d(image, 4)[:, :1]),
    ],
)
def test_other_readings_of_the_image_are_refused(model):
    with pytest.raises(StemError, match="expected one reader of the image, the convolution stem, got"):
        trace_image(model, model.stem, (3, SIDE, SIDE))


class Sharing(nn.Module):
    """A patch stem whose kernel or bias serves another layer too."""

    def __init__(self, shared, use):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8)
        self.decoder = nn.ConvTranspose2d(8, 3, 4, stride=4) if shared == "weight" else nn.Linear(8, 8)
        setattr(self.decoder, shared, getattr(self.stem, shared))
        self.use = use

    def forward(self, image):
        seen = self.norm(self.stem(image))
        if not self.use:
            return seen.mean((2, 3))
        return self.decoder(seen) if isinstance(self.decoder, nn.ConvTranspose2d) else self.decoder(seen.mean((2, 3)))


@pytest.mark.parametrize("use", [True, False], ids=["used", "unused in the forward pass"])
@pytest.mark.parametrize("shared", ["weight", "bias"])
def test_a_stem_that_shares_its_weights_is_refused(shared, use, key):
    with pytest.raises(StemError, match="expected weights that no other module has, got weights that decoder shares"):
        te.encrypt_model(Sharing(shared, use), key, mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.mark.parametrize(
    ("finish", "which"),
    [
        (lambda model, image, seen: nn.functional.conv_transpose2d(seen, model.stem.weight, stride=4), "weight"),
        (lambda model, image, seen: seen.transpose(1, 3) @ model.stem.weight.flatten(1)[:, :8], "weight"),
        (lambda model, image, seen: seen - model.stem.bias[:, None, None], "bias"),
    ],
)
def test_a_stem_whose_weights_are_read_again_is_refused(finish, which, key):
    with pytest.raises(StemError, match=f"stem.{which}: expected one use in a forward pass, got 2"):
        te.encrypt_model(Reader(finish=finish), key, mean=(0.5,) * 3, std=(0.2,) * 3)


def test_a_model_that_reads_the_image_twice_off_the_meta_device_is_refused(key):
    def finish(model, image, seen):
        return seen if image.is_meta else seen + image.mean()

    with pytest.raises(StemError, match=r"one reader of the image, the convolution stem, got 2 \(convolution, mean\)"):
        te.encrypt_model(Reader(finish=finish), key, mean=(0.5,) * 3, std=(0.2,) * 3)


def test_a_model_is_traced_at_all_the_sizes_that_it_is_declared_for(key):
    model = Reader(finish=lambda model, image, seen: seen + image.mean() if image.shape[-1] == 48 else seen)
    model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.2,) * 3}
    te.encrypt_model(model, key)
    model.pretrained_cfg["test_input_size"] = (3, 48, 48)
    with pytest.raises(StemError, match="one reader of the image, the convolution stem, got 2"):
        te.encrypt_model(model, key)
    model = Reader(bias=False)
    model.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
    model.finish = lambda model, image, seen: model.norms[image.shape[-1] == 48](seen)
    model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.4,) * 3, "std": (0.2,) * 3}
    te.encrypt_model(model, key)
    model.pretrained_cfg["test_input_size"] = (3, 48, 48)
    with pytest.raises(StemError, match="at all declared image sizes"):
        te.encrypt_model(model, key)


def test_a_model_that_cannot_be_followed_is_refused():
    model = Reader(finish=lambda model, image, seen: seen * seen.sum().item())
    with pytest.raises(StemError, match="a forward pass that can be followed"):
        trace_image(model, model.stem, (3, SIDE, SIDE))


def _channels_last(seen):
    return seen.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("finish", "shape", "found"),
    [
        (lambda model, image, seen: seen + model.table, (1, 8, 8, 8), True),
        (lambda model, image, seen: model.table + seen, (8, 8, 8), True),
        (lambda model, image, seen: _channels_last(seen).view(1, 64, 8) + model.table, (1, 64, 8), True),
        (lambda model, image, seen: torch.relu(seen) + model.table, (1, 8, 8, 8), False),
        (lambda model, image, seen: seen + model.table + model.table, (1, 8, 8, 8), False),
        (lambda model, image, seen: (seen + model.table) * seen, (1, 8, 8, 8), False),
        (lambda model, image, seen: seen + torch.sigmoid(model.table), (1, 8, 8, 8), False),
        (lambda model, image, seen: seen + model.table, (1, 8, 1, 1), False),  # one number for several places
        (lambda model, image, seen: torch.add(seen, model.table, alpha=2), (1, 8, 8, 8), False),
    ],
)
def test_a_constant_fold_takes_the_stems_output_directly_and_serves_nothing_else(finish, shape, found):
    model = Reader(finish=finish, bias=False)
    model.table = nn.Parameter(torch.zeros(shape))
    fold = trace_image(model, model.stem, (3, SIDE, SIDE)).constant_fold
    assert (fold is not None) == found
    if found:
        channels = fold.channel.movedim(-3 if shape[-1] == shape[-2] else -1, 0)
        assert torch.equal(channels.reshape(8, -1), torch.arange(8)[:, None].expand(8, 64))


@pytest.mark.parametrize(
    ("name", "options", "constant", "cipher"),
    [*((*CLIP_LIKE, cipher) for cipher in FOLDING), (*BATCH_NORM, "shuffle+negpos")],
    ids=[*FOLDING, "batch_norm"],
)
@torch.no_grad()
def test_a_stem_without_a_bias_is_exact(name, options, constant, cipher, key):
    model, pixels = build(name, options)
    exact = in_float64(model)
    encrypted = te.encrypt_model(exact, key, cipher=cipher)
    assert encrypted.encmixer.version == 2
    assert encrypted.encmixer.constant == constant
    block_cipher = te.BlockCipher(key, encrypted.encmixer)
    unit = pixels.double() / 255
    plain_logits = exact(normalised(pixels, model.pretrained_cfg, torch.float64))
    keyed_logits = encrypted(2 * (block_cipher.encrypt(unit) - 0.5))
    scale = float(plain_logits.std())
    assert float((plain_logits - keyed_logits).abs().max()) < 1e-9 * scale
    left_out = copy_with(encrypted, constant, dict(exact.named_parameters()) | dict(exact.named_buffers()))
    without = left_out(2 * (block_cipher.encrypt(unit) - 0.5))
    assert float((plain_logits - without).abs().max()) > 1e-4 * scale  # the constant matters
    elsewhere = with_encrypted_stem(exact, changed_by_encryption(encrypted, encrypted.encmixer), encrypted.encmixer)
    assert all(torch.equal(a, b) for a, b in zip(elsewhere.state_dict().values(), encrypted.state_dict().values(), strict=True))
    back = te.decrypt_model(encrypted, key)
    for tensor, again in zip(exact.state_dict().values(), back.state_dict().values(), strict=True):
        assert torch.allclose(tensor, again, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "options", "constant"), [CLIP_LIKE, BATCH_NORM], ids=["pos_embed", "batch_norm"])
@torch.no_grad()
def test_a_shuffle_within_channels_leaves_no_constant(name, options, constant, key):
    model, pixels = build(name, options)
    exact = in_float64(model)
    encrypted = te.encrypt_model(exact, key, cipher="shuffle-planes")
    scheme = encrypted.encmixer
    assert (scheme.version, scheme.constant) == (5, None)
    assert encrypted.pretrained_cfg["mean"] == model.pretrained_cfg["mean"] != (0.5, 0.5, 0.5)
    changed = changed_by_encryption(encrypted, scheme)
    (kernel,) = changed.values()
    (plain_kernel,) = changed_by_encryption(exact, scheme).values()
    assert torch.equal(kernel.flatten(2).sort().values, plain_kernel.flatten(2).sort().values)  # bit for bit, in each channel
    assert not torch.equal(kernel, plain_kernel)
    same = [torch.equal(a, b) for a, b in zip(encrypted.state_dict().values(), exact.state_dict().values(), strict=True)]
    assert same.count(False) == 1
    ciphertext = te.BlockCipher(key, scheme).encrypt(pixels)
    read = [(exact, pixels), (encrypted, ciphertext)]
    logits, keyed = (network(normalised(seen, model.pretrained_cfg, torch.float64)) for network, seen in read)
    assert float((logits - keyed).abs().max()) < 1e-12 * float(logits.std())
    assert all(map(torch.equal, te.decrypt_model(encrypted, key).state_dict().values(), exact.state_dict().values()))


def test_a_model_without_a_place_for_the_constant_takes_a_shuffle_within_channels(key):
    model = Reader(finish=lambda model, image, stem: stem.flatten(2).relu().mean(2), bias=False)
    norm = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3)}
    with pytest.raises(StemError, match="the normalisation leaves a constant"):
        te.encrypt_model(model, key, **norm)
    assert te.encrypt_model(model, key, cipher="shuffle-planes", **norm).encmixer.constant is None


def copy_with(model, name, tensors):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        (dict(changed.named_parameters()) | dict(changed.named_buffers()))[name].copy_(tensors[name])
    return changed


@pytest.mark.parametrize(("name", "options", "constant"), [CLIP_LIKE, BATCH_NORM], ids=["pos_embed", "batch_norm"])
def test_files_are_rewritten_as_models_are(name, options, constant, key, other_key, tmp_path):
    model, _ = build(name, options)
    te.save_model(model, tmp_path / "plain")
    scheme = te.encrypt_checkpoint(tmp_path / "plain", tmp_path / "enc", key)
    assert (scheme.version, scheme.constant) == (2, constant)
    encrypted = te.encrypt_model(model, key)
    written = load_file(tmp_path / "enc" / "model.safetensors")
    for tensor_name, tensor in encrypted.state_dict().items():
        assert torch.equal(written[tensor_name], tensor), tensor_name
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    changed = {tensor_name for tensor_name in plain if not torch.equal(plain[tensor_name], written[tensor_name])}
    assert changed == {f"{scheme.stem}.weight", constant}
    loaded = timm.create_model(f"local-dir:{tmp_path / 'enc'}", pretrained=True)
    assert te.scheme_of(loaded) == scheme
    te.rotate_checkpoint(tmp_path / "enc", tmp_path / "rotated", key, other_key)
    te.decrypt_checkpoint(tmp_path / "rotated", tmp_path / "back", other_key)
    back = load_file(tmp_path / "back" / "model.safetensors")
    for tensor_name, tensor in plain.items():
        assert torch.allclose(tensor.float(), back[tensor_name].float(), rtol=0, atol=1e-6), tensor_name
    other = {**scheme.to_dict(), "constant": "norm.weight"}
    config = json.loads((tmp_path / "enc" / "config.json").read_text())
    config["pretrained_cfg"]["notes"] = ["encmixer:" + json.dumps(other)]
    (tmp_path / "enc" / "config.json").write_text(json.dumps({**config, "encmixer": other}))
    save_file(written, tmp_path / "enc" / "model.safetensors", {"format": "pt", "encmixer": json.dumps(other)})
    with pytest.raises(CheckpointError, match=r"in norm\.weight, as the record says, got"):
        te.decrypt_checkpoint(tmp_path / "enc", tmp_path / "no", key)
    assert not (tmp_path / "no").exists()


def test_a_mean_of_one_half_needs_no_fold(key):
    options = {**SMALL_VIT, "pretrained_cfg_overlay": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}
    model, _ = build(CLIP_LIKE[0], options)
    encrypted = te.encrypt_model(model, key)
    assert encrypted.encmixer.constant is None
    assert encrypted.encmixer.version == 1
    assert torch.equal(encrypted.pos_embed, model.pos_embed)


def test_a_norm_behind_the_stem_is_refused(key):
    model = timm.create_model(CLIP_LIKE[0], **SMALL_VIT)
    model.patch_embed.norm = nn.LayerNorm(48)
    with pytest.raises(StemError, match="BatchNorm or position embedding that follows at once"):
        te.encrypt_model(model, key)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "convmixer_768_32",
        "swin_tiny_patch4_window7_224",
        "fasternet_t0",
        "coat_tiny",
        "swinv2_cr_tiny_ns_224",
        "rdnet_tiny",
        "eva02_tiny_patch14_224",
        "vit_base_patch32_clip_quickgelu_224",
    ],
)
def test_remembered_results_are_those_of_the_operation(monkeypatch, name):
    remembered = []
    call = MetaResults.__call__

    def both(self, func, operation, args, kwargs):
        made, known = call(self, func, operation, args, kwargs), len(self._known)
        true = func(*args, **kwargs)
        assert torch.utils._pytree.tree_map(describe, made) == torch.utils._pytree.tree_map(describe, true), func
        remembered.append(known)
        return made

    def describe(leaf):
        return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, torch.Tensor) else leaf

    monkeypatch.setattr(MetaResults, "__call__", both)
    assert examine(name).supported
    assert len(remembered) > 1.5 * remembered[-1] > 0  # many a result was remembered
