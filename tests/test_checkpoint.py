from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
from pathlib import Path
from signal import SIGKILL, SIGXFSZ

import processes
import pytest
import timm
import torch
from conftest import ANY_SIDE, assert_no_secret
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.convmixer import ConvMixer

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.checkpoints.sources import find_source
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.errors import (
    AlreadyEncryptedError,
    CheckpointError,
    FileAccessError,
    KeyMismatchError,
    NotEncryptedError,
    SchemeError,
    SourceError,
    StemError,
    TargetExistsError,
)
from timm_encmixer.models import image_trace

COMPAT = Path(__file__).parent / "compat"
DEATHS = Path(__file__).parent / "checkpoint_deaths.py"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
ARCH = "convmixer_256_8_ks5_p4.cifar10"
GIVEN = {"mean": MEAN, "std": STD, "stem_stride": 4}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def layout(path: Path) -> list[tuple[str, str]]:
    """Names in the order of the file, with the tensors' bytes."""
    file = TensorFile.open(path)
    data = path.read_bytes()[file.data_start :]
    ordered = sorted(file.entries.items(), key=lambda entry: entry[1]["data_offsets"])
    return [(name, data[slice(*entry["data_offsets"])].hex()) for name, entry in ordered]


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_a_folder_is_encrypted_like_the_model(plain_model, key, tmp_path, cipher):
    scheme = te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key, cipher=cipher)
    model = te.encrypt_model(plain_model, key, cipher=cipher)
    assert scheme == model.encmixer
    tensors = load_file(tmp_path / "e" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensors[name], tensor), name
    loaded = timm.create_model(f"local-dir:{tmp_path / 'e'}", pretrained=True)
    assert te.scheme_of(loaded) == scheme
    for field in ("mean", "std", "crop_pct", "crop_mode", "input_size", "first_conv", "notes"):
        assert list_or(loaded.pretrained_cfg[field]) == list_or(model.pretrained_cfg[field]), field


def list_or(value):
    return list(value) if isinstance(value, tuple) else value


def test_other_tensors_keep_their_bytes_and_order(key, tmp_path):
    te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "e.safetensors", key, arch=ARCH)
    before, after = layout(BUNDLED_WEIGHTS), layout(tmp_path / "e.safetensors")
    assert [name for name, _ in before] == [name for name, _ in after]
    changed = [name for (name, one), (_, two) in zip(before, after, strict=True) if one != two]
    assert sorted(changed) == ["stem.0.bias", "stem.0.weight"]


@pytest.mark.parametrize(
    "how",
    [
        {"arch": "convmixer_256_8_ks5_p4.cifar10"},
        {"mean": MEAN, "std": STD, "stem_stride": 4},
        {"mean": MEAN, "std": STD, "stem_stride": 4, "first_conv": "stem.0"},
    ],
)
@pytest.mark.filterwarnings("ignore:.*nobody has checked")
def test_single_files(plain_model, key, other_key, tmp_path, how):
    source = tmp_path / "plain.safetensors"
    save_file(plain_model.state_dict(), source, metadata={"format": "pt", "mine": "kept"})
    scheme = te.encrypt_checkpoint(source, tmp_path / "e.safetensors", key, **how)
    assert scheme.plain.mean == MEAN
    written = metadata(tmp_path / "e.safetensors")
    assert written.pop("encmixer-sketch")
    assert written == {"format": "pt", "mine": "kept", "encmixer": scheme.to_json()}
    rotated = te.rotate_checkpoint(tmp_path / "e.safetensors", tmp_path / "r.safetensors", key, other_key)
    assert rotated.fingerprint == other_key.fingerprint
    te.decrypt_checkpoint(tmp_path / "r.safetensors", tmp_path / "d.safetensors", other_key)
    assert metadata(tmp_path / "d.safetensors") == {"format": "pt", "mine": "kept"}
    for name, tensor in load_file(tmp_path / "d.safetensors").items():
        assert torch.allclose(tensor, plain_model.state_dict()[name], rtol=1e-6, atol=1e-6)
    assert_no_secret(key, tmp_path)


def test_decrypting_a_folder_restores_its_config(key, tmp_path):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key)
    te.decrypt_checkpoint(tmp_path / "e", tmp_path / "d", key)
    plain, back = (json.loads((folder / "config.json").read_text()) for folder in (BUNDLED_FOLDER, tmp_path / "d"))
    plain["pretrained_cfg"].pop("notes", None)
    assert back == plain


