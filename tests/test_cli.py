"""The real command in real processes: what it does, and what it does with bad input."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
import torch
from conftest import assert_no_secret
from PIL import Image
from safetensors.torch import load_file, save_file

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.cli.app import cli

NAME = "encmixer_256_8_ks5_p4.cifar10"
MEAN_STD = ("--mean", "0.4914,0.4822,0.4465", "--std", "0.2470,0.2435,0.2616", "--stem-stride", "4")


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if os.access(path, os.R_OK)
    }


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_shows_help_with_an_example(path):
    from click.testing import CliRunner

    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert "\\b" not in result.output
    is_group = hasattr(dict(commands())[path], "commands")
    assert is_group or f"\n  Example: encmixer {' '.join(path)}" in result.output


def test_key_commands(encmixer, tmp_path):
    made = encmixer("key", "new", "k")
    assert made.returncode == 0
    key = te.SecretKey.load(tmp_path / "k")
    shown = encmixer("key", "show", "k")
    assert shown.stdout == f"{key.fingerprint}\n"
    assert json.loads(encmixer("key", "show", "k", "--json").stdout)["fingerprint"] == key.fingerprint
    assert_no_secret(key, made.stdout + made.stderr + shown.stdout + shown.stderr)


def test_the_owners_and_the_clients_day(encmixer, key, other_key, tmp_path, photos):
    """Encrypt, look, verify, send images, rotate, decrypt: everything a README promises, and no key in anything."""
    key.save(tmp_path / "owner.key")
    other_key.save(tmp_path / "next.key")
    (tmp_path / "photos").mkdir()
    for index, photo in enumerate(photos[:24]):
        photo.resize((40, 36)).save(tmp_path / "photos" / f"{index}.png")
    said = []

    def run(*arguments, code=0):
        result = encmixer(*arguments)
        assert result.returncode == code, result.stderr
        said.append(result.stdout + result.stderr)
        return result

    encrypted = run("model", "encrypt", NAME, "encrypted", "--key", "owner.key")
    assert "computes the key at once" in encrypted.stderr  # public weights: said at that point
    assert "stem stem.0, the constant of the normalisation in stem.0.bias" in said[-1]
    info = json.loads(run("model", "info", "encrypted", "--json").stdout)
    assert info["encmixer"]["fingerprint"] == key.fingerprint
    verify = ("--key", "owner.key", "--images", "photos", "--json")
    report = json.loads(run("model", "verify", NAME, "encrypted", *verify).stdout)
    assert report["holds"]
    assert report["changed_top1"] == 0
    run("images", "encrypt", "photos", "sent", "--key", "owner.key", "--model", "encrypted", "--workers", 1)
    assert said[-1] == "written 24\n"
    run("images", "decrypt", "sent", "back", "--key", "owner.key", "--model", "encrypted")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == sorted(f"{index}.png" for index in range(24))
    run("model", "rotate", "encrypted", "rotated", "--key", "owner.key", "--new-key", "next.key")
    assert run("model", "decrypt", "rotated", "plain", "--key", "next.key").stdout == "the plain model is in plain\n"
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    for name, tensor in load_file(BUNDLED_WEIGHTS).items():
        assert torch.allclose(plain[name], tensor, rtol=1e-6, atol=1e-6)
    weights = load_file(tmp_path / "encrypted" / "model.safetensors")
    weights["head.bias"] += 1.0  # another model: the check must not hold
    with_record = {"encmixer": te.create_transform(str(tmp_path / "encrypted"), key=key).cipher.scheme.to_json()}
    save_file(weights, tmp_path / "encrypted" / "model.safetensors", metadata=with_record)
    assert "NOT exact" in run("model", "verify", NAME, "encrypted", "--key", "owner.key", "--images", "photos", code=1).stdout
    for secret in (key, other_key):
        written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".key"]
        assert_no_secret(secret, *written, *said)


def test_single_files(encmixer, key_file, tmp_path, photos):
    result = encmixer(
        "model", "encrypt", BUNDLED_WEIGHTS, "e.safetensors", "-k", key_file, *MEAN_STD, "--first-conv", "stem.0", "--json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["encmixer"]["stem"] == "stem.0"
    assert encmixer("model", "decrypt", "e.safetensors", "d.safetensors", "-k", key_file).returncode == 0
    (tmp_path / "photos").mkdir()
    for index, photo in enumerate(photos[:2]):
        photo.save(tmp_path / "photos" / f"{index}.png")
    arguments = ("model", "verify", "d.safetensors", "e.safetensors", "-k", key_file, "--images", "photos")
    assert encmixer(*arguments, "--arch", "convmixer_256_8_ks5_p4.cifar10").returncode == 0
    assert_refused(encmixer(*arguments), r"pass arch= \(--arch NAME\)")


def test_eval(encmixer, key_file, tmp_path, photos):
    from timm_encmixer.bundled import bundled_images

    images, labels, classes = bundled_images()
    for name in classes:
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in range(40):
        images[index].save(tmp_path / "data" / classes[labels[index]] / f"{index}.png")
    arguments = ("eval", "--model", NAME, "--key", key_file, "--data", "data", "--wrong-keys", 2)
    result = json.loads(encmixer(*arguments, "--json").stdout)
    assert result["right_key"] == result["plain"] > 0.6
    assert len(result["wrong_keys"]) == 2
    assert "encrypted model, right key" in encmixer(*arguments).stdout


# ---- bad input ----

Bad = Callable[[Path, te.SecretKey], tuple]
BAD: dict[str, tuple[Bad, str]] = {}


def bad(message: str):
    """Register a case: it prepares files in a folder and returns the arguments; `message` is what the one line must say."""

    def register(case: Bad) -> Bad:
        BAD[case.__name__] = case, message
        return case

    return register


def encrypt(source, *options):
    return ("model", "encrypt", source, "out.safetensors", "--key", "owner.key", *MEAN_STD, *options)


def weights_with(folder: Path, change: Callable[[dict], None]) -> None:
    tensors = load_file(BUNDLED_WEIGHTS)
    change(tensors)
    save_file(tensors, folder / "x.safetensors")


def header_with(folder: Path, change: Callable[[str], str]) -> None:
    content = BUNDLED_WEIGHTS.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = change(content[8 : 8 + length].decode()).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def model_folder(folder: Path, change: Callable[[dict], None] = lambda config: None) -> Path:
    target = folder / "model"
    target.mkdir()
    config = json.loads((BUNDLED_FOLDER / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    (target / "model.safetensors").write_bytes(BUNDLED_WEIGHTS.read_bytes())
    return target


def encrypted_model(folder: Path, key: te.SecretKey) -> None:
    te.encrypt_checkpoint(BUNDLED_FOLDER, folder / "enc", key)


@bad("x.safetensors")
def weights_missing(folder, key):
    return encrypt("x.safetensors")


@bad("got 0 bytes")
def weights_empty(folder, key):
    (folder / "x.safetensors").touch()
    return encrypt("x.safetensors")


@bad("a whole safetensors file")
def weights_truncated(folder, key):
    (folder / "x.safetensors").write_bytes(BUNDLED_WEIGHTS.read_bytes()[:-1000])
    return encrypt("x.safetensors")


@bad("a whole safetensors file")
def weights_with_a_tail(folder, key):
    (folder / "x.safetensors").write_bytes(BUNDLED_WEIGHTS.read_bytes() + b"tail")
    return encrypt("x.safetensors")


@bad("header")
def weights_random(folder, key):
    (folder / "x.safetensors").write_bytes(hashlib.sha256(b"x").digest() * 100)
    return encrypt("x.safetensors")


@bad("pickles are never read")
def weights_pickled(folder, key):
    torch.save(load_file(BUNDLED_WEIGHTS), folder / "x.safetensors")
    return encrypt("x.safetensors")


@bad("config.json|model.safetensors")
def weights_folder_instead_of_file(folder, key):
    (folder / "x.safetensors").mkdir()
    return encrypt("x.safetensors")


@bad("Permission denied")
def weights_unreadable(folder, key):
    (folder / "x.safetensors").write_bytes(BUNDLED_WEIGHTS.read_bytes())
    (folder / "x.safetensors").chmod(0)
    return encrypt("x.safetensors")


@bad("header length of")
def header_length_too_long(folder, key):
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", 10**12) + BUNDLED_WEIGHTS.read_bytes()[8:])
    return encrypt("x.safetensors")


@bad("JSON header")
def header_length_too_short(folder, key):
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", 40) + BUNDLED_WEIGHTS.read_bytes()[8:])
    return encrypt("x.safetensors")


@bad("twice")
def tensor_duplicated(folder, key):
    header_with(folder, lambda text: text.replace('"head.bias"', '"head.weight"'))
    return encrypt("x.safetensors")


@bad("offsets|whole safetensors")
def offsets_that_lie(folder, key):
    header_with(folder, lambda text: re.sub(r'"data_offsets":\[0,', '"data_offsets":[4,', text, count=1))
    return encrypt("x.safetensors")


@bad("a tensor stem.0.weight, got none")
def tensor_missing(folder, key):
    weights_with(folder, lambda tensors: tensors.pop("stem.0.weight"))
    return encrypt("x.safetensors", "--first-conv", "stem.0")


@bad("a tensor blocks.0.1.bias, got none")
def tensor_of_the_architecture_missing(folder, key):
    target = model_folder(folder)
    tensors = load_file(BUNDLED_WEIGHTS)
    tensors.pop("blocks.0.1.bias")
    save_file(tensors, target / "model.safetensors")
    return "model", "encrypt", target, "out", "--key", "owner.key"


@bad("got stranger")
def tensor_too_many(folder, key):
    target = model_folder(folder)
    save_file({**load_file(BUNDLED_WEIGHTS), "stranger": torch.zeros(1)}, target / "model.safetensors")
    return "model", "encrypt", target, "out", "--key", "owner.key"


@bad("shape")
def tensor_of_the_wrong_shape(folder, key):
    weights_with(folder, lambda tensors: tensors.update({"stem.0.weight": torch.zeros(256, 3, 4, 5)}))
    return encrypt("x.safetensors", "--first-conv", "stem.0")


@bad("finite weights, got NaN")
def stem_of_nan(folder, key):
    weights_with(folder, lambda tensors: tensors["stem.0.weight"].fill_(float("nan")))
    return encrypt("x.safetensors", "--first-conv", "stem.0")


@bad("floating-point")
def stem_of_integers(folder, key):
    weights_with(folder, lambda tensors: tensors.update({"stem.0.weight": torch.ones(256, 3, 4, 4, dtype=torch.int32)}))
    return encrypt("x.safetensors", "--first-conv", "stem.0")


@bad(r"arch= \(--arch NAME\); for a model that timm does not have pass mean=, std= and stem_stride= \(--mean, --std,")
def file_without_arch_or_mean(folder, key):
    return "model", "encrypt", BUNDLED_WEIGHTS, "out.safetensors", "--key", "owner.key"


@bad("resnet18: expected a model that can be encrypted, got one that cannot: expected a square kernel")
def model_that_cannot_be_encrypted(folder, key):
    return "model", "encrypt", "resnet18", "out", "--key", "owner.key"


@bad("a model that can be encrypted with scrambled blocks, got one that cannot: no position embedding")
def model_that_cannot_be_scrambled(folder, key):
    return "model", "encrypt", "mixer_b16_224.goog_in21k", "out", "--key", "owner.key", "--cipher", "shuffle+scramble"


@bad("a model that knows a block's position by its position embedding alone")
def own_model_that_cannot_be_scrambled(folder, key):
    model_folder(folder)
    return "model", "encrypt", "model", "out", "--key", "owner.key", "--cipher", "scramble"


@bad("a pattern of timm's names, such as 'vit_.', got 'nonsense'")
def pattern_without_a_model(folder, key):
    return "models", "nonsense"


@bad("either --scramble or --refused")
def scrambled_and_refused(folder, key):
    return "models", "--scramble", "--refused"


@bad("a timm model name, got 'nonsense'")
def arch_unknown(folder, key):
    return "model", "encrypt", BUNDLED_WEIGHTS, "out.safetensors", "--key", "owner.key", "--arch", "nonsense"


@bad("not a comma-separated list of numbers")
def mean_of_words(folder, key):
    return "model", "encrypt", BUNDLED_WEIGHTS, "out.safetensors", "--key", "owner.key", "--mean", "a,b,c", "--std", "1,1,1"


@bad("one patch kernel on 2 channels")
def mean_of_another_length(folder, key):
    return (
        "model",
        "encrypt",
        BUNDLED_WEIGHTS,
        "out.safetensors",
        "--key",
        "owner.key",
        "--mean",
        "0.5,0.5",
        "--std",
        "1,1",
        "--stem-stride",
        "4",
    )


@bad("above 0")
def std_of_zero(folder, key):
    return (
        "model",
        "encrypt",
        BUNDLED_WEIGHTS,
        "out.safetensors",
        "--key",
        "owner.key",
        "--mean",
        "0,0,0",
        "--std",
        "0,1,1",
        "--stem-stride",
        "4",
    )


@bad("config.json")
def config_missing(folder, key):
    (model_folder(folder) / "config.json").unlink()
    return "model", "encrypt", "model", "out", "--key", "owner.key"


@bad("JSON, got text that is not valid JSON")
def config_no_json(folder, key):
    (model_folder(folder) / "config.json").write_text("{")
    return "model", "encrypt", "model", "out", "--key", "owner.key"


@bad("an architecture")
def config_without_architecture(folder, key):
    model_folder(folder, lambda config: config.pop("architecture"))
    return "model", "encrypt", "model", "out", "--key", "owner.key"


@bad("arguments of convmixer_256_8_ks5_p4")
def config_with_impossible_arguments(folder, key):
    model_folder(folder, lambda config: config["model_args"].update(surprise=1))
    return "model", "encrypt", "model", "out", "--key", "owner.key"


@bad("version: expected 1 to 5, got 99; upgrade")
def record_of_a_later_version(folder, key):
    encrypted_model(folder, key)
    config = json.loads((folder / "enc" / "config.json").read_text())
    config["encmixer"]["version"] = 99
    (folder / "enc" / "config.json").write_text(json.dumps(config))
    return "model", "decrypt", "enc", "out", "--key", "owner.key"


@bad("different ones")
def record_that_differs_from_the_weights(folder, key):
    encrypted_model(folder, key)
    config = json.loads((folder / "enc" / "config.json").read_text())
    config["encmixer"]["cipher"] = "negpos"
    (folder / "enc" / "config.json").write_text(json.dumps(config))
    return "model", "decrypt", "enc", "out", "--key", "owner.key"


@bad("invalid value for '--cipher'")
def cipher_unknown(folder, key):
    return "model", "encrypt", NAME, "out", "--key", "owner.key", "--cipher", "rot13"


@bad("a plain model, got an encrypted one")
def encrypted_twice(folder, key):
    encrypted_model(folder, key)
    return "model", "encrypt", "enc", "out", "--key", "owner.key"


@bad("an encrypted model with its record, got a plain model")
def decrypted_though_plain(folder, key):
    return "model", "decrypt", BUNDLED_FOLDER, "out", "--key", "owner.key"


@bad("the key with fingerprint")
def key_wrong(folder, key):
    encrypted_model(folder, te.SecretKey(bytes(32)))
    return "model", "decrypt", "enc", "out", "--key", "owner.key"


@bad("another key than the old one")
def key_rotated_to_itself(folder, key):
    encrypted_model(folder, key)
    return "model", "rotate", "enc", "out", "--key", "owner.key", "--new-key", "owner.key"


@bad("No such file")
def key_missing(folder, key):
    return "key", "show", "none.key"


@bad("TIMM_ENCMIXER_KEY")
def key_not_given(folder, key):
    return "model", "encrypt", NAME, "out"


@bad("a checksum that fits|48 characters")
def key_mistyped(folder, key):
    text = (folder / "owner.key").read_text()
    (folder / "owner.key").write_text(text[:30] + ("A" if text[30] != "A" else "B") + text[31:])
    return "key", "show", "owner.key"


@bad("48 characters")
def key_truncated(folder, key):
    (folder / "owner.key").write_text((folder / "owner.key").read_text()[:40])
    return "key", "show", "owner.key"


@bad("one line of text that starts with")
def key_foreign(folder, key):
    (folder / "owner.key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    return "key", "show", "owner.key"


@bad("chmod 600")
def key_that_others_can_read(folder, key):
    (folder / "owner.key").chmod(0o644)
    return "key", "show", "owner.key"


@bad("Is a directory")
def key_folder(folder, key):
    return "key", "show", "."


@bad("a target that does not exist yet")
def key_overwritten(folder, key):
    return "key", "new", "owner.key"


@bad("make it first: mkdir -p none")
def key_into_no_folder(folder, key):
    return "key", "new", "none/owner.key"


def image_command(*arguments):
    return ("images", *arguments, "--key", "owner.key", "--model", "enc")


@bad("a damaged one|no format that Pillow knows")
def image_truncated(folder, key):
    encrypted_model(folder, key)
    Image.new("RGB", (32, 32), "red").save(folder / "x.png")
    (folder / "x.png").write_bytes((folder / "x.png").read_bytes()[:60])
    return image_command("encrypt", "x.png", "out.png")


@bad("no format that Pillow knows")
def image_random(folder, key):
    encrypted_model(folder, key)
    (folder / "x.png").write_bytes(bytes(range(256)))
    return image_command("encrypt", "x.png", "out.png")


@bad("multiples of 4 px, got 30 x 32 px; leave out --no-resize, or resize or crop it first$")
def image_of_an_odd_size(folder, key):
    encrypted_model(folder, key)
    Image.new("RGB", (32, 30)).save(folder / "x.png")
    return image_command("encrypt", "x.png", "out.png", "--no-resize")


@bad("a PNG target, got JPEG")
def image_to_jpeg(folder, key):
    encrypted_model(folder, key)
    Image.new("RGB", (32, 32)).save(folder / "x.png")
    return image_command("encrypt", "x.png", "out.jpg")


@bad("a ciphertext PNG, got JPEG")
def image_from_jpeg(folder, key):
    encrypted_model(folder, key)
    Image.new("RGB", (32, 32)).save(folder / "x.jpg")
    return image_command("decrypt", "x.jpg", "out.png")


@bad("a decompression bomb|against decompression bombs")
def image_bomb(folder, key):
    encrypted_model(folder, key)
    Image.new("1", (20000, 10000)).save(folder / "x.png")
    return image_command("encrypt", "x.png", "out.png")


@bad("an encrypted model with its record, got a plain one")
def images_for_a_plain_model(folder, key):
    Image.new("RGB", (32, 32)).save(folder / "x.png")
    return "images", "encrypt", "x.png", "out.png", "--key", "owner.key", "--model", BUNDLED_FOLDER


@bad("a folder with images")
def images_none(folder, key):
    encrypted_model(folder, key)
    (folder / "empty").mkdir()
    return image_command("encrypt", "empty", "out")


@bad("a target that does not exist yet")
def target_exists(folder, key):
    (folder / "out").mkdir()
    (folder / "out" / "precious.txt").write_text("five years of work")
    return "model", "encrypt", NAME, "out", "--key", "owner.key"


@bad("a folder of nothing but config.json, model.safetensors, got precious.txt")
def target_with_other_files_forced(folder, key):
    (folder / "out").mkdir()
    (folder / "out" / "precious.txt").write_text("five years of work")
    return "model", "encrypt", NAME, "out", "--key", "owner.key", "--force"


@bad("Permission denied|Read-only")
def target_read_only(folder, key):
    (folder / "locked").mkdir(mode=0o555)
    return "model", "encrypt", NAME, "locked/out", "--key", "owner.key"


@bad("nothing of that name")
def model_of_no_name(folder, key):
    return "model", "encrypt", "convmixer_9000", "out", "--key", "owner.key"


@bad("hf-hub:me/nothing: config.json: expected a copy in the cache, got offline mode")
def model_of_no_repository(folder, key):
    return "model", "info", "hf-hub:me/nothing"


@bad("me/photos: expected a folder or a Hub data set, got no such folder, and offline mode; unset HF_HUB_OFFLINE")
def data_set_offline(folder, key):
    return "dataset", "info", "me/photos"


@bad("hf-hub:me/m: expected a repository to write to, got offline mode")
def push_offline(folder, key):
    encrypted_model(folder, key)
    return "model", "push", "enc", "me/m"


@bad("a key to encrypt the plain weights with, got none")
def push_of_a_plain_model_without_a_key(folder, key):
    return "model", "push", NAME, "me/m"


@bad("a folder or a .safetensors file, got nothing of that name")
def push_of_nothing(folder, key):
    return "model", "push", "nothing", "me/m"


@bad("encmixer eval --json prints, got something else")
def push_with_results_of_something_else(folder, key):
    encrypted_model(folder, key)
    (folder / "eval.json").write_text("[]")
    return "model", "push", "enc", "me/m", "--eval-results", "eval.json"


@bad("either DST, or hf-hub:ID with --push")
def rotate_push_of_a_folder(folder, key):
    encrypted_model(folder, key)
    return "model", "rotate", "enc", "--key", "owner.key", "--new-key", "owner.key", "--push"


@bad("recipient: expected an age public key .* got 'age1")
def seal_to_nobody(folder, key):
    encrypted_model(folder, key)
    return "model", "seal", "enc", "m.age", "--to", "age1nobody"


@bad("expected an identity or a passphrase, got neither")
def open_without_an_identity(folder, key):
    (folder / "m.age").write_bytes(b"age")
    return "model", "open", "m.age", "opened"


@bad("an identity file to read")
def open_with_a_missing_identity(folder, key):
    (folder / "m.age").write_bytes(b"age")
    return "model", "open", "m.age", "opened", "--identity", "nothing"


@bad("one folder of images per class")
def data_without_labels(folder, key):
    (folder / "data").mkdir()
    return "eval", "--model", NAME, "--key", "owner.key", "--data", "data"


@bad("labels from 0 to 9")
def data_of_another_model(folder, key):
    for index in range(11):
        (folder / "data" / f"{index:02}").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / "data" / f"{index:02}" / "x.png")
    return "eval", "--model", NAME, "--key", "owner.key", "--data", "data"


@bad(r"model: arch \(--arch\): expected convmixer_256_8_ks5_p4, as its config says, got 'convmixer_768_32'; leave it out")
def push_of_a_folder_as_another_architecture(folder, key):
    model_folder(folder)
    return "model", "push", "model", "me/x", "--key", "owner.key", "--arch", "convmixer_768_32"


@bad("enc: expected a plain model, got an encrypted one; give the plain model first")
def verification_of_an_encrypted_model_with_itself(folder, key):
    encrypted_model(folder, key)
    (folder / "data").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "data" / "x.png")
    return "model", "verify", "enc", "enc", "--key", "owner.key", "--images", "data"


@bad(r"^encmixer: error: mean: expected 3 numbers up to 1000000, one per channel, got .*\(--mean")
def mean_that_is_no_number(folder, key):
    model_folder(folder)
    return "model", "encrypt", "model", "out", "--key", "owner.key", "--mean", "nan,0,1e400", "--std", "1,1,1"


@bad("--only: expected names among adversarial_transfer, .*, weights_only, got 'guess'")
def audit_by_an_unknown_attack(folder, key):
    return "audit", "--only", "guess"


@bad("'thumbnail=much' is not ATTACK=THRESHOLD with a threshold from 0 to 1")
def audit_with_a_threshold_that_is_no_number(folder, key):
    return "audit", "--fail-on", "thumbnail=much"


@bad("'thumbnail=nan' is not ATTACK=THRESHOLD")
def audit_with_a_threshold_that_nothing_reaches(folder, key):
    return "audit", "--fail-on", "thumbnail=nan"


@bad("--fail-on: expected names among thumbnail, got 'key_reuse'")
def audit_with_a_threshold_for_what_is_not_run(folder, key):
    return "audit", "--only", "thumbnail", "--fail-on", "key_reuse=0.5"


@bad("a target that does not exist yet")
def audit_onto_a_folder(folder, key):
    (folder / "encmixer-audit").mkdir()
    return "audit", "--only", "thumbnail"


@bad("a folder of nothing but what this command writes, got diary.txt")
def audit_onto_a_folder_of_other_things(folder, key):
    (folder / "report").mkdir()
    (folder / "report" / "diary.txt").write_text("mine")
    return "audit", "--only", "thumbnail", "--out", "report", "--force"


@bad("owner.key/report: expected a folder to write")
def audit_into_a_file(folder, key):
    return "audit", "--out", "owner.key/report"


@bad("the key of the encrypted model, got none")
def audit_of_an_encrypted_model_without_its_key(folder, key):
    encrypted_model(folder, key)
    return "audit", "--model", "enc", "--only", "thumbnail"


@bad("ask the model's owner for its key")
def audit_with_another_key(folder, key):
    encrypted_model(folder, te.SecretKey(bytes(32)))
    return "audit", "--model", "enc", "--key", "owner.key", "--only", "thumbnail"


@bad("images: expected at least 4")
def audit_of_too_few_images(folder, key):
    (folder / "few").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "few" / "x.png")
    return "audit", "--images", "few", "--only", "thumbnail"


@bad("images, or one folder of images per class, got none")
def audit_of_no_images(folder, key):
    (folder / "none").mkdir()
    return "audit", "--images", "none", "--only", "thumbnail"


@bad("a folder or a Hub data set, got a file")
def audit_with_public_images_in_a_file(folder, key):
    (folder / "x.png").write_bytes(b"no image")
    return "audit", "--public-images", "x.png", "--only", "ciphertext_only_orthogonal"


@bad("no such command 'encrypt'")
def command_unknown(folder, key):
    return ("encrypt",)


@bad("missing argument 'DST'")
def argument_missing(folder, key):
    return "model", "encrypt", NAME


@bad("no such option.*--fast")
def option_unknown(folder, key):
    return "demo", "--fast"


def assert_refused(result: subprocess.CompletedProcess, message: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("encmixer: error: ")
    assert re.search(message, result.stderr, re.IGNORECASE), result.stderr


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, encmixer, key, key_file, tmp_path):
    """Exit code 2, one line that says what is wrong, nothing left behind, nothing lost, no key."""
    case, message = BAD[name]
    arguments = case(tmp_path, key)
    before = snapshot(tmp_path)
    result = encmixer(*arguments)
    assert_refused(result, message)
    assert snapshot(tmp_path) == before
    assert_no_secret(key, result.stdout + result.stderr)


def test_there_are_at_least_forty_bad_inputs():
    assert len(BAD) >= 40


@pytest.mark.parametrize("target", ["out", "out.safetensors"])
def test_a_full_disk(target, encmixer, key, key_file, tmp_path):
    """RLIMIT_FSIZE stands in for the full disk: writing fails in the middle of the file."""
    source = (NAME,) if target == "out" else (BUNDLED_WEIGHTS, *MEAN_STD)
    before = snapshot(tmp_path)
    result = encmixer("model", "encrypt", source[0], target, "--key", key_file, *source[1:], file_bytes=100_000)
    assert_refused(result, "File too large")
    assert snapshot(tmp_path) == before


def test_a_full_disk_for_images(encmixer, key, key_file, tmp_path, photos):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "enc", key)
    photos[0].save(tmp_path / "x.png")
    result = encmixer("images", "encrypt", "x.png", "out.png", "--key", key_file, "--model", "enc", file_bytes=100)
    assert_refused(result, "File too large")
    assert not (tmp_path / "out.png").exists()
    assert not list(tmp_path.glob(".out*"))


def test_ctrl_c_and_taking_the_run_up_again(key, key_file, tmp_path, photos):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "enc", key)
    (tmp_path / "photos").mkdir()
    for index in range(1500):
        photos[index % len(photos)].save(tmp_path / "photos" / f"{index}.bmp")
    words = ["-m", "timm_encmixer", "images", "encrypt", "photos", "sent", "--key", str(key_file), "--model", "enc"]
    with (tmp_path / "said").open("wb") as said:
        process = processes.start(words, env=os.environ, cwd=tmp_path, err=said.fileno())
    while len(list((tmp_path / "sent").glob("[!.]*.png"))) < 10:  # finished ones: a name with a dot is still being written
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    message = "encmixer: error: interrupted; nothing half-written is left, run the command again"
    assert (tmp_path / "said").read_text().splitlines() == [message]
    done = snapshot(tmp_path / "sent")
    assert 10 <= len(done) < 1500
    assert not list((tmp_path / "sent").glob(".*"))
    result = processes.run([*words, "--json"], env=os.environ, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["kept"] == len(done)
    assert counts["written"] == 1500 - len(done)
    assert done.items() <= snapshot(tmp_path / "sent").items()


def test_models_are_listed_filtered_and_searched(encmixer):
    listed = encmixer("models", "convmixer_*").stdout.splitlines()
    assert listed[-1] == "4 can be encrypted"
    assert listed[1].split()[:4] == ["convmixer_768_32", "ConvMixer", "7", "px"]
    found = json.loads(encmixer("models", "vit_base*", "--search", "POS_EMBED", "--json").stdout)
    assert found
    assert {(support["family"], support["constant"]) for support in found} == {("VisionTransformer", "pos_embed")}
    scrambled = encmixer("models", "vit_tiny*", "--scramble").stdout
    assert "vit_tiny_patch16_224" in scrambled
    assert "dinov3" not in scrambled
    refused = encmixer("models", "--refused", "--search", "resnet50").stdout
    assert "got kernel (7, 7), stride (2, 2)" in refused
    assert refused.splitlines()[-1].endswith(" refused")


@pytest.mark.parametrize("words", [["models", "--json"], ["--help"], ["dataset", "--help"]])
def test_a_reader_of_the_output_that_has_gone_is_no_check_that_failed(words, tmp_path):
    read, write = os.pipe()
    os.close(read)
    with (tmp_path / "stderr").open("wb") as err, os.fdopen(write, "wb") as out:
        places = {"out": out.fileno(), "err": err.fileno(), "address": processes.server()}
        run = processes.Child(["-m", "timm_encmixer", *words], env=dict(os.environ), cwd=tmp_path, **places)
        assert run.wait() == 141
    assert not (tmp_path / "stderr").read_text()
