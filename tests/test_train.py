"""examples/train.py: it trains, survives a kill on the same path, and gives a plain model that can be encrypted."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
import timm
from conftest import ROOT
from launch import command, env, launch

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images

SCRIPT = ROOT / "examples" / "train.py"
OPTIONS = [
    "--phases",
    "2:24:0.5",
    "1:32:0.6",
    "--batch-size",
    "32",
    "--holdout",
    "40",
    "--workers",
    "0",
    "--warmup-epochs",
    "1",
]


@pytest.fixture
def data(tmp_path):
    datasets = pytest.importorskip("datasets")
    images, labels, classes = bundled_images()
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    (tmp_path / "data").mkdir()
    for split, rows in (("train", slice(0, 240)), ("test", slice(240, 301))):
        table = datasets.Dataset.from_dict({"img": images[rows], "label": labels[rows]}, features=features)
        table.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "data"


def losses(folder):
    """Everything in the log but the seconds; the losses are written in full precision."""
    return [line.rpartition(",")[0] for line in (folder / "log.csv").read_text().splitlines()]


def test_a_killed_training_goes_on_along_the_same_path(data, key, tmp_path):
    arguments = [SCRIPT, "--data", data, *OPTIONS]
    launch(1, *arguments, "--out", tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [*command(1), *map(str, arguments), "--out", str(killed)],
        env=env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (killed / "latest.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.4)  # somewhere in the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = json.loads((killed / "latest.json").read_text())["finished"]
    assert f"resuming after epoch {finished}" in launch(1, *arguments, "--out", killed).stdout
    assert losses(killed) == losses(tmp_path / "whole")
    assert len(losses(killed)) == 4
    assert json.loads((killed / "result.json").read_text())["test_images"] == 61
    model = timm.create_model(f"local-dir:{killed}", pretrained=True)
    assert te.encrypt_model(model, key).encmixer.patch_size == 4


def test_two_processes_train_and_count_every_test_image_once(data, tmp_path):
    launch(2, SCRIPT, "--data", data, *OPTIONS, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["test_images"] == 61
    assert len(losses(tmp_path / "out")) == 4
