"""The tables of docs/benchmark.md are those of the files beside it, and the script gives the cheap cells again."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from conftest import ROOT

from timm_encmixer.audit import ATTACKS, PUBLISHED_CIPHERS, run_cipher
from timm_encmixer.audit.attack import BROKEN, HOLDS

DOCUMENT = ROOT / "docs" / "benchmark.md"
CHEAP = ("known_tables", "chosen_plaintext", "thumbnail", "feature_reconstruction")
UNTRAINED = ("aes_ctr", "noise")  # a network would learn nothing
AGAIN = ("le", "pixelwise_per_image", "shf", "aes_ctr", "encmixer_shuffle_negpos")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "examples" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["benchmark"]


@pytest.fixture(scope="module")
def reports(script):
    return script.reports()


def test_the_tables_are_those_of_the_files(script, reports):
    document = DOCUMENT.read_text()
    assert script.with_tables(document) == document
    assert list(reports) == list(script.PUBLISHED_CIPHERS)
    assert set(script.PUBLISHED_CIPHERS) == set(PUBLISHED_CIPHERS)
    changed = document.replace("| holds", "| broken", 1).replace("one key |", "none |", 1)
    assert changed != document
    assert script.with_tables(changed) == document
    assert "pictures/benchmark.jpg" in document
    assert script.GALLERY.is_file()


def test_the_files_are_of_one_setting(script, reports):
    for name, report in reports.items():
        assert report["settings"]["scheme"] == repr(script.make_cipher(name))
        assert (report["settings"]["budget"], report["settings"]["seeds"]) == ("quick", [0])
        assert set(report["attacks"]) <= set(ATTACKS)
        assert name in UNTRAINED or {"right key", "wrong key"} <= set(report["accuracy"])


def test_what_everybody_reads_and_what_nobody_reads(reports):
    """The controls say whether the benchmark itself is right."""
    open_ones = {name: result["verdict"] for name, result in reports["identity"]["attacks"].items()}
    assert open_ones["known_plaintext"] == open_ones["ciphertext_only_shuffle"] == BROKEN
    for name in ("aes_ctr", "noise"):
        run = {result["verdict"] for result in reports[name]["attacks"].values() if result["reason"] is None}
        assert run == {HOLDS}, name


def test_the_encrypted_model_has_the_plain_models_accuracy(reports):
    for name in ("encmixer_shuffle_negpos", "encmixer_etc"):
        accuracies = reports[name]["accuracy"]
        assert accuracies["right key"] == pytest.approx(accuracies["plain model"], abs=0.001)
        assert accuracies["wrong key"] < accuracies["plain model"] - 0.2


@pytest.mark.nightly
@pytest.mark.parametrize("name", AGAIN)
def test_cheap_cells_come_out_again(script, reports, name):
    scheme, written = script.make_cipher(name), reports[name]
    cost = script.costs(scheme)
    for size in ("bytes as PNG", "bytes as JPEG"):
        assert cost[size] == pytest.approx(written["costs"][size], rel=0.01)
    kinds = [ATTACKS[attack] for attack in CHEAP]
    attacks = [
        kind() if kind.curve is None else kind(points=kind.curve.quick[-1:]) for kind in kinds
    ]  # as far as the table shows
    report = run_cipher(scheme.encryption, keyed=True, block=4, attacks=attacks, progress=False)
    for attack, result in report.results.items():
        before = written["attacks"][attack]
        assert result.verdict == before["verdict"], attack
        assert result.seen_psnr_db == pytest.approx(before["seen_psnr_db"], abs=0.2)
        assert result.seen_ssim == pytest.approx(before["seen_ssim"], abs=0.02)
    for control, figures in report.to_dict()["controls"].items():
        assert figures == pytest.approx(written["controls"][control], abs=1e-3)


def test_training_reads_what_was_encrypted(script, monkeypatch):
    """One short training, on few images: the network learns from ciphertext, and other keys are of no use."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 600)
    colours = rng.integers(0, 256, (10, 3))
    images = np.clip(colours[labels][:, None, None] + rng.normal(0, 20, (600, 32, 32, 3)), 0, 255).astype(np.uint8)
    torch = script.torch
    monkeypatch.setattr(script, "cifar", lambda data, split: (images, torch.from_numpy(labels)))
    monkeypatch.setitem(script.BUDGETS, "quick", ({"dim": 16, "depth": 1, "kernel_size": 3}, 6))
    args = script.argparse.Namespace(budget="quick", epochs=6, data=None)
    found = script.conventional(script.make_cipher("shf"), args, 0, "cpu")
    assert found["right key"] > 0.5
    own = script.ours(script.make_cipher("encmixer_shuffle_negpos"), args, 0, "cpu")
    assert own["plain model"] == own["right key"] > 0.5
    assert own["wrong key"] < own["right key"]


def test_shifts_and_mirror_images_are_of_the_same_image(script):
    images = np.arange(2 * 32 * 32 * 3, dtype=np.int64).reshape(2, 32, 32, 3).astype(np.uint8)
    images[:] = np.arange(32, dtype=np.uint8)[None, None, :, None]
    made = script.augmented(images, np.random.default_rng(0))
    assert made.shape == images.shape
    steps = np.diff(made.astype(int), axis=2)
    assert set(np.unique(np.abs(steps))) <= {1}
