"""Plain weights under an encrypted record are recognised without a key; trained ones pass. What is saved can be served."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import timm
import torch
from conftest import normalised
from safetensors.torch import load_file, save_file
from timm.utils import ModelEmaV3
from torch import nn

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images
from timm_encmixer.checkpoints import Checkpoint, load_model
from timm_encmixer.errors import (
    CheckpointError,
    EncMixerError,
    NotEncryptedError,
    SchemeError,
    SchemeMismatchError,
    SourceError,
)
from timm_encmixer.images import normalise
from timm_encmixer.models.record import check_stem
from timm_encmixer.models.stem_sketch import StemSketch, sketch_in
from timm_encmixer.scheme import facts_of

SCRAMBLING = "shuffle+negpos+scramble"
VIT, SMALL = "vit_tiny_patch16_224", {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 2}
PLAIN = "got plain ones, or ones under another key"


def vit(**options):
    torch.manual_seed(0)
    return timm.create_model(VIT, **{**SMALL, "num_classes": 10, **options})


def sketched(model):
    return sketch_in(model.pretrained_cfg)


@pytest.mark.parametrize("cipher", [cipher for cipher in te.CIPHERS if facts_of(cipher).fits(4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_plain_state_is_recognised_under_every_cipher(cipher, dtype, key, other_key, tmp_path):
    plain = vit().to(dtype)
    encrypted = te.encrypt_model(plain, key, cipher=cipher)
    te.save_model(encrypted, tmp_path / "encrypted")
    states = {"plain": plain.state_dict(), "another key": te.rotate_model(encrypted, key, other_key).state_dict()}
    for state in states.values():
        changed = copy.deepcopy(encrypted)
        changed.load_state_dict(state)
        for verb in (
            lambda model: te.save_model(model, tmp_path / "m"),
            lambda model: te.push_to_hub(model, "me/m"),
            lambda model: te.decrypt_model(model, key),
            lambda model: te.rotate_model(model, key, other_key),
            lambda model: te.create_transform(model, key=key),
        ):
            with pytest.raises(NotEncryptedError, match=PLAIN):
                verb(changed)
        assert te.scheme_of(changed) == te.scheme_of(encrypted)  # a reader of the record, which does not look at weights
        with pytest.raises(NotEncryptedError, match=PLAIN):
            te.save_model(encrypted, tmp_path / "m", state_dict=state)
    assert not (tmp_path / "m").exists()


def test_files_of_plain_weights_under_an_encrypted_record(key, other_key, tmp_path):
    plain = vit()
    te.save_model(te.encrypt_model(plain, key), tmp_path / "e")
    record = Checkpoint.open(tmp_path / "e").weights.metadata
    for metadata in ({}, dict(record)):  # without any, config.json alone says that they are encrypted
        save_file(plain.state_dict(), tmp_path / "e" / "model.safetensors", metadata=metadata)
        for verb in (
            lambda: load_model(tmp_path / "e"),
            lambda: te.decrypt_checkpoint(tmp_path / "e", tmp_path / "x", key),
            lambda: te.rotate_checkpoint(tmp_path / "e", tmp_path / "x", key, other_key),
            lambda: timm.create_model("encmixer_custom", base=f"local-dir:{tmp_path / 'e'}", pretrained=True),
        ):
            with pytest.raises(NotEncryptedError, match=PLAIN):
                verb()
    with pytest.raises(NotEncryptedError, match=PLAIN):
        te.push_to_hub(tmp_path / "e", "me/m")
    single = tmp_path / "e" / "model.safetensors"
    with pytest.raises(NotEncryptedError, match=PLAIN):
        te.decrypt_checkpoint(single, tmp_path / "x.safetensors", key)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.filterwarnings("ignore:.*has no record of an encryption:UserWarning")
def test_a_checkpoint_path_without_a_record_over_an_encrypted_model_is_refused(plain_model, encrypted_folder, tmp_path):
    save_file(plain_model.state_dict(), tmp_path / "plain.safetensors")
    base, path = f"local-dir:{encrypted_folder}", str(tmp_path / "plain.safetensors")
    with pytest.raises(SourceError, match="checkpoint_path: expected a file with the record of an encryption"):
        timm.create_model("encmixer_custom", base=base, checkpoint_path=path)
    stock = timm.create_model(base, checkpoint_path=path)  # timm alone: noticed by the next call of ours
    with pytest.raises(NotEncryptedError, match=PLAIN):
        te.save_model(stock, tmp_path / "m")


def test_an_ema_that_was_set_to_the_other_model(plain_model, key, tmp_path):
    ema = ModelEmaV3(te.encrypt_model(plain_model, key))
    ema.set(plain_model)
    with pytest.raises(NotEncryptedError, match=PLAIN):
        te.save_model(ema, tmp_path / "m")


def trained(model, key, *, images, epochs, learning_rate, optimizer="sgd"):
    """Train everything, the stem too, on ciphertext."""
    photos, labels, _ = bundled_images()
    client = te.create_transform(model, key=key, output="uint8")
    inputs, targets = normalise(torch.stack([client(photo) for photo in photos[:images]])), torch.tensor(labels[:images])
    kinds = {"sgd": lambda p: torch.optim.SGD(p, learning_rate, momentum=0.9, weight_decay=5e-4), "adamw": torch.optim.AdamW}
    optimiser = kinds[optimizer](model.parameters())
    model.train()
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs), generator=order).split(32):
            loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def assert_passes(model, key, folder, *, near):
    assert check_stem(model, te.scheme_of(model)) == near
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        te.save_model(model, folder)
        again = load_model(folder)  # the saved sketch is that of the trained weights
    assert check_stem(again, te.scheme_of(again))
    te.decrypt_model(again, key)


@pytest.mark.nightly(but=("sgd",))
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fine_tuned_model_passes(optimizer, plain_model, key, tmp_path):
    model = copy.deepcopy(te.encrypt_model(plain_model, key))
    model.reset_classifier(10)
    before = model.stem[0].weight.detach().clone()
    trained(model, key, images=64, epochs=3, learning_rate=0.05, optimizer=optimizer)
    assert not torch.equal(model.stem[0].weight, before)
    assert_passes(model, key, tmp_path / "m", near=True)


def test_a_model_trained_from_scratch_passes_however_far_it_went(key, tmp_path):
    model = te.encrypt_model(vit(img_size=32, patch_size=4), key, cipher=SCRAMBLING)
    trained(model, key, images=256, epochs=6, learning_rate=0.05)
    assert_passes(model, key, tmp_path / "m", near=False)


def test_a_plain_model_that_was_fine_tuned_is_still_recognised(plain_model, key, tmp_path):
    plain, encrypted = copy.deepcopy(plain_model), copy.deepcopy(te.encrypt_model(plain_model, key))
    images, labels, _ = bundled_images()
    pixels = torch.stack([te.create_transform(encrypted, key=key).preprocess(image) for image in images[:64]])
    loss = nn.functional.cross_entropy(plain(normalised(pixels, plain.pretrained_cfg)), torch.tensor(labels[:64]))
    loss.backward()
    with torch.no_grad():
        plain.stem[0].weight -= (
            0.05 * plain.stem[0].weight.norm() * plain.stem[0].weight.grad / plain.stem[0].weight.grad.norm()
        )
    encrypted.load_state_dict(plain.state_dict())
    with pytest.raises(NotEncryptedError, match=PLAIN):
        te.save_model(encrypted, tmp_path / "m")


@pytest.mark.parametrize("cipher", ["shuffle+negpos", SCRAMBLING])
@pytest.mark.parametrize("there", [{"patch_size": (4, 4)}, {"img_size": (96, 96)}])
def test_weights_that_timm_resampled_there_and_back_are_noticed(cipher, there, key, other_key, tmp_path):
    encrypted = copy.deepcopy(te.encrypt_model(vit(), key, cipher=cipher))
    back = {"patch_size": (8, 8)} if "patch_size" in there else {"img_size": (64, 64)}
    encrypted.set_input_size(**there)
    encrypted.set_input_size(**back)
    if "img_size" in there and cipher != SCRAMBLING:
        te.save_model(encrypted, tmp_path / "m")  # a position embedding that no key has changed
        return
    for verb in (
        lambda: te.save_model(encrypted, tmp_path / "m"),
        lambda: te.decrypt_model(encrypted, key),
        lambda: te.rotate_model(encrypted, key, other_key),
        lambda: te.create_transform(encrypted, key=key),
    ):
        with pytest.raises(SchemeMismatchError, match="timm resampled them"):
            verb()
    assert not (tmp_path / "m").exists()


def test_resampled_weights_from_a_file_are_warned_about(key, tmp_path):
    te.save_model(te.encrypt_model(vit(), key), tmp_path / "e")
    model = timm.create_model(f"local-dir:{tmp_path / 'e'}", pretrained=True)
    model.set_input_size(patch_size=(4, 4))
    model.set_input_size(patch_size=(8, 8))
    timm.models.save_for_hf(model, tmp_path / "timm", safe_serialization=True)
    with pytest.warns(UserWarning, match="far from the one that was encrypted; was it trained on ciphertext, or resampled"):
        load_model(tmp_path / "timm")


def test_records_without_a_sketch_and_with_a_foreign_one_are_not_checked(key, other_key, tmp_path):
    plain = vit()
    encrypted = te.encrypt_model(plain, key)
    sketch = sketched(encrypted)
    assert StemSketch.from_json(sketch.to_json()) == sketch
    for text in (
        "",
        "{}",
        "[]",
        "5",
        '{"cipher":"shuffle","kernel":[[1],[2]]}',
        '{"cipher":1,"kernel":[' + "[1e999]," * 2 + "]}",
    ):
        assert StemSketch.from_json(text) is None
    assert te.scheme_of(te.decrypt_model(encrypted, key)) is None
    assert sketched(te.decrypt_model(encrypted, key)) is None
    rotated = te.rotate_model(encrypted, key, other_key)
    assert sketched(rotated) != sketch
    rotated.pretrained_cfg["notes"] = encrypted.pretrained_cfg["notes"]  # of another key: says nothing of this record
    assert check_stem(rotated, te.scheme_of(rotated).replace(fingerprint=other_key.fingerprint))
    encrypted.pretrained_cfg["notes"] = encrypted.pretrained_cfg["notes"][:1]  # as an earlier release wrote it
    encrypted.load_state_dict(plain.state_dict())
    te.save_model(encrypted, tmp_path / "m")


# -- the record follows the model --------------------------------------------------------------------------------------------


def served(folder, key, photo):
    """What a client and a server with stock timm do, with nothing but the folder."""
    ciphertext = te.create_transform(str(folder), key=key, output="image")(photo)
    server = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(server))
    config = json.loads((folder / "config.json").read_text())
    assert config["encmixer"]["plain"]["input_size"] == list(config["pretrained_cfg"]["input_size"])
    inputs = transform(ciphertext)
    assert torch.equal(inputs, te.create_transform(server, key=key)(photo))
    with torch.no_grad():
        return server(inputs[None])


@torch.no_grad()
@pytest.mark.parametrize("form", ["method", "argument"])
def test_another_image_size_is_in_the_record(form, key, photos, tmp_path):
    plain = vit().eval()
    encrypted = copy.deepcopy(te.encrypt_model(plain, key)).eval()
    if form == "method":
        encrypted.set_input_size(img_size=(96, 96))
    else:
        te.save_model(encrypted, tmp_path / "first")
        encrypted = timm.create_model(f"local-dir:{tmp_path / 'first'}", pretrained=True, img_size=96).eval()
    assert te.scheme_of(encrypted).plain.input_size == (3, 96, 96)
    te.save_model(encrypted, tmp_path / "m")
    assert te.scheme_of(load_model(tmp_path / "m")) == te.scheme_of(encrypted)
    plain.set_input_size(img_size=(96, 96))
    pixels = te.create_transform(encrypted, key=key).preprocess(photos[0])[None]
    want = plain(normalised(pixels, plain.pretrained_cfg))
    assert torch.allclose(served(tmp_path / "m", key, photos[0]), want, atol=1e-4)
    te.decrypt_model(encrypted, key)


@torch.no_grad()
def test_another_number_of_classes_is_served(key, photos, tmp_path):
    encrypted = copy.deepcopy(te.encrypt_model(vit(), key)).eval()
    encrypted.reset_classifier(7)
    te.save_model(encrypted, tmp_path / "m")
    assert served(tmp_path / "m", key, photos[0]).shape == (1, 7)
    fewer = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True, num_classes=3)
    te.save_model(fewer, tmp_path / "fewer")
    assert served(tmp_path / "fewer", key, photos[0]).shape == (1, 3)


def test_other_channels_and_patches_are_refused(key, tmp_path):
    te.save_model(te.encrypt_model(vit(), key), tmp_path / "e")
    name = f"local-dir:{tmp_path / 'e'}"
    for options in ({"in_chans": 1}, {"patch_size": 16, "pretrained": True}):
        model = timm.create_model(name, **options)
        for verb in (
            te.scheme_of,
            lambda model: te.save_model(model, tmp_path / "m"),
            lambda model: te.push_to_hub(model, "me/m"),
        ):
            with pytest.raises(SchemeMismatchError):
                verb(model)
    assert not (tmp_path / "m").exists()


@torch.no_grad()
@pytest.mark.parametrize("field", ["mean", "std", "crop_pct", "input_size"])
def test_an_overlay_over_an_encrypted_model(field, encrypted_folder, key, photos, tmp_path):
    """timm's servers then normalise, crop or resize ciphertext. Where the model passes through this package it is refused."""
    value = {"mean": (0.4,) * 3, "std": (0.2,) * 3, "crop_pct": 0.9, "input_size": (3, 64, 64)}[field]
    name, overlay = f"local-dir:{encrypted_folder}", {field: value}
    with pytest.raises(SchemeError, match=f"pretrained_cfg_overlay: {field}"):
        timm.create_model("encmixer_custom", base=name, pretrained=True, pretrained_cfg_overlay=overlay)
    file = {"file": str(encrypted_folder / "model.safetensors"), **overlay}
    with pytest.raises(SchemeError, match=f"pretrained_cfg_overlay: {field}"):
        timm.create_model("encmixer_256_8_ks5_p4", pretrained=True, pretrained_cfg_overlay=file)
    stock = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    if field == "input_size":  # a ConvMixer takes any: what is saved is what the record says
        te.save_model(stock, tmp_path / "m")
        assert served(tmp_path / "m", key, photos[0]).shape == (1, 10)
        return
    for verb in (te.scheme_of, lambda model: te.create_transform(model, key=key), lambda m: te.save_model(m, tmp_path / "m")):
        with pytest.raises(SchemeMismatchError, match=f"pretrained_cfg {field}: expected"):
            verb(stock)


