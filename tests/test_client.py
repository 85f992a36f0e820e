"""A client's installation: the wheel of client/ and what it asks for, without torch and timm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_no_secret
from packaging.requirements import Requirement
from PIL import Image

import timm_encmixer as te

HEAVY = ("torch", "timm", "torchvision", "accelerate")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """Both distributions, built from the same tree, by name."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*build, ROOT, ROOT / "client"], check=True)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


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
def client(wheels, tmp_path_factory) -> Path:
    """Python of a virtual environment that has what the wheel installs, and nothing else."""
    root = tmp_path_factory.mktemp("client") / "venv"
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheels["timm_encmixer_client"]) as wheel:
        wheel.extractall(packages)
    (asked,) = Distribution.discover(name="timm-encmixer-client", path=[str(packages)])
    needs = [Requirement(text) for text in asked.requires or ()]
    for name in with_dependencies([need.name for need in needs if need.marker is None]):
        one = distribution(name)
        for top in {path.parts[0] for path in one.files or () if path.parts[0] not in ("..", "__pycache__")}:
            (packages / top).symlink_to(one.locate_file(top))
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


def test_both_distributions_have_the_same_files(wheels):
    names = [{name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name} for path in wheels.values()]
    assert names[0] == names[1]
    licences = [
        {name.rpartition("/")[2] for name in zipfile.ZipFile(path).namelist() if "/licenses/" in name}
        for path in wheels.values()
    ]
    assert licences[0] == licences[1] == {"LICENSE", "NOTICE"}
    assert not [name for name in names[0] if "web/client/" in name and "/dist/" not in name]


def test_the_client_asks_for_nothing_that_the_full_distribution_does_not_ask_for(wheels):
    full, client = (described(wheels[name]) for name in ("timm_encmixer", "timm_encmixer_client"))
    needs = {text for text in client.get_all("Requires-Dist") if "extra" not in text}
    assert needs < set(full.get_all("Requires-Dist"))
    assert client["Version"] == full["Version"] == te.__version__
    assert client["License-Expression"] == full["License-Expression"]


def described(wheel: Path) -> Message:
    """The metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


@pytest.mark.nightly
def test_pip_installs_the_wheel_in_a_new_environment(wheels, album, tmp_path):
    """With the dependencies that a package index has now."""
    venv.create(tmp_path / "new", with_pip=True)
    python = tmp_path / "new" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", wheels["timm_encmixer_client"]], check=True)
    command = [python.parent / "encmixer", "images", "encrypt", "album", "sent", "--key", "owner.key", "--model", "encrypted"]
    assert subprocess.run(command, cwd=album, check=True, capture_output=True, text=True).stdout.startswith("written 3")
    assert run(python, album, "-c", "import torch").returncode != 0


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
    assert encmixer("--version") == f"encmixer, version {te.__version__}\n"
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
