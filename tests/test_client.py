"""A client's installation: the package and a few libraries, without torch and timm, as a line of docs/client.md makes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_no_secret
from packaging.requirements import Requirement
from PIL import Image

import timm_encmixer as te

HEAVY = ("torch", "timm", "torchvision", "accelerate")


def libraries() -> list[str]:
    """The names in the line of docs/client.md that installs a client."""
    text = (ROOT / "docs" / "client.md").read_text()
    line = re.search(r"pip install --no-deps \S+ && \S*pip install (.+)", text)
    assert line is not None
    return line[1].split()


def with_dependencies(names: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        needs = [Requirement(text) for text in distribution(name).requires or ()]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Path:
    """Python of a virtual environment that has what the documented line installs, and nothing else."""
    root = tmp_path_factory.mktemp("client") / "venv"
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib/python*/site-packages"))
    for name in with_dependencies(libraries()):
        one = distribution(name)
        for top in {path.parts[0] for path in one.files or () if path.parts[0] not in ("..", "__pycache__")}:
            (packages / top).symlink_to(one.locate_file(top))
    (packages / "timm_encmixer").symlink_to(ROOT / "timm_encmixer")
    return root / "bin" / "python"


def run(python: Path, cwd: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TIMM_ENCMIXER", "HF_"))}
    command = [python, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, check=False)


@pytest.fixture
def album(photos, encrypted_folder, key_file, tmp_path) -> Path:
    (tmp_path / "album").mkdir()
    for index, photo in enumerate(photos[:3]):
        photo.resize((52, 40)).save(tmp_path / "album" / f"{index}.jpg")
    return tmp_path


@pytest.mark.parametrize("name", HEAVY)
def test_the_installation_has_no(client, name, tmp_path):
    assert f"No module named '{name}'" in run(client, tmp_path, "-c", f"import {name}").stderr


def test_the_commands_of_a_client(client, album, key):
    def encmixer(*words: object) -> str:
        done = run(client, album, "-m", "timm_encmixer", *words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout + done.stderr

    with_key = ("--key", "owner.key", "--model", "encrypted")
    said = encmixer("key", "new", "own.key") + encmixer("key", "show", "owner.key")
    assert key.fingerprint in said
    said += encmixer("images", "encrypt", "album", "sent", *with_key) + encmixer("images", "decrypt", "sent", "back", *with_key)
    said += encmixer("model", "info", "encrypted") + encmixer("dataset", "info", "album")
    said += encmixer("models", "vit_*") + encmixer("models", "--search", "pos_embed")
    for name in ("0.png", "1.png", "2.png"):
        plain = te.create_transform(album / "encrypted", key=key).prepare(
            Image.open(album / "album" / name.replace("png", "jpg"))
        )
        assert np.array_equal(Image.open(album / "back" / name), plain)
    assert_no_secret(key, said, album / "sent")


def test_what_needs_torch_says_so_in_one_line(client, album):
    with_key = ("--key", "owner.key")
    for words in (("model", "decrypt", "encrypted", "plain", *with_key), ("demo",)):
        done = run(client, album, "-m", "timm_encmixer", *words)
        assert done.returncode == 2
        assert re.fullmatch(r"encmixer: error: .*the package (torch|timm)\b.*pip install \.\n", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("code", "needs"),
    [
        ("te.encrypt_model", "torch"),
        ("te.BlockCipher", "torch"),
        ("te.save_model", "(torch|timm)"),
        ("te.create_transform('encrypted', key='owner.key')", "torch"),
    ],
)
def test_python_says_what_is_missing(client, album, code, needs):
    done = run(client, album, "-c", f"import timm_encmixer as te; {code}")
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"MissingExtraError: .*the package {needs}, got a client's installation.*pip install \.$", last), last


@pytest.fixture(scope="module")
def without_hub(client, tmp_path_factory) -> Path:
    """The same without huggingface-hub."""
    root = tmp_path_factory.mktemp("offline") / "venv"
    shutil.copytree(client.parents[1], root, symlinks=True)
    next(root.glob("lib/python*/site-packages/huggingface_hub")).unlink()
    return root / "bin" / "python"


def test_without_the_hubs_library(without_hub, album):
    for words in (("dataset", "info", "album"), ("model", "info", "encrypted")):
        done = run(without_hub, album, "-m", "timm_encmixer", *words)
        assert done.returncode == 0, done.stderr
    done = run(without_hub, album, "-m", "timm_encmixer", "model", "info", "hf-hub:me/model")
    assert done.returncode == 2
    assert re.fullmatch(r"encmixer: error: .*huggingface_hub.*pip install huggingface-hub\n", done.stderr), done.stderr


PYTHON = """
import sys
import numpy as np
import timm_encmixer as te
from PIL import Image

source = sys.argv[1]
key = te.SecretKey.load("owner.key")
image = Image.open("album/0.jpg")
send = te.create_transform(source, key=key, output="image")
send(image).save("one.png", pnginfo=te.images.png_info(send(image)))
te.encrypt_images("album", "many", key, source)
assert np.array_equal(Image.open("one.png"), Image.open("many/0.png"))
cipher = te.ImageCipher(key, te.Scheme(patch_size=4))
array = np.asarray(image)
assert np.array_equal(np.asarray(cipher.decrypt(cipher.encrypt(image))), array)
assert np.array_equal(cipher.decrypt(cipher.encrypt(array)), array)
assert not {"torch", "timm"} & set(sys.modules)
"""


def test_python_of_a_client(client, album, key):
    done = run(client, album, "-c", PYTHON, "encrypted")
    assert done.returncode == 0, done.stderr
    assert_no_secret(key, album / "one.png", album / "many")


def test_a_client_of_a_repository(client, album, hub, key):
    """Only config.json and the header of the weights are fetched, from a real server."""
    hub.store.repo(
        "me/model", {name: (album / "encrypted" / name).read_bytes() for name in ("config.json", "model.safetensors")}
    )
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(album / "home")}
    done = run(client, album, "-c", PYTHON, "hf-hub:me/model", **environment)
    assert done.returncode == 0, done.stderr
    done = run(client, album, "-m", "timm_encmixer", "model", "info", "hf-hub:me/model", **environment)
    assert done.returncode == 0, done.stderr
    assert key.fingerprint in done.stdout


def test_the_full_installation_does_not_load_torch_either(album):
    done = run(Path(sys.executable), album, "-c", PYTHON, "encrypted", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