def test_rotation_of_a_folder(plain_model, key, other_key, tmp_path):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key)
    te.rotate_checkpoint(tmp_path / "e", tmp_path / "r", key, other_key)
    direct = te.encrypt_model(plain_model, other_key)
    assert torch.equal(load_file(tmp_path / "r" / "model.safetensors")["stem.0.weight"], direct.stem[0].weight)
    assert json.loads((tmp_path / "r" / "config.json").read_text())["encmixer"]["fingerprint"] == other_key.fingerprint


def test_keys_as_paths_and_from_the_environment(key, key_file, tmp_path, monkeypatch):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key_file)
    te.decrypt_checkpoint(tmp_path / "e", tmp_path / "d", str(key_file))
    with pytest.raises(KeyMismatchError):
        te.decrypt_checkpoint(tmp_path / "e", tmp_path / "x", te.SecretKey(bytes(32)))
    assert not (tmp_path / "x").exists()


def test_half_precision_files(plain_model, key, tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        source = tmp_path / f"{dtype}.safetensors"
        save_file(
            {name: tensor.to(dtype) for name, tensor in plain_model.state_dict().items() if tensor.is_floating_point()}, source
        )
        target = tmp_path / f"{dtype}-e.safetensors"
        te.encrypt_checkpoint(source, target, key, arch=ARCH)
        assert load_file(target)["stem.0.weight"].dtype == dtype


def test_wrong_states(key, other_key, encrypted_folder, tmp_path):
    with pytest.raises(AlreadyEncryptedError):
        te.encrypt_checkpoint(encrypted_folder, tmp_path / "x", key)
    with pytest.raises(AlreadyEncryptedError):
        te.encrypt_checkpoint(encrypted_folder / "model.safetensors", tmp_path / "x.safetensors", key, mean=MEAN, std=STD)
    with pytest.raises(NotEncryptedError):
        te.decrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "x", key)
    with pytest.raises(NotEncryptedError):
        te.rotate_checkpoint(BUNDLED_FOLDER, tmp_path / "x", key, other_key)
    with pytest.raises(KeyMismatchError):
        te.rotate_checkpoint(encrypted_folder, tmp_path / "x", key, key)
    for normalisation in ({}, {"mean": MEAN, "std": STD}):
        with pytest.raises(SchemeError, match=r"--arch NAME.; for a model that timm does not have pass mean=, std="):
            te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "x.safetensors", key, **normalisation)
    with pytest.raises(SourceError, match="timm model name"):
        te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "x.safetensors", key, arch="convmixer_9")
    with pytest.raises(StemError, match="square kernel"):
        te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "x.safetensors", key, arch="resnet18")
    with pytest.raises(CheckpointError, match="shape"):
        te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "x.safetensors", key, arch="convmixer_768_32")
    with pytest.raises(CheckpointError, match="expected a tensor nothing"):
        te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "x.safetensors", key, **GIVEN, first_conv="nothing")
    assert not list(tmp_path.glob("x*"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("field", ["num_classes", "model_args"])
def test_null_in_a_config_is_refused_where_timm_fails_on_it(field, key, tmp_path):
    shutil.copytree(BUNDLED_FOLDER, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: None}))
    for use in (load_model, lambda folder: te.encrypt_checkpoint(folder, tmp_path / "e", key)):
        with pytest.raises(CheckpointError, match=rf"got `null` - at `\$\.{field}`"):
            use(tmp_path / "m")


FAILS = "a config that timm builds a model from, got TypeError"


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"input_size": None}, FAILS),
        ({"fixed_input_size": True}, "arguments of convmixer_256_8_ks5_p4, got .* 'img_size'"),
        ({"min_input_size": 3}, FAILS),
    ],
)
def test_a_config_that_timm_does_not_build_from_is_one_error(cfg, message, tmp_path):
    shutil.copytree(BUNDLED_FOLDER, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    config["model_args"] = {**config["model_args"], "in_chans": 3}
    path.write_text(json.dumps({**config, "pretrained_cfg": {**config["pretrained_cfg"], **cfg}}))
    with pytest.raises(SourceError, match=f"m(: model_args)?: expected {message}"):
        load_model(tmp_path / "m")


def test_an_architecture_beside_a_config_is_the_same_one(key, tmp_path):
    for arch in (ARCH, "encmixer_256_8_ks5_p4"):
        te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key, arch=arch, force=True)
        load_model(tmp_path / "e", arch=arch)
    for use in (load_model, lambda src, arch: te.encrypt_checkpoint(src, tmp_path / "x", key, arch=arch)):
        with pytest.raises(
            SourceError, match=r"--arch\): expected convmixer_256_8_ks5_p4, as its config says, got 'convmixer_768_32'"
        ):
            use(BUNDLED_FOLDER, arch="convmixer_768_32")
        for source in (BUNDLED_FOLDER, BUNDLED_WEIGHTS):
            with pytest.raises(SourceError, match="arch: expected a timm model name, got 3"):
                use(source, arch=3)


