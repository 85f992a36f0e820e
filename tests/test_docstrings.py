"""The examples in the docstrings of public names run, on a machine of its own and with a Hub."""

from __future__ import annotations

import shutil

import pytest

import timm_encmixer as te

NAMES = [name for name in te.__all__ if callable(getattr(te, name))]

PROGRAM = """
import doctest, sys
import accelerate, timm, torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
import timm_encmixer as te

names = {name: globals()[name] for name in ("accelerate", "timm", "torch", "Image", "DataLoader", "TensorDataset", "te")}
runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
for name in NAMES:
    for test in doctest.DocTestFinder(recurse=False).find(getattr(te, name), name, globs=dict(names)):
        assert test.examples, f"{name}: no example"
        runner.run(test, out=sys.stderr.write)
for name in METHODS:
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(te.SecretKey, name), name, globs=dict(names))
    runner.run(test, out=sys.stderr.write)
sys.exit(bool(runner.summarize(verbose=False).failed))
"""


@pytest.fixture
def machine(owner, encrypted, photos, key):
    """What the examples name: a key, a plain and an encrypted model, photos."""
    folder = owner.cwd
    key.save(folder / "owner.key")
    shutil.copytree(encrypted, folder / "encrypted")
    te.decrypt_checkpoint(encrypted, folder / "plain", key)
    (folder / "photos").mkdir()
    for index, photo in enumerate(photos[:2]):
        photo.resize((50, 40)).save(folder / "photos" / f"{index}.png")
    photos[0].save(folder / "photo.png")
    return owner


def test_every_public_name_has_an_example_that_runs(machine):
    machine.python(f"NAMES, METHODS = {NAMES}, ['new']\n{PROGRAM}")
