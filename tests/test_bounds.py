"""Memory, disk and time in proportion to the bytes that came in: claims of configs and archives are checked first."""

from __future__ import annotations

import inspect
import json
import resource

import pytest
import timm
import torch
from safetensors.torch import save_file

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER
from timm_encmixer.checkpoints import load_model
from timm_encmixer.checkpoints.inspection import describe
from timm_encmixer.checkpoints.sources import find_source
from timm_encmixer.errors import CheckpointError, EncMixerError
from timm_encmixer.models import model_args
from timm_encmixer.models.bare import bare_model

GREY = {"mean": [0.5] * 3, "std": [0.5] * 3}
SMALL = {"embed_dim": 8, "depths": [1], "num_heads": [1]}
SWIN, BEIT = "swin_tiny_patch4_window7_224", "beit_base_patch16_224"
SMALL_FILES_LARGE_MODELS = {  # weights below 200 kB; masks and indices above 780 MB
    "wide windows": (SWIN, {**SMALL, "window_size": 110, "img_size": 440}, {}),
    "an image size among the preprocessing": (
        SWIN,
        {**SMALL, "depths": [2]},
        {"fixed_input_size": True, "input_size": [3, 8008, 8008]},
    ),
    "a large image": (BEIT, {"embed_dim": 8, "depth": 1, "num_heads": 1, "img_size": 1600}, {}),
}


def folder_of(tmp_path, architecture, arguments, cfg):
    config = {"architecture": architecture, "num_classes": 10, "model_args": arguments, "pretrained_cfg": {**GREY, **cfg}}
    bare = bare_model(architecture, config, where="test")
    save_file({name: torch.zeros(tensor.shape) for name, tensor in bare.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("case", SMALL_FILES_LARGE_MODELS)
def test_models_much_larger_than_their_weights_are_refused_before_they_are_built(case, tmp_path):
    folder = folder_of(tmp_path, *SMALL_FILES_LARGE_MODELS[case])
    assert (folder / "model.safetensors").stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (load_model, lambda folder: timm.create_model("encmixer_custom", base=f"local-dir:{folder}")):
        with pytest.raises(CheckpointError, match=r"model_args: expected a model with at most \d+ bytes beside its weights"):
            load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_masks_and_indices_of_ordinary_size_are_let_through(tmp_path):
    folder = folder_of(tmp_path, SWIN, {**SMALL, "window_size": 8, "img_size": 256}, {})
    assert load_model(folder).patch_embed.img_size == (256, 256)


def readers(folder, key, tmp_path):
    """Every way to what a config.json says."""
    return {
        "load_model": lambda: load_model(folder),
        "find_scheme": lambda: te.find_scheme(folder),
        "encrypt": lambda: te.encrypt_checkpoint(folder, tmp_path / "x", key),
        "decrypt": lambda: te.decrypt_checkpoint(folder, tmp_path / "x", key),
        "rotate": lambda: te.rotate_checkpoint(folder, tmp_path / "x", key, te.SecretKey.generate()),
        "transform": lambda: te.create_transform(folder, key),
        "info": lambda: describe(find_source(folder)),
        "base": lambda: timm.create_model("encmixer_custom", base=f"local-dir:{folder}", pretrained=True, key=key),
    }


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({"checkpoint_path": "/tmp/evil.bin"}, "got checkpoint_path"),
        ({"cache_dir": "/tmp"}, "got cache_dir"),
        ({"pretrained_cfg": {"url": "http://evil"}}, "got pretrained_cfg"),
        ({"pretrained_filter_fn": "x"}, "got pretrained_filter_fn"),
        ({"depth": 10**8}, "numbers up to 65536, got 100000000"),
        ({"depths": [[10**8]]}, "numbers up to 65536"),
        ({"depth": 1e400}, "numbers up to 65536, got inf"),
        ({"dilation": [1] * 20_000}, "at most 10000 values"),
    ],
)
def test_all_readers_of_a_config_refuse_the_same_arguments(arguments, got, encrypted_folder, key, tmp_path):
    path = encrypted_folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "model_args": {**config.get("model_args", {}), **arguments}}))
    for name, read in readers(encrypted_folder, key, tmp_path).items():
        with pytest.raises(EncMixerError, match=got):
            pytest.fail(f"{name} took it: {read()}")
    assert not (tmp_path / "x").exists()


def test_the_list_of_reserved_arguments_has_all_that_timm_takes_itself():
    for call in (timm.create_model, timm.models.build_model_with_cfg):
        assert set(inspect.signature(call).parameters) - {"kwargs"} <= model_args._RESERVED


def test_the_bundled_config_passes():
    assert load_model(BUNDLED_FOLDER) is not None