def test_names_and_tensors_of_other_types(plain_model, key, tmp_path):
    for first_conv in (3, b"stem.0"):
        with pytest.raises(StemError, match="first_conv: expected a module's name, got "):
            te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "x", key, first_conv=first_conv)
    with pytest.raises(StemError, match="one first convolution"):
        te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "x", key, first_conv=[[]])
    for state_dict in ([torch.zeros(1)], 3, "stem", {3: torch.zeros(1)}):
        with pytest.raises(SourceError, match="state_dict: expected a mapping of names to tensors, got"):
            te.save_model(plain_model, tmp_path / "x", state_dict=state_dict)
    assert not (tmp_path / "x").exists()


def test_targets(key, tmp_path):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key)
    before = (tmp_path / "e" / "model.safetensors").read_bytes()
    with pytest.raises(TargetExistsError, match="--force"):
        te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key, cipher="shuffle")
    assert (tmp_path / "e" / "model.safetensors").read_bytes() == before
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key, cipher="shuffle", force=True)
    assert (tmp_path / "e" / "model.safetensors").read_bytes() != before
    (tmp_path / "e" / "thesis.txt").write_text("five years of work")
    with pytest.raises(TargetExistsError, match=r"thesis\.txt"):
        te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "e", key, force=True)
    assert (tmp_path / "e" / "thesis.txt").exists()
    with pytest.raises(SourceError, match="the source is never overwritten"):
        te.decrypt_checkpoint(tmp_path / "e", tmp_path / "e", key, force=True)
    with pytest.raises(SourceError, match=r"\.safetensors file as target"):
        te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "e", key, arch=ARCH)


