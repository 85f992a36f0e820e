"""Every verb on every wrapper around a model: record, configuration and weights stay together, or the call is refused."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.checkpoints import load_model
from timm_encmixer.distributed import save_encrypted
from timm_encmixer.errors import CheckpointError, EncMixerError, NotEncryptedError, SchemeError, SourceError, StemError
from timm_encmixer.models.encryption import stem_of

GREY = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


class Network(nn.Module):
    """Somebody's own, around a timm backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.scale = backbone, nn.Parameter(torch.ones(1))

    def forward(self, image):
        return self.scale * self.backbone(image)


class NetworkWithModule(nn.Module):
    """As a wrapper calls what it holds, but with a layer of its own: not a wrapper."""

    def __init__(self, backbone):
        super().__init__()
        self.module, self.head = backbone, nn.Linear(10, 2)

    def forward(self, image):
        return self.head(self.module(image))


@pytest.fixture
def distributed(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def ddp(model):
    return nn.parallel.DistributedDataParallel(model)


def fsdp(model):
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compile": torch.compile,
    "EMA": ModelEmaV3,
    "AveragedModel": AveragedModel,
    "two": lambda model: torch.compile(nn.DataParallel(model)),
    "DDP": ddp,
}
NETWORKS = {"network": Network, "network with module": NetworkWithModule}


def small():
    torch.manual_seed(0)
    cfg = {"input_size": (3, 32, 32)}
    return timm.create_model("convmixer_custom", dim=8, depth=1, kernel_size=3, patch_size=4, pretrained_cfg_overlay=cfg)


def wrapped(how, model):
    return WRAPPERS[how](copy.deepcopy(model))


@pytest.mark.usefixtures("distributed")
@pytest.mark.parametrize("how", WRAPPERS)
def test_wrappers(how, key, other_key, tmp_path):
    plain = small()
    encrypted = te.encrypt_model(plain, key)
    wrapper = wrapped(how, encrypted)
    assert te.scheme_of(wrapper) == encrypted.encmixer  # what reads or saves looks through
    assert te.scheme_of(wrapped(how, plain)) is None
    assert torch.equal(stem_of(wrapper)[0], encrypted.stem[0].weight)
    te.save_model(wrapper, tmp_path / "saved")
    te.save_model(wrapper, tmp_path / "named", state_dict=encrypted.state_dict())
    for name in ("saved", "named"):
        again = load_model(tmp_path / name)
        assert te.scheme_of(again) == encrypted.encmixer
        for tensor, expected in zip(again.state_dict().values(), encrypted.state_dict().values(), strict=True):
            assert torch.equal(tensor, expected)
    assert te.create_transform(wrapper, key=key).cipher.scheme == encrypted.encmixer
    inner = "_orig_mod" if how in ("compile", "two") else "module"
    for make in (  # what makes a new model wants the model itself
        lambda: te.encrypt_model(wrapped(how, plain), key, **GREY),
        lambda: te.decrypt_model(wrapper, key),
        lambda: te.rotate_model(wrapper, key, other_key),
    ):
        with pytest.raises(SourceError, match=f"give the inner model: model.{inner}$"):
            make()
    with pytest.raises(EncMixerError, match="an encrypted one"):
        te.encrypt_model(wrapper, key)


@pytest.mark.usefixtures("distributed")
@pytest.mark.filterwarnings("ignore:FSDP is switching")
def test_fsdp(key, tmp_path):
    encrypted = te.encrypt_model(small(), key)
    wrapper = fsdp(copy.deepcopy(encrypted))
    assert te.scheme_of(wrapper) == encrypted.encmixer
    with pytest.raises(SourceError, match="give the inner model"):
        te.decrypt_model(wrapper, key)
    te.save_model(wrapper, tmp_path / "m")  # of one process, so whole
    te.save_model(wrapper, tmp_path / "given", state_dict=encrypted.state_dict())
    for name in ("m", "given"):
        assert te.scheme_of(load_model(tmp_path / name)) == encrypted.encmixer
    shard = {name: tensor.flatten()[::2] for name, tensor in encrypted.state_dict().items()}
    with pytest.raises(CheckpointError, match="expected shape"):
        te.save_model(wrapper, tmp_path / "shards", state_dict=shard)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("how", NETWORKS)
