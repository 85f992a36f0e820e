"""The package as timm's users meet it: names, create_model, saving, loading, and a process without this package."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import subprocess
import sys
import warnings
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType

import numpy as np
import processes
import pytest
import timm
import torch
from conftest import ANY_SIDE, ROOT, assert_no_secret, normalised
from PIL import Image
from safetensors.torch import save_file
from timm.models.convmixer import ConvMixer

import timm_encmixer as te
from timm_encmixer.__main__ import main
from timm_encmixer.bundled import BUNDLED_MODEL, BUNDLED_WEIGHTS
from timm_encmixer.errors import (
    AlreadyEncryptedError,
    KeyMismatchError,
    MissingKeyError,
    PublicWeightsWarning,
    SchemeError,
    SourceError,
    StemError,
)
from timm_encmixer.timm_plugin import registration

NAME = "encmixer_256_8_ks5_p4.cifar10"


def build(name: str = NAME, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PublicWeightsWarning)
        return timm.create_model(name, **arguments).eval()


def run_python(code: str, *, without_plugin: bool = False) -> str:
    """Run code in a process of its own; optionally one in which timm_encmixer cannot be imported."""
    block = "import sys; sys.modules['timm_encmixer'] = None\n" if without_plugin else ""
    result = processes.run(["-c", block + code], env=os.environ, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_names_are_registered():
    names = timm.list_models("encmixer*")
    assert {"encmixer_768_32", "encmixer_1536_20", "encmixer_1024_20_ks9_p14", "encmixer_256_8_ks5_p4"} <= set(names)
    pretrained = timm.list_models("encmixer*", pretrained=True)
    assert {"encmixer_768_32.in1k", "encmixer_1536_20.in1k", "encmixer_1024_20_ks9_p14.in1k", NAME} <= set(pretrained)
    assert timm.list_modules().count("encmixer") == 1


@pytest.mark.parametrize(
    "order",
    [
        "import timm, timm_encmixer",
        "import timm_encmixer, timm",
        "import timm_encmixer.models.encryption, timm",
        "from timm_encmixer import encrypt_model; import timm",
        "import timm_encmixer.timm_plugin.encmixer, timm",
        "import timm_encmixer.timm_plugin.building, timm",
    ],
)
def test_importing_registers_in_any_order(order):
    assert NAME in run_python(f"{order}\nprint(timm.list_models('encmixer*', pretrained=True))")


def test_importing_alone_loads_no_torch():
    code = "import sys, timm_encmixer\nprint('torch' in sys.modules, 'timm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("outcome", ["loaded", "failed"])
def test_no_garbage_is_collected_while_timm_is_imported(outcome):
    seen = []

    class TimmsOwn(Loader):
        def exec_module(self, module):
            seen.append(gc.isenabled())
            if outcome == "failed":
                raise ImportError

    with contextlib.suppress(ImportError):
        registration._ThenRegister(TimmsOwn()).exec_module(ModuleType("timm"))
    assert (seen, gc.isenabled()) == ([False], True)


def test_a_command_ends_without_a_last_collection(monkeypatch):
    called = []
    monkeypatch.setattr(atexit, "register", called.append)
    monkeypatch.setattr("timm_encmixer.cli.main", lambda: called.append("command"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    main()
    assert called == [gc.freeze, "command"]


@pytest.mark.parametrize("name", ["768_32", "1536_20", "1024_20_ks9_p14"])
def test_plain_weights_come_from_timms_own_repositories(name):
    ours, stock = timm.get_pretrained_cfg(f"encmixer_{name}.in1k"), timm.get_pretrained_cfg(f"convmixer_{name}.in1k")
    for field in (
        "hf_hub_id",
        "input_size",
        "mean",
        "std",
        "crop_pct",
        "interpolation",
        "num_classes",
        "first_conv",
        "classifier",
    ):
        assert getattr(ours, field) == getattr(stock, field), field


@pytest.mark.parametrize("name", ["encmixer_768_32", "encmixer_1536_20", "encmixer_1024_20_ks9_p14", "encmixer_256_8_ks5_p4"])
def test_the_bare_architecture_is_timms(name):
    with torch.device("meta"):
        bare, stock = timm.create_model(name), timm.create_model("convmixer" + name.removeprefix("encmixer"))
    assert {k: v.shape for k, v in bare.state_dict().items()} == {k: v.shape for k, v in stock.state_dict().items()}
    assert [type(m) for m in bare.modules()] == [type(m) for m in stock.modules()]
    assert timm.data.resolve_model_data_config(bare)["mean"] == (0.5, 0.5, 0.5)
    assert te.scheme_of(bare) is None


@pytest.mark.parametrize("cipher", [None, *ANY_SIDE])
def test_pretrained_with_a_key_is_the_encrypted_model(plain_model, key, cipher):
    model = build(pretrained=True, key=key, cipher=cipher)
    want = te.encrypt_model(plain_model, key, cipher=cipher or "shuffle+negpos")
    assert type(model) is ConvMixer
    assert model.encmixer == want.encmixer
    assert model.pretrained_cfg["architecture"] == "convmixer_256_8_ks5_p4"
    for name, tensor in want.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_the_key_can_be_a_path_or_come_from_the_environment(key, key_file, monkeypatch):
    assert build(pretrained=True, key=key_file).encmixer.fingerprint == key.fingerprint
    assert build(pretrained=True, key=str(key_file)).encmixer.fingerprint == key.fingerprint
    monkeypatch.setenv("TIMM_ENCMIXER_KEY", str(key_file))
    assert build(pretrained=True).encmixer.fingerprint == key.fingerprint
    assert te.scheme_of(build()) is None  # bare, whatever the environment says


def test_public_weights_are_warned_about(key):
    with pytest.warns(PublicWeightsWarning, match="computes the key at once"):
        timm.create_model(NAME, pretrained=True, key=key)


def test_pretrained_without_a_key_is_an_error():
    with pytest.raises(MissingKeyError, match=r"encmixer_256_8_ks5_p4: expected a key .* convmixer_"):
        timm.create_model(NAME, pretrained=True)
    with pytest.raises(MissingKeyError):
        timm.create_model("encmixer_custom", base=BUNDLED_MODEL, pretrained=True)


def test_classes_features_overlay_and_channels(key, pixels, plain_model):
    assert build(pretrained=True, key=key, num_classes=3).head.out_features == 3
    features = build(pretrained=True, key=key, features_only=True)
    plain = timm.create_model(BUNDLED_MODEL, pretrained=True, features_only=True).eval()
    images = te.BlockCipher(key, features.encmixer).encrypt(pixels[:4])
    with torch.no_grad():
        got = features(normalised(images, {"mean": (0.5,) * 3, "std": (0.5,) * 3}))
        want = plain(normalised(pixels[:4], plain_model.pretrained_cfg))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(got, want, strict=True))
    assert features.encmixer.stem == "stem.0"
    overlaid = build(pretrained=True, key=key, pretrained_cfg_overlay={"crop_pct": 0.9})
    assert overlaid.encmixer.plain.crop_pct == 0.9
    with pytest.raises(StemError, match="in_chans: expected 3"):
        build(pretrained=True, key=key, in_chans=1)


def test_a_key_without_weights_encrypts_the_random_model(key):
    torch.manual_seed(0)
    plain = timm.create_model("convmixer_256_8_ks5_p4")
    torch.manual_seed(0)
    model = build("encmixer_256_8_ks5_p4", key=key)
    assert torch.equal(model.stem[0].weight, te.encrypt_model(plain, key).stem[0].weight)


def test_the_overlay_encrypts_a_file_of_ones_own(plain_model, key, tmp_path):
    save_file(plain_model.state_dict(), tmp_path / "own.safetensors")
    model = build(
        "encmixer_256_8_ks5_p4", pretrained=True, key=key, pretrained_cfg_overlay={"file": str(tmp_path / "own.safetensors")}
    )
    assert torch.equal(model.stem[0].weight, te.encrypt_model(plain_model, key).stem[0].weight)


def test_an_encrypted_source_is_loaded_and_not_encrypted_twice(encrypted_folder, key, other_key):
    weights = str(encrypted_folder / "model.safetensors")
    for arguments in ({}, {"key": key}):
        model = build("encmixer_256_8_ks5_p4", pretrained=True, pretrained_cfg_overlay={"file": weights}, **arguments)
        assert model.encmixer.fingerprint == key.fingerprint
        assert torch.equal(model.stem[0].weight, build(f"local-dir:{encrypted_folder}", pretrained=True).stem[0].weight)
    with pytest.raises(KeyMismatchError):
        build("encmixer_256_8_ks5_p4", pretrained=True, pretrained_cfg_overlay={"file": weights}, key=other_key)
    with pytest.raises(SchemeError, match="leave cipher= out"):
        build("encmixer_256_8_ks5_p4", pretrained=True, pretrained_cfg_overlay={"file": weights}, cipher="shuffle")


def test_checkpoint_path(plain_model, encrypted_folder, key, other_key, tmp_path):
    encrypted = str(encrypted_folder / "model.safetensors")
    for arguments in ({}, {"key": key}, {"key": key, "pretrained": True}):
        model = build("encmixer_256_8_ks5_p4", checkpoint_path=encrypted, **arguments)
        assert model.encmixer.fingerprint == key.fingerprint
        assert torch.equal(model.stem[0].weight, te.encrypt_model(plain_model, key).stem[0].weight)
    with pytest.raises(KeyMismatchError):
        build("encmixer_256_8_ks5_p4", checkpoint_path=encrypted, key=other_key)
    with pytest.raises(SourceError, match="to encrypt on load"):
        build("encmixer_256_8_ks5_p4", checkpoint_path=str(BUNDLED_WEIGHTS), key=key)
    with pytest.warns(UserWarning, match="no record of an encryption"):
        timm.create_model("encmixer_256_8_ks5_p4", checkpoint_path=str(BUNDLED_WEIGHTS))
    model = build("encmixer_custom", base="convmixer_256_8_ks5_p4", checkpoint_path=encrypted)
    assert model.encmixer.fingerprint == key.fingerprint


def test_encrypted_weights_under_a_plain_name_of_this_package_bring_their_record(encrypted_folder, key):
    """So they are not encrypted twice, and their input is normalised as ciphertext."""
    weights = str(encrypted_folder / "model.safetensors")
    options = [{"checkpoint_path": weights}, {"pretrained": True, "pretrained_cfg_overlay": {"file": weights}}]
    for name in ("convmixer_256_8_ks5_p4", "encmixer_256_8_ks5_p4"):
        for arguments in options:
            model = build(name, **arguments)
            assert te.scheme_of(model).fingerprint == key.fingerprint
            assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
            with pytest.raises(AlreadyEncryptedError):
                te.encrypt_model(model, key)
            te.decrypt_model(model, key)


def test_the_generic_entry(plain_model, encrypted_folder, key, tmp_path):
    by_name = build("encmixer_custom", base=BUNDLED_MODEL, pretrained=True, key=key)
    assert torch.equal(by_name.stem[0].weight, te.encrypt_model(plain_model, key).stem[0].weight)
    te.save_model(plain_model, tmp_path / "plain")
    by_folder = build("encmixer_custom", base=f"local-dir:{tmp_path / 'plain'}", pretrained=True, key=key)
    assert torch.equal(by_folder.stem[0].weight, by_name.stem[0].weight)
    by_shape = build("encmixer_custom", dim=32, depth=2, kernel_size=3, patch_size=8, act_layer="relu", key=key)
    assert by_shape.encmixer.patch_size == 8
    te.save_model(by_shape, tmp_path / "shape")
    again = build(f"local-dir:{tmp_path / 'shape'}", pretrained=True)
    assert torch.equal(again.stem[0].weight, by_shape.stem[0].weight)
    assert isinstance(again.stem[1], torch.nn.ReLU)
    with pytest.raises(SourceError, match="expected a plain model"):
        build("encmixer_custom", base=NAME, pretrained=True, key=key)


@pytest.mark.parametrize("spelling", ["object", "path"])
def test_the_key_reaches_no_artefact(key, key_file, tmp_path, spelling):
    model = build(pretrained=True, key=key if spelling == "object" else str(key_file), cipher="negpos")
    assert not {"key", "cipher", "base"} & set(model._model_args)
    out = tmp_path / "artefacts"
    timm.models.save_for_hf(model, out / "timm", safe_serialization="both")
    te.save_model(model, out / "ours")
    torch.save(model, out / "whole.pt")
    torch.save({"model": model.state_dict(), "args": model._model_args, "cfg": model.pretrained_cfg}, out / "training.pth.tar")
    assert_no_secret(key, out, repr(model), str(vars(model)))
    assert str(key_file).encode() not in (out / "timm" / "config.json").read_bytes()


def test_a_direct_call_of_the_entrypoint_leaves_a_picklable_model(key, tmp_path):
    model = timm.models.model_entrypoint("encmixer_256_8_ks5_p4")(key=key)
    torch.save(model, tmp_path / "model.pt")
    assert type(torch.load(tmp_path / "model.pt", weights_only=False)) is ConvMixer


def test_the_record_survives_timms_own_saving(key, tmp_path):
    """timm's save_for_hf knows nothing of ours: the record rides in pretrained_cfg's notes."""
    timm.models.save_for_hf(build(pretrained=True, key=key), tmp_path / "m", safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    assert te.scheme_of(loaded).fingerprint == key.fingerprint
    with pytest.raises(ValueError, match="expected a plain model"):
        te.encrypt_model(loaded, key)
    te.decrypt_model(loaded, key)


def test_our_folder_has_the_record_in_both_places(encrypted_folder, key):
    config = json.loads((encrypted_folder / "config.json").read_text())
    assert config["encmixer"]["fingerprint"] == key.fingerprint
    assert config["pretrained_cfg"]["first_conv"] is None
    assert sorted(path.name for path in encrypted_folder.iterdir()) == ["config.json", "model.safetensors"]


def test_adapting_encrypted_weights_to_other_channels_fails_in_stock_timm(encrypted_folder):
    with pytest.raises(RuntimeError, match=r"size mismatch for stem\.0\.weight"):
        timm.create_model(f"local-dir:{encrypted_folder}", pretrained=True, in_chans=1)


def test_stock_timm_serves_an_encrypted_model_without_the_package(key, photos, tmp_path):
    """The server: stock timm, its own transform, ciphertext PNGs, no key, no plugin."""
    torch.manual_seed(0)
    plain = timm.create_model("convmixer_768_32", num_classes=7)
    side, client_photos = 224, [photo.resize((250, 240)) for photo in photos[:2]]
    batch = torch.stack([torch.from_numpy(np.array(photo.resize((side, side)))).permute(2, 0, 1) for photo in client_photos])
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        plain.train()(normalised(batch, plain.pretrained_cfg))
    plain.eval()
    te.save_model(te.encrypt_model(plain, key), tmp_path / "model")
    sender = te.create_transform(str(tmp_path / "model"), key=key, output="image")
    for index, photo in enumerate(client_photos):
        sender(photo).save(tmp_path / f"{index}.png")
    code = f"""