def test_config_and_weights_of_different_encryptions(key, other_key, tmp_path):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "one", key)
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "two", other_key)
    (tmp_path / "two" / "config.json").write_bytes((tmp_path / "one" / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"one record in config\.json and model.safetensors"):
        te.decrypt_checkpoint(tmp_path / "two", tmp_path / "x", key)


def test_an_unreadable_stem_shape_by_guess(key, tmp_path):
    save_file(
        {
            "a.weight": torch.zeros(4, 3, 4, 4),
            "a.bias": torch.zeros(4),
            "b.weight": torch.zeros(4, 3, 8, 8),
            "b.bias": torch.zeros(4),
        },
        tmp_path / "two.safetensors",
    )
    with pytest.raises(CheckpointError, match="one patch kernel on 3 channels, got a, b; pass first_conv"):
        te.encrypt_checkpoint(tmp_path / "two.safetensors", tmp_path / "x.safetensors", key, **GIVEN)
    for stride, message in ((1, "expected a stride of 8 px"), (None, "stem-stride")):
        given = {**GIVEN, "first_conv": "b", "stem_stride": stride}
        with pytest.raises((StemError, SchemeError), match=message):
            te.encrypt_checkpoint(tmp_path / "two.safetensors", tmp_path / "x.safetensors", key, **given)
    given = {**GIVEN, "first_conv": "b", "stem_stride": 8}
    with pytest.warns(UserWarning, match="nobody has checked that the image is read by this convolution alone"):
        te.encrypt_checkpoint(tmp_path / "two.safetensors", tmp_path / "x.safetensors", key, **given)


def test_saving_a_channels_last_model_and_one_without_a_name(plain_model, key, tmp_path):
    model = te.encrypt_model(copy.deepcopy(plain_model).to(memory_format=torch.channels_last), key)
    te.save_model(model, tmp_path / "m")
    assert torch.equal(load_file(tmp_path / "m" / "model.safetensors")["stem.0.weight"], model.stem[0].weight)
    with pytest.raises(CheckpointError, match="convmixer_custom"):
        te.save_model(ConvMixer(8, 1), tmp_path / "x")


@pytest.mark.parametrize("folder", sorted(COMPAT.glob("encrypted-*")), ids=lambda path: path.name)
def test_old_artefacts_keep_loading(folder, tmp_path):
    """tests/compat holds what earlier versions wrote; its key is public and protects nothing."""
    key = te.SecretKey(bytes(range(32)))
    te.decrypt_checkpoint(folder, tmp_path / "d", key)
    version = folder.name.split("-")[1]
    expected = load_file(COMPAT / ("plain" if version == "1" else f"plain-{version}") / "model.safetensors")
    for name, tensor in load_file(tmp_path / "d" / "model.safetensors").items():
        assert torch.allclose(tensor, expected[name], rtol=1e-6, atol=1e-6), name
    assert te.create_transform(str(folder), key=key).cipher.scheme.fingerprint == key.fingerprint


@pytest.mark.nightly(but=("file",))
@pytest.mark.filterwarnings("ignore:.*nobody has checked that the image is read:UserWarning")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_at_any_moment_the_target_is_absent_or_old_or_whole(kind, plain_model, key_file, key, tmp_path):
    """Killed by the kernel in the middle of the writing, at 20 places, and before every change to the folder's files."""
    source, name = BUNDLED_FOLDER, "encrypted"
    if kind == "file":
        source, name = tmp_path / "plain.safetensors", "e.safetensors"
        save_file(plain_model.state_dict(), source)
    how = {} if kind == "folder" else {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "stem_stride": 4}
    te.encrypt_checkpoint(source, tmp_path / name, key, **how)
    (tmp_path / "old").mkdir()
    te.encrypt_checkpoint(source, tmp_path / "old" / name, key, cipher="negpos", **how)
    old, whole, before = (content(path) for path in (tmp_path / "old" / name, tmp_path / name, source))
    assert old != whole
    size = max(map(len, whole.values()))
    words = [source, name, tmp_path / "old" / name, tmp_path / "out", key_file, size]
    run = processes.run([str(DEATHS), *map(str, words)], env=os.environ, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    ends = json.loads(run.stdout)
    for begin in ("new", "over"):
        assert [end for death, end in ends.items() if death.startswith("byte") and death.endswith(begin)] == [-SIGXFSZ] * 20
        *killed, finished = [end for death, end in ends.items() if death.startswith("change") and death.endswith(begin)]
        assert (set(killed), finished) == ({-SIGKILL}, 0)
        assert len(killed) >= 4
    for death, end in ends.items():
        target = tmp_path / "out" / death / name
        allowed = [whole]
        if end != 0:
            allowed += [old] if death.endswith("over") else [{}]
        assert content(target) in allowed, death
        leftovers = [path.name for path in target.parent.iterdir() if path != target]
        assert all(re.fullmatch(r"\.encmixer-[0-9a-f]{16}", left) for left in leftovers)
        assert leftovers or not death.startswith("byte"), "the kill must fall into the writing, or it proves nothing"
        assert not leftovers or end != 0
    assert content(source) == before


def content(path: Path) -> dict[str, bytes]:
    """A file's or a folder's files; nothing where there is nothing."""
    paths = [path] if path.is_file() else path.rglob("*")
    return {file.name: file.read_bytes() for file in paths}


@pytest.mark.parametrize("change", [{"cipher": "shuffle"}, {"fingerprint": "0" * 16}, {"stem": "stem.1"}])
@pytest.mark.parametrize("at", ["top", "notes"])
def test_the_records_of_one_config_must_agree(key, tmp_path, encrypted_folder, at, change):
    path = encrypted_folder / "config.json"
    config = json.loads(path.read_text())
    changed = {**config["encmixer"], **change}
    if at == "top":
        config["encmixer"] = changed
    else:
        config["pretrained_cfg"]["notes"] = ["encmixer:" + json.dumps(changed)]
    path.write_text(json.dumps(config))
    for use in (load_model, find_scheme, lambda folder: te.decrypt_checkpoint(folder, tmp_path / "plain", key)):
        with pytest.raises(CheckpointError, match="two different ones"):
            use(encrypted_folder)
    assert not (tmp_path / "plain").exists()


def vgg_like(side):
    return {"features.0.weight": torch.rand(8, 3, side, side), "features.0.bias": torch.rand(8)}


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (7, 4), (4, 4)])
def test_a_single_file_shows_no_stride(side, stride, key, tmp_path):
    """A file of tensors does not tell a VGG from a ConvMixer: without an architecture, somebody must have said the stride."""
    save_file(vgg_like(side), tmp_path / "x.safetensors")
    given = {"mean": MEAN, "std": STD}
    with pytest.raises(SchemeError, match=r"whose tensors do not show how the image is read; pass arch= .--arch NAME."):
        te.encrypt_checkpoint(tmp_path / "x.safetensors", tmp_path / "e.safetensors", key, **given)
    if stride != side:
        with pytest.raises(StemError, match=f"a stride of {side} px, as its kernel's side, got {stride}"):
            te.encrypt_checkpoint(tmp_path / "x.safetensors", tmp_path / "e.safetensors", key, **given, stem_stride=stride)
    for arch in ("vgg11", "vgg16_bn"):
        with pytest.raises(StemError, match="kernel"):
            te.encrypt_checkpoint(tmp_path / "x.safetensors", tmp_path / "e.safetensors", key, arch=arch)
    with pytest.raises(SchemeError, match="stem_stride: expected none where the architecture is known"):
        te.encrypt_checkpoint(BUNDLED_WEIGHTS, tmp_path / "e.safetensors", key, arch=ARCH, stem_stride=4)
    assert not (tmp_path / "e.safetensors").exists()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_files_that_were_saved_from_a_wrapper_say_so(prefix, plain_model, key, tmp_path):
    path = tmp_path / "wrapped.safetensors"
    save_file({f"{prefix}{name}": tensor for name, tensor in plain_model.state_dict().items()}, path)
    message = (
        rf"expected a tensor [a-z0-9.]+, got {prefix}.*; it was saved from a wrapper: save wrapper\.{prefix}state_dict\(\)"
    )
    with pytest.raises(CheckpointError, match=message):
        te.encrypt_checkpoint(path, tmp_path / "e.safetensors", key, arch=ARCH)
    with pytest.raises(CheckpointError, match=message):
        load_model(path, arch=ARCH)