def test_networks_around_a_timm_model_are_refused(how, key, other_key, tmp_path):
    part = "backbone" if how == "network" else "module"
    around = NETWORKS[how](te.encrypt_model(small(), key))
    for verb in (
        te.scheme_of,
        stem_of,
        lambda model: te.encrypt_model(model, key, **GREY),
        lambda model: te.decrypt_model(model, key),
        lambda model: te.rotate_model(model, key, other_key),
        lambda model: te.save_model(model, tmp_path / "m"),
        lambda model: te.push_to_hub(model, "me/m"),
        lambda model: te.create_transform(model, key=key),
    ):
        with pytest.raises(SchemeError, match=f"got a Network.* around it; give the inner model: model.{part}$"):
            verb(around)
    plain = NETWORKS[how](small())
    assert te.scheme_of(plain) is None
    for verb in (lambda model: te.encrypt_model(model, key, **GREY), lambda model: te.save_model(model, tmp_path / "m")):
        with pytest.raises(SourceError, match=f"give the inner model: model.{part}$"):
            verb(plain)
    with pytest.raises(NotEncryptedError):
        te.push_to_hub(plain, "me/m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("backend", ["eager", "no"])
def test_models_that_accelerate_has_compiled_are_saved(backend, key, tmp_path):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    encrypted = te.encrypt_model(small(), key)
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(dynamo_backend=backend, cpu=True)
    save_encrypted(accelerator, accelerator.prepare_model(copy.deepcopy(encrypted)), tmp_path / "m")
    AcceleratorState._reset_state(True)
    assert te.scheme_of(load_model(tmp_path / "m")) == encrypted.encmixer
    written = load_file(tmp_path / "m" / "model.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in encrypted.state_dict().items())


def test_parts_that_were_compiled_are_saved_under_their_own_names(key, tmp_path):
    encrypted = te.encrypt_model(small(), key)
    names = list(encrypted.state_dict())
    encrypted.blocks = torch.compile(encrypted.blocks)
    te.save_model(encrypted, tmp_path / "m")
    assert sorted(load_file(tmp_path / "m" / "model.safetensors")) == sorted(names)


def pruned(model, layer):
    prune.random_unstructured(model.get_submodule(layer), "weight", 0.5)


def old_weight_norm(model, layer):
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model.get_submodule(layer))


def new_weight_norm(model, layer):
    nn.utils.parametrizations.weight_norm(model.get_submodule(layer))


@pytest.mark.parametrize("layer", ["stem.0", "head"])
@pytest.mark.parametrize("change", [pruned, old_weight_norm, new_weight_norm])
def test_computed_weights_are_exact_or_refused(change, layer, key, other_key, tmp_path):
    model = small()
    plain, encrypted = copy.deepcopy(model), te.encrypt_model(model, key)
    for changed in (plain, encrypted):
        change(changed, layer)
    exact = change is new_weight_norm and layer == "head"  # such a layer is copied like any other
    for verb, changed in (
        (lambda model: te.encrypt_model(model, key), plain),
        (lambda model: te.decrypt_model(model, key), encrypted),
        (lambda model: te.rotate_model(model, key, other_key), encrypted),
    ):
        if exact:
            assert torch.equal(verb(changed).head.weight, changed.head.weight)
            continue
        with pytest.raises(StemError, match=r"make (it|the weights) permanent"):
            verb(changed)
    for changed in (plain, encrypted):
        with pytest.raises(CheckpointError, match="make pruned or normed weights permanent"):
            te.save_model(changed, tmp_path / "m")
    with pytest.raises(CheckpointError, match="make pruned or normed weights permanent"):
        te.push_to_hub(encrypted, "me/m")
    assert not (tmp_path / "m").exists()


def test_pruning_that_was_made_permanent_is_exact(key, tmp_path):
    model = small()
    pruned(model, "stem.0")
    prune.remove(model.stem[0], "weight")
    te.save_model(te.encrypt_model(model, key), tmp_path / "m")
    back = te.decrypt_model(load_model(tmp_path / "m"), key)
    assert torch.allclose(back.stem[0].weight, model.stem[0].weight, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantiz:UserWarning")
def test_quantised_models_are_refused(key, other_key, tmp_path):
    from torch.ao import quantization

    encrypted = te.encrypt_model(small(), key).eval()
    dynamic = quantization.quantize_dynamic(encrypted, {nn.Linear})
    static = copy.deepcopy(encrypted)
    static.stem[0].qconfig = quantization.get_default_qconfig("x86")
    quantization.prepare(static, inplace=True)
    static(torch.rand(1, 3, 32, 32))
    quantization.convert(static, inplace=True)
    for quantised in (dynamic, static):
        assert te.scheme_of(quantised) == encrypted.encmixer
        with pytest.raises(CheckpointError, match="save before quantising"):
            te.save_model(quantised, tmp_path / "m")
        with pytest.raises(CheckpointError, match="save before quantising"):
            te.push_to_hub(quantised, "me/m")
    for verb in (lambda model: te.decrypt_model(model, key), lambda model: te.rotate_model(model, key, other_key)):
        with pytest.raises(StemError):
            verb(static)
    back = te.decrypt_model(dynamic, key)  # its stem is as it was
    assert torch.equal(back.stem[0].weight, te.decrypt_model(encrypted, key).stem[0].weight)
    with pytest.raises(EncMixerError):
        te.encrypt_model(quantization.quantize_dynamic(small(), {nn.Linear}), key)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda key, model: te.encrypt_model(None, key),
        lambda key, model: te.encrypt_model("vit", key),
        lambda key, model: te.encrypt_model(model, key, cipher=None),
        lambda key, model: te.encrypt_model(model, key, mean=0.5, std=0.5),
        lambda key, model: te.encrypt_model(model, key, mean=(0.5, "x", None), std=(0.5,) * 3),
        lambda key, model: te.decrypt_model(3, key),
        lambda key, model: te.rotate_model(None, key, key),
        lambda key, model: te.scheme_of("x"),
        lambda key, model: te.save_model("x", "y"),
        lambda key, model: te.push_to_hub(3, "me/m"),
        lambda key, model: te.push_to_hub(None, "me/m"),
        lambda key, model: te.create_transform(3, key=key),
        lambda key, model: te.encrypt_checkpoint(None, "x", key),
        lambda key, model: te.encrypt_checkpoint(BUNDLED_WEIGHTS, "x.safetensors", key, mean=0.5, std=0.5, stem_stride=4),
        lambda key, model: te.encrypt_checkpoint(BUNDLED_FOLDER, "x", key, cipher=None),
        lambda key, model: load_model(3),
        lambda key, model: timm.create_model("encmixer_custom", base=3, key=key),
    ],
)
def test_other_things_than_models_get_one_line(call, key):
    with pytest.raises(EncMixerError) as caught:
        call(key, small())
    assert "\n" not in str(caught.value)