def test_a_model_that_timm_would_not_load_is_not_saved(key, tmp_path):
    plain = vit()
    changed = {"head": nn.Sequential(nn.Linear(48, 48), nn.Linear(48, 10)), "norm": nn.Identity()}
    for name, module in changed.items():
        for model in (copy.deepcopy(plain), copy.deepcopy(te.encrypt_model(plain, key))):
            setattr(model, name, module)
            with pytest.raises(CheckpointError, match=r"timm loads what timm\.create_model builds"):
                te.save_model(model, tmp_path / "m")
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1,) * 4)
    encrypted = te.encrypt_model(swin, key)
    te.save_model(encrypted, tmp_path / "swin")
    encrypted.patch_embed.set_input_size(img_size=(112, 112))  # only a part of the model was told
    with pytest.raises(EncMixerError):
        te.save_model(encrypted, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_sketch_is_part_of_what_is_saved(encrypted_folder, key, tmp_path):
    checkpoint = Checkpoint.open(encrypted_folder)
    assert checkpoint.sketch == StemSketch.from_json(checkpoint.weights.metadata["encmixer-sketch"])
    assert checkpoint.sketch == sketch_in(checkpoint.config["pretrained_cfg"])
    assert checkpoint.sketch == StemSketch.of(
        checkpoint.scheme, load_file(encrypted_folder / "model.safetensors")["stem.0.weight"]
    )
    te.decrypt_checkpoint(encrypted_folder, tmp_path / "d", key)
    assert Checkpoint.open(tmp_path / "d").sketch is None
    assert "encmixer" not in (tmp_path / "d" / "config.json").read_text()