import timm, torch
from PIL import Image
model = timm.create_model("local-dir:{tmp_path}/model", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
images = torch.stack([transform(Image.open(f"{tmp_path}/{{i}}.png")) for i in range(2)])
with torch.inference_mode():
    torch.save(model(images), "{tmp_path}/logits.pt")
try:
    import timm_encmixer
except ImportError:
    print("no plugin")
"""
    assert "no plugin" in run_python(code, without_plugin=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(plain))
    with torch.inference_mode():
        want = plain(torch.stack([transform(photo) for photo in client_photos]))
    got = torch.load(tmp_path / "logits.pt")
    assert float(want.std(dim=0).mean()) > 1e-3
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_a_shape_of_ones_own_loads_without_the_package_from_timms_class(encrypted_folder, tmp_path):
    """timm has no name for a 256/8, so its server names the class; docs/adr/0002."""
    code = f"""
import timm
from timm.models.convmixer import ConvMixer
model = ConvMixer(256, 8, kernel_size=5, patch_size=4, num_classes=10)
timm.models.load_checkpoint(model, "{encrypted_folder}/model.safetensors")
print("loaded")
"""
    assert "loaded" in run_python(code, without_plugin=True)


def test_loaders_and_transform_of_timm_take_ciphertext(encrypted_folder, key, photos, plain_model):
    model = timm.create_model(f"local-dir:{encrypted_folder}", pretrained=True).eval()
    ciphertext = te.create_transform(model, key=key, output="image")(photos[0])
    server = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    client = te.create_transform(model, key=key)
    assert torch.equal(server(ciphertext), client(photos[0]))
    assert isinstance(ciphertext, Image.Image)
    assert Path(encrypted_folder).is_dir()