# ---- PEFT, and other modules that answer for the model inside of them


def vit(dtype=torch.float64):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=2, img_size=64, num_classes=5)
    return model.to(dtype).eval()


def with_lora(model, *targets, **more):
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=list(targets), r=2, **more))


def trained(model, inputs, labels):
    """Some steps of what takes no more than the adapters."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("cipher", ["shuffle+negpos", "shuffle+negpos+scramble"])
@pytest.mark.parametrize("order", ["encrypted first", "adapters first"])
def test_lora_on_an_encrypted_model_is_lora_on_the_plain_one(order, cipher, key, tmp_path):
    images, labels = torch.rand(8, 3, 64, 64, dtype=torch.float64), torch.arange(8) % 5
    plain = with_lora(vit(), "qkv", modules_to_save=["head"])
    if order == "adapters first":
        encrypted = te.encrypt_model(copy.deepcopy(plain), key, cipher=cipher)
    else:
        encrypted = with_lora(te.encrypt_model(vit(), key, cipher=cipher), "qkv", modules_to_save=["head"])
    scheme = te.scheme_of(encrypted)
    assert scheme == encrypted.get_base_model().encmixer
    ciphertext = te.BlockCipher(key, encrypted).encrypt(images)
    seen = trained(plain, 2 * images - 1, labels), trained(encrypted, 2 * ciphertext - 1, labels)
    assert torch.allclose(*(model(pixels) for model, pixels in zip(seen, (2 * images - 1, 2 * ciphertext - 1), strict=True)))
    before = with_lora(vit(), "qkv", modules_to_save=["head"])(2 * images - 1)
    assert (plain(2 * images - 1) - before).abs().max() > 1e-3  # training has changed something
    decrypted_first = te.decrypt_model(encrypted, key)
    assert te.scheme_of(decrypted_first) is None
    assert torch.allclose(decrypted_first(2 * images - 1), plain(2 * images - 1))
    merged = encrypted.merge_and_unload()
    assert te.scheme_of(merged) == scheme
    te.save_model(merged, tmp_path / "m")
    assert te.scheme_of(load_model(tmp_path / "m")) == scheme
    decrypted = te.decrypt_model(merged, key)
    for (name, tensor), expected in zip(
        decrypted.state_dict().items(), plain.merge_and_unload().state_dict().values(), strict=True
    ):
        assert torch.allclose(tensor, expected, atol=1e-9), name


def test_a_peft_model_keeps_its_adapters_and_the_source_its_weights(key, other_key):
    plain = with_lora(vit(), "qkv")
    stem = plain.base_model.model.patch_embed.proj.weight.clone()
    encrypted = te.encrypt_model(plain, key)
    assert type(encrypted) is type(plain)
    assert torch.equal(plain.base_model.model.patch_embed.proj.weight, stem)
    assert te.scheme_of(plain) is None
    assert not torch.equal(encrypted.base_model.model.patch_embed.proj.weight, stem)
    changed = {name for name, tensor in encrypted.state_dict().items() if tensor is not plain.state_dict()[name]}
    for name, tensor in plain.state_dict().items():
        if "patch_embed.proj" not in name:
            assert torch.equal(encrypted.state_dict()[name], tensor), changed
    rotated = te.rotate_model(encrypted, key, other_key)
    assert te.scheme_of(rotated).fingerprint == other_key.fingerprint
    with pytest.raises(EncMixerError, match="an encrypted one"):
        te.encrypt_model(encrypted, key)
    tuner = te.encrypt_model(with_lora(vit(), "qkv").base_model, key)  # PEFT's inner wrapper
    assert te.scheme_of(tuner) is not None


@pytest.mark.parametrize("how", ["LoRA", "modules_to_save", "injected"])
def test_an_adapter_on_the_stem_is_refused_until_it_is_merged(how, key, other_key):
    def adapted(model):
        if how == "injected":
            peft = pytest.importorskip("peft")
            peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["patch_embed.proj"], r=2), model)
            return model
        return (
            with_lora(model, "patch_embed.proj") if how == "LoRA" else with_lora(model, "qkv", modules_to_save=["patch_embed"])
        )

    with pytest.raises(StemError, match=r"an adapter .* of PEFT.; merge first"):
        te.encrypt_model(adapted(vit()), key)
    nameless = vit()
    nameless.pretrained_cfg = nameless.default_cfg = {**nameless.pretrained_cfg, "first_conv": None}
    with pytest.raises(StemError, match=r"an adapter .* of PEFT.; merge first"):
        te.encrypt_model(adapted(nameless), key)
    for verb in (lambda model: te.decrypt_model(model, key), lambda model: te.rotate_model(model, key, other_key)):
        with pytest.raises(StemError, match=r"an adapter .* of PEFT.; merge first"):
            verb(adapted(te.encrypt_model(vit(), key)))


def test_models_with_adapters_are_not_saved(key, tmp_path):
    model = te.encrypt_model(with_lora(vit(), "qkv"), key)
    for save in (lambda: te.save_model(model, tmp_path / "m"), lambda: te.push_to_hub(model, "me/m")):
        with pytest.raises(CheckpointError, match=r"got adapters of PEFT .*; merge first"):
            save()
    assert not (tmp_path / "m").exists()


class Forwarding(nn.Module):
    """Answers for the model inside of it, as wrappers of loggers and profilers do."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)

    def forward(self, image):
        return self.net(image)