# -- safetensors headers ------------------------------------------------------------------------------------------------------


def raw_file(path: Path, entries: dict, size: int, *, text: str | None = None) -> Path:
    """Write a safetensors file by hand."""
    header = (json.dumps(entries) if text is None else text).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    return path


def test_a_name_that_is_there_twice_is_found_in_one_pass(tmp_path):
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    names = [f"tensor.{index}" for index in range(50_000)]  # pair by pair this would take a quarter of an hour
    text = "{" + ",".join(f'"{name}":{entry}' for name in (*names, names[-1])) + "}"
    with pytest.raises(CheckpointError, match=r"'tensor\.49999' twice"):
        TensorFile.open(raw_file(tmp_path / "x.safetensors", {}, 4, text=text))


def test_a_tensor_that_is_described_by_an_array_is_read_as_safetensors_reads_it(key, tmp_path):
    entries = {"stem.weight": ["F32", [8, 3, 4, 4], [0, 1536]], "stem.bias": ["F32", [8], [1536, 1568]]}
    path = raw_file(tmp_path / "x.safetensors", entries, 1568)
    assert load_file(path)["stem.weight"].shape == (8, 3, 4, 4)
    file = TensorFile.open(path)
    assert (file.shape("stem.weight"), file.dtype("stem.bias")) == ((8, 3, 4, 4), "F32")
    with pytest.warns(UserWarning, match="nobody has checked"):
        te.encrypt_checkpoint(path, tmp_path / "e.safetensors", key, **GIVEN)
    assert load_file(tmp_path / "e.safetensors")["stem.weight"].shape == (8, 3, 4, 4)
    for wrong in (["F32", [8]], ["F32", [8], [0, 32], 5], [], "F32", None, 5, {"dtype": "F32"}):
        with pytest.raises(CheckpointError):
            TensorFile.open(raw_file(path, {"stem.bias": wrong}, 32))


BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}


@pytest.mark.parametrize("dtype", [*BITS, "I8", "U8", "I32", "BOOL", "C64"])
def test_stems_of_types_that_cannot_be_computed_with_are_refused_by_name(dtype, key, tmp_path):
    bits = BITS.get(dtype, {"I32": 32, "C64": 64}.get(dtype, 8))
    size = 8 * 3 * 4 * 4 * bits // 8
    entries = {
        "stem.weight": {"dtype": dtype, "shape": [8, 3, 4, 4], "data_offsets": [0, size]},
        "stem.bias": {"dtype": "F32", "shape": [8], "data_offsets": [size, size + 32]},
    }
    path = raw_file(tmp_path / "x.safetensors", entries, size + 32)
    try:
        with safe_open(path, framework="pt"):
            pass
    except Exception:
        with pytest.raises(CheckpointError):  # a type that this safetensors does not know
            te.encrypt_checkpoint(path, tmp_path / "e.safetensors", key, **GIVEN)
        return
    with pytest.raises(StemError, match=rf"stem.weight: expected floating-point weights \(.*\), got {dtype};"):
        te.encrypt_checkpoint(path, tmp_path / "e.safetensors", key, **GIVEN)
    assert not (tmp_path / "e.safetensors").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_never_opened(name, encrypted_folder, key, tmp_path):
    """Opening it would wait for ever."""
    (encrypted_folder / name).unlink()
    os.mkfifo(encrypted_folder / name)
    with pytest.raises(FileAccessError, match=rf"{name}: expected .* to read, got a pipe, device or socket"):
        te.decrypt_checkpoint(encrypted_folder, tmp_path / "d", key)


