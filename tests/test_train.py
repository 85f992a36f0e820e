"""examples/train.py: it trains, survives kills on the same path, and gives a plain model that can be encrypted."""

from __future__ import annotations

import json
import signal

import pytest
import timm
from conftest import ROOT
from launch import launch

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


# The script, in a process that dies after its so-manieth step, or before the state of a finished epoch gets its name.
DIES = """
import os, runpy, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
step, epoch, *sys.argv = sys.argv[1:]
steps = epochs = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def stepped(*_):
    global steps
    steps += 1
    if steps == int(step):
        die()

def watch(event, details):
    global epochs
    if event == "os.rename" and str(details[1]).endswith("latest.json"):
        epochs += 1
        if epochs == int(epoch):
            die()

register_optimizer_step_post_hook(stepped)
sys.addaudithook(watch)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STEPS = 200 // 32  # of an epoch: images that are not held out, in whole batches


@pytest.mark.nightly
def test_a_killed_training_goes_on_along_the_same_path(data, key, tmp_path):
    arguments = [SCRIPT, "--data", data, *OPTIONS]
    launch(1, *arguments, "--out", tmp_path / "whole")
    killed = tmp_path / "killed"

    def dies(*, step: int = 0, epoch: int = 0) -> str:
        run = launch(1, "-c", DIES, step, epoch, *arguments, "--out", killed, check=False)
        assert run.returncode == -signal.SIGKILL, run.stderr
        return run.stdout

    dies(step=STEPS + STEPS // 2)  # in the middle of the second epoch
    assert json.loads((killed / "latest.json").read_text())["finished"] == 1
    assert "resuming after epoch 1" in dies(epoch=1)  # the second epoch is logged, and its state is not named yet
    assert json.loads((killed / "latest.json").read_text())["finished"] == 1
    assert len(losses(killed)) == 3
    assert "resuming after epoch 1" in launch(1, *arguments, "--out", killed).stdout
    assert losses(killed) == losses(tmp_path / "whole")
    assert len(losses(killed)) == 4
    assert json.loads((killed / "result.json").read_text())["test_images"] == 61
    model = timm.create_model(f"local-dir:{killed}", pretrained=True)
    assert te.encrypt_model(model, key).encmixer.patch_size == 4


@pytest.mark.nightly
def test_two_processes_train_and_count_every_test_image_once(data, tmp_path):
    launch(2, SCRIPT, "--data", data, *OPTIONS, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["test_images"] == 61
    assert len(losses(tmp_path / "out")) == 4