class ForwardingWithHead(Forwarding):
    def __init__(self, net):
        super().__init__(net)
        self.scale = nn.Parameter(torch.ones(1))


def test_modules_that_answer_for_the_model_inside_are_no_model(key, other_key, tmp_path):
    encrypted = te.encrypt_model(small(), key)
    for verb in (
        lambda: te.encrypt_model(Forwarding(small()), key),
        lambda: te.decrypt_model(Forwarding(encrypted), key),
        lambda: te.rotate_model(Forwarding(encrypted), key, other_key),
        lambda: te.encrypt_model(ForwardingWithHead(small()), key),
        lambda: te.decrypt_model(ForwardingWithHead(encrypted), key),
    ):
        with pytest.raises(EncMixerError, match=r"give the inner model: model.net$"):
            verb()
    assert te.scheme_of(Forwarding(encrypted)) == encrypted.encmixer
    te.save_model(Forwarding(encrypted), tmp_path / "m")
    assert te.scheme_of(load_model(tmp_path / "m")) == encrypted.encmixer
    nameless = small()
    nameless.pretrained_cfg = {}
    with pytest.raises(SourceError, match=r"give the inner model: model.net$"):
        te.encrypt_model(Forwarding(nameless), key, **GREY)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", ["fx", "jit", "export"])
def test_traced_copies_are_named(how, key, tmp_path):
    model, image = te.encrypt_model(small(), key).eval(), torch.rand(1, 3, 32, 32)
    trace = {
        "fx": torch.fx.symbolic_trace,
        "jit": lambda model: torch.jit.trace(model, image),
        "export": lambda model: torch.export.export(model, (image,)).module(),
    }[how]
    for verb, source in (
        (te.scheme_of, model),
        (lambda traced: te.encrypt_model(traced, key, **GREY), small()),
        (lambda traced: te.decrypt_model(traced, key), model),
        (lambda traced: te.save_model(traced, tmp_path / "m"), model),
        (lambda traced: te.push_to_hub(traced, "me/m"), model),
    ):
        with pytest.raises(SourceError, match=r"a traced copy without its record .*; give the model that was traced"):
            verb(trace(source))