OTHER_KINDS = {
    "torch.save": lambda path: torch.save({"stem": torch.zeros(9)}, path),
    "torch.save of old": lambda path: torch.save({"stem": torch.zeros(9)}, path, _use_new_zipfile_serialization=False),
    "PNG": lambda path: Image.new("RGB", (99, 99)).save(path, format="PNG"),
    "HTML": lambda path: path.write_text("<!DOCTYPE html><html>no such file</html>"),
    "LFS": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\n"),
    "a key": lambda path: te.SecretKey(bytes(32)).save(path),
    "JSON": lambda path: path.write_text(json.dumps({"architecture": "resnet18"})),
    "age": lambda path: path.write_bytes(b"age-encryption.org/v1\n-> X25519 abc\n"),
}
SAID = {
    "torch.save": "got a pickle, as torch.save writes; pickles are never read",
    "torch.save of old": "got a pickle, as torch.save writes; pickles are never read",
    "PNG": "got an image; give a model",
    "HTML": "got a page of the web; download the file itself",
    "LFS": "got a pointer of Git LFS; fetch the file itself: git lfs pull",
    "a key": "got a key file; give a model here, and the key as key= .--key.",
    "JSON": "got JSON text; give the folder that config.json lies in",
    "age": "got a sealed model; open it first: encmixer model open",
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_files_of_another_kind_are_called_by_it(kind, tmp_path):
    OTHER_KINDS[kind](tmp_path / "last.pth.tar")
    with pytest.raises(CheckpointError, match=f"expected a safetensors file, {SAID[kind]}"):
        TensorFile.open(tmp_path / "last.pth.tar")


def test_an_architecture_is_followed_without_a_copy_of_it(encrypted_folder, key, tmp_path, monkeypatch):
    te.decrypt_checkpoint(encrypted_folder, tmp_path / "plain", key)

    def copied(*_):
        raise AssertionError("copied")

    monkeypatch.setattr(image_trace, "_shadow", copied)
    assert te.encrypt_checkpoint(tmp_path / "plain", tmp_path / "again", key).stem == "stem.0"


def test_a_folder_does_not_get_the_name_of_a_file(encrypted_folder, key, tmp_path):
    with pytest.raises(SourceError, match="a folder as target of a folder, got the name of a file"):
        te.decrypt_checkpoint(encrypted_folder, tmp_path / "plain.safetensors", key)
    assert not (tmp_path / "plain.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "meant"),
    {
        "encmixer_256_8_ks5_p4.cifar1": "did you mean encmixer_256_8_ks5_p4.cifar10?",
        "convmixer_256_8_ks5_p4.cifar1": "did you mean convmixer_256_8_ks5_p4.cifar10?",
        "vit_base_patch16_224.augreg": "vit_base_patch16_224.augreg_in1k",
        "vit_tiny_patch16_224.nonsense": "did you mean vit_tiny_patch16_224.augreg_in21k or",
        "vit_tiny_patch16_224 ": "leave the space out: vit_tiny_patch16_224",
    }.items(),
)
def test_a_mistyped_tag_is_one_error_that_says_what_was_meant(name, meant):
    with pytest.raises(SourceError, match=re.escape(meant)):
        find_source(name)


def test_a_mistyped_tag_of_a_single_files_architecture(tmp_path):
    path, name = tmp_path / "m.safetensors", "convmixer_256_8_ks5_p4.cifar1"
    save_file({"stem.0.weight": torch.zeros(4, 3, 4, 4)}, path)
    encrypt = functools.partial(te.encrypt_checkpoint, path, tmp_path / "new.safetensors", te.SecretKey(bytes(32)), arch=name)
    for call in (encrypt, functools.partial(load_model, path, arch=name)):
        with pytest.raises(SourceError, match=r"did you mean convmixer_256_8_ks5_p4\.cifar10"):
            call()
