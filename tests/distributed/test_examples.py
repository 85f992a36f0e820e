"""The examples, unchanged, on one process and on two."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT, assert_no_secret
from launch import env, errors, launch
from processes import LONGEST_SECONDS

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.evaluation.accuracy import evaluate
from timm_encmixer.images.labelled import open_labelled_images

ROUNDING = 2**-23  # of float32

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def photos_by_class(tmp_path_factory):
    """101 real images, a number that no batch size divides, in a folder per class."""
    images, labels, classes = bundled_images()
    root = tmp_path_factory.mktemp("photos")
    for row in range(101):
        folder = root / f"{labels[row]}_{classes[labels[row]]}"
        folder.mkdir(exist_ok=True)
        images[row].save(folder / f"{row}.png")
    return root


@pytest.mark.nightly
def test_evaluation_gives_the_same_figures_on_one_process_and_on_two(photos_by_class, key, key_file, tmp_path):
    figures = []
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.json"
        options = ["--data", photos_by_class, "--key", key_file, "--wrong-keys", 2, "--batch-size", 16, "--json", out]
        run = launch(ranks, EXAMPLES / "evaluate.py", *options)
        assert_no_secret(key, out, run.stdout, run.stderr)
        figures.append(json.loads(out.read_text()))
    assert [result["num_processes"] for result in figures] == [1, 2]
    assert figures[0]["right"] == figures[1]["right"]
    assert figures[0]["images"] == figures[1]["images"] == 101
    right = figures[0]["right"]
    assert right["plain"] == right["right_key"] > 80
    assert max(right["no_key"], right["wrong_key_0"], right["wrong_key_1"]) < 30
    for result in figures:
        assert result["max_logit_difference"] <= 2 * result["noise_floor"]
        assert result["images_per_second"] > 0
    data = open_labelled_images(str(photos_by_class))
    with pytest.warns(UserWarning, match="2 classes, and the model has 10 outputs"):
        single = evaluate(load_model("convmixer_256_8_ks5_p4.cifar10"), key, data, progress=False)
    assert round(single.right_key * 101) == right["right_key"]


@pytest.mark.nightly
def test_bfloat16_evaluation_reports_its_own_floor(photos_by_class, key_file, tmp_path):
    options = ["--data", photos_by_class, "--key", key_file, "--json", tmp_path / "out.json"]
    launch(1, EXAMPLES / "evaluate.py", *options, ACCELERATE_MIXED_PRECISION="bf16")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["precision"] == "bf16"
    assert result["max_logit_difference"] <= 2 * result["noise_floor"]
    assert result["noise_floor"] > 1e-3


@pytest.mark.nightly
@pytest.mark.parametrize(("ranks", "steps"), [(2, 40), (1, 100)])
def test_training_on_ciphertext_takes_the_path_of_plain_training(ranks, steps, key, key_file, tmp_path):
    out = tmp_path / "out"
    launch(ranks, EXAMPLES / "train_encrypted.py", "--key", key_file, "--out", out, "--steps", steps, "--batch-size", 16)
    result = json.loads((out / "result.json").read_text())
    assert result["steps"] == steps
    assert result["last_loss"] < result["first_loss"]
    assert result["gap_float64"] < 1e-9
    assert result["gap_float32"] <= 2 * result["noise_float32"] + 4 * ROUNDING * result["first_loss"]
    assert len((out / "losses.csv").read_text().splitlines()) == steps + 1
    assert (out / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert te.scheme_of(load_model(str(out / "model"))).fingerprint == key.fingerprint
    assert_no_secret(key, out)


@pytest.mark.nightly
def test_adam_keeps_the_path_for_signed_permutations_only(key_file, tmp_path):
    gaps = {}
    for cipher in ("shuffle+negpos", "orthogonal"):
        out = tmp_path / cipher
        options = ["--optimizer", "adamw", "--lr", 0.001, "--cipher", cipher, "--steps", 20, "--batch-size", 16]
        launch(1, EXAMPLES / "train_encrypted.py", "--key", key_file, "--out", out, *options)
        gaps[cipher] = json.loads((out / "result.json").read_text())["gap_float64"]
    assert gaps["shuffle+negpos"] < 1e-9
    assert gaps["orthogonal"] > 1e-6


@pytest.mark.nightly
@pytest.mark.parametrize("ranks", [2, 1])
def test_a_third_party_fine_tunes_what_it_cannot_see(ranks, key, key_file, tmp_path):
    out = tmp_path / "out"
    options = ["--key", key_file, "--out", out, "--limit", 320, "--epochs", 2]
    launch(ranks, EXAMPLES / "finetune_encrypted.py", *options)
    result = json.loads((out / "result.json").read_text())
    right = result["right"]
    assert result["num_processes"] == ranks
    assert right["decrypted_model_on_plain_images"] == right["encrypted_model_on_ciphertext"] == right["plain_fine_tuning"]
    assert right["plain_fine_tuning"] > 2 * result["tested_on"] / 10  # better than chance
    assert result["max_logit_difference"] < 1e-3
    assert_no_secret(key, out)


@pytest.mark.nightly
def test_one_process_where_two_were_asked_for_is_said(photos_by_class, key_file):
    """In a fresh interpreter: what was asked for is read off the launcher's command line."""
    wrong = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    options = [str(EXAMPLES / "evaluate.py"), "--data", str(photos_by_class), "--key", str(key_file)]
    run = subprocess.run([*wrong, *options], capture_output=True, text=True, env=env(), timeout=LONGEST_SECONDS)
    assert run.returncode != 0
    assert errors(run) == [next(line for line in run.stderr.splitlines() if "expected 2 processes, got 1" in line)]


def test_a_key_that_only_another_process_could_read_is_one_error_for_all(photos_by_class, tmp_path):
    options = ["--data", photos_by_class, "--key", tmp_path / "missing.key"]
    run = launch(2, EXAMPLES / "evaluate.py", *options, check=False)
    assert run.returncode != 0
    assert len(errors(run)) == 1
    assert "missing.key: expected a key file to read" in errors(run)[0]
    assert "exitcode  : 2" in run.stderr  # what the launcher says of the processes
