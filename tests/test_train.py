"""examples/train.py: it trains, is resumable, and gives a plain model that can be encrypted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import timm
from conftest import ROOT

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images


def train(data, out, *options):
    command = [
        sys.executable,
        str(ROOT / "examples" / "train.py"),
        "--data",
        str(data),
        "--out",
        str(out),
        "--phases",
        *options,
    ]
    fixed = ["--batch-size", "32", "--holdout", "40", "--workers", "0", "--warmup-epochs", "1"]
    result = subprocess.run([*command, *fixed], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_training_resumes_on_the_same_path(tmp_path, key):
    datasets = pytest.importorskip("datasets")
    images, labels, classes = bundled_images()
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    (tmp_path / "data").mkdir()
    for split, rows in (("train", slice(0, 240)), ("test", slice(240, 300))):
        table = datasets.Dataset.from_dict({"img": images[rows], "label": labels[rows]}, features=features)
        table.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    train(tmp_path / "data", tmp_path / "whole", "1:24:0.5", "1:32:0.6")
    (tmp_path / "halves").mkdir()
    train(tmp_path / "data", tmp_path / "halves", "1:24:0.5", "1:32:0.6", "--stop-after", "1")
    assert not (tmp_path / "halves" / "result.json").exists()
    assert "resuming after epoch 1" in train(tmp_path / "data", tmp_path / "halves", "1:24:0.5", "1:32:0.6")
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "halves")]
    assert [line.rpartition(",")[0] for line in logs[0]] == [line.rpartition(",")[0] for line in logs[1]]
    assert json.loads((tmp_path / "halves" / "result.json").read_text())["test_images"] == 60
    model = timm.create_model(f"local-dir:{tmp_path / 'halves'}", pretrained=True)
    assert te.encrypt_model(model, key).encmixer.patch_size == 4
