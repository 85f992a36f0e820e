"""The JavaScript client under Node: its own tests, with the Python package's answers in files; Python reads what it wrote."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT
from mutations import mutated
from PIL import Image

import timm_encmixer as te
from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.ciphers.formats import pixels_of
from timm_encmixer.images.image_record import attach_record, png_info
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.images.reading import open_plain, to_channels
from timm_encmixer.scheme import CIPHERS, Preprocessing

CLIENT = ROOT / "timm_encmixer" / "web" / "client"
NODE = shutil.which("node")
OLDEST_NODE = 20
UINT8_CIPHERS = [name for name in CIPHERS if "orthogonal" not in name]
FILTERS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
COMPAT = ROOT / "tests" / "compat"
LARGEST_DIFFERENCE = 1  # grey levels
Pixels = np.ndarray


def node_version() -> int:
    """The first number of Node's version; 0 where there is none."""
    if NODE is None:
        return 0
    return int(subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout[1:].partition(".")[0])


needs_node = pytest.mark.skipif(
    node_version() < OLDEST_NODE, reason=f"no Node {OLDEST_NODE} here: Debian's package nodejs has it"
)
needs_npm = pytest.mark.skipif(not (CLIENT / "node_modules").exists(), reason="make web installs what the build needs")


def test_the_package_for_npm_is_of_this_version_and_names_no_registry():
    package, lock = (json.loads((CLIENT / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == te.__version__
    assert package["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"]
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert "dependencies" not in package  # the bundle has all that it needs
    assert not [name for name, one in lock["packages"].items() if name and ("resolved" in one or "integrity" not in one)]


@needs_node
@needs_npm
def test_the_bundle_is_what_the_build_makes_and_has_the_types_that_it_declares():
    done = node("build.js", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    done = node("node_modules/typescript/bin/tsc")
    assert done.returncode == 0, done.stdout


@needs_node
@needs_npm
def test_the_build_finds_a_bundle_that_was_changed(tmp_path):
    for name in ("src", "build.js", "package.json", "node_modules"):
        (tmp_path / name).symlink_to(CLIENT / name)
    (tmp_path / "dist").mkdir()
    for path in (CLIENT / "dist").iterdir():
        (tmp_path / "dist" / path.name).write_text(path.read_text() + "// changed\n")
    done = subprocess.run(
        [NODE, "--preserve-symlinks", "--preserve-symlinks-main", "build.js", "--check"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "dist/encmixer.js: not what" in done.stderr
    assert "dist/encmixer.d.ts: not what" in done.stderr


@needs_node
def test_it_is_python_s_client_in_javascript(tmp_path):
    cases = make_cases(tmp_path, ciphers=45, photos=150, records=600)
    done = node("--test", "--test-reporter=tap", *map(str, (CLIENT / "test").glob("*.test.js")), ENCMIXER_CASES=str(tmp_path))
    failures = re.findall(r"^not ok .*?^  \.\.\.$", done.stdout, re.M | re.S)
    assert done.returncode == 0, "\n".join(failures) or done.stderr
    assert re.search(r"^# skipped 0$", done.stdout, re.M), done.stdout[-2000:]
    assert int(re.search(r"^# pass (\d+)$", done.stdout, re.M)[1]) > 60
    check_equal(done.stdout)
    for case in cases["ciphers"]:
        check_written(tmp_path, case)


def make_cases(folder: Path, *, ciphers: int, photos: int, records: int) -> dict[str, list[dict[str, Any]]]:
    """Make the files that test/python.test.js reads, and return what cases.json lists."""
    chance, noise = random.Random(7), np.random.default_rng(7)
    cases = {
        "ciphers": [cipher_case(folder, f"cipher-{number}", chance, noise) for number in range(ciphers)],
        "preprocessing": [preprocessing_case(folder, f"photo-{number}", chance, noise) for number in range(photos)],
        "reading": reading_cases(folder, noise),
        "records": [record_case(chance) for _ in range(records)],
        "configs": config_cases(folder),
    }
    (folder / "cases.json").write_text(json.dumps(cases))
    return cases


def check_equal(output: str) -> None:
    """Nearly all images are the same bytes after preprocessing, as the tests' output says."""
    equal, of = map(int, re.search(r"(\d+) of (\d+) images are the same bytes", output).groups())
    print(f"preprocessing: {equal} of {of} images are the same bytes")
    assert equal > 0.9 * of


@contextlib.contextmanager
def resizing_as_pillow_13() -> Iterator[None]:
    """Let Pillow of any version resize tall images as 13 does, down before across: as two calls."""
    resize = Image.Image.resize

    def in_passes(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
        shrinks = image.height - size[1]
        is_tall = shrinks > 0 and shrinks > 2 * (image.width - size[0])
        if is_tall and resample != Image.Resampling.NEAREST:
            image = resize(image, (image.width, size[1]), resample)
        return resize(image, size, resample)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Image.Image, "resize", in_passes)
        yield


def node(*words: str, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, **environment}
    return subprocess.run([NODE, *words], cwd=CLIENT, env=env, capture_output=True, text=True, timeout=600, check=False)


def cipher_case(folder: Path, name: str, chance: random.Random, noise: np.random.Generator) -> dict[str, Any]:
    """A random key, cipher and image, with Python's ciphertext."""
    cipher = UINT8_CIPHERS[int(name.rpartition("-")[2]) % len(UINT8_CIPHERS)]
    channels, patch = chance.choice((1, 3)), chance.choice((8, 16, 24, 32) if "etc" in cipher else range(2, 33))
    rows, columns = chance.randint(1, 6), chance.randint(1, 6)
    key = te.SecretKey.generate()
    key.save(folder / f"{name}.key")
    scheme = te.Scheme(
        cipher=cipher,
        patch_size=patch,
        in_chans=channels,
        fingerprint=key.fingerprint,
        grid=(rows, columns) if "scramble" in cipher else None,
    )
    plain = noise.integers(0, 256, (rows * patch, columns * patch, channels), np.uint8)
    made = te.ImageCipher(key, scheme)
    ciphertext = made.encrypt(plain)
    (folder / f"{name}.plain").write_bytes(plain.tobytes())
    (folder / f"{name}.encrypted").write_bytes(ciphertext.tobytes())
    image = Image.fromarray(ciphertext.squeeze(2) if channels == 1 else ciphertext)
    attach_record(image, made)
    image.save(folder / f"{name}.python.png", pnginfo=png_info(image))
    return {"name": name, "record": scheme.to_dict(), "shape": plain.shape}


def check_written(folder: Path, case: dict[str, Any]) -> None:
    """The client's PNG has the ciphertext's pixels and record; Python decrypts it; a plain one has the plain pixels alone."""
    name, shape = case["name"], case["shape"]
    plain = np.frombuffer((folder / f"{name}.plain").read_bytes(), np.uint8).reshape(shape)
    with Image.open(folder / f"{name}.png") as written, Image.open(folder / f"{name}.python.png") as python:
        assert np.array_equal(np.asarray(written), np.asarray(python))
        assert written.mode == python.mode
        assert written.info == python.info  # the record
        assert (folder / f"{name}.png").read_bytes()[33:].startswith(struct.pack(">I", len(written.info["encmixer"]) + 9))
    counts = te.decrypt_images(
        folder / f"{name}.png",
        folder / f"{name}.back.png",
        folder / f"{name}.key",
        te.Scheme.from_dict(case["record"]),
        strict=True,
    )
    assert (counts.written, counts.unmarked) == (1, 0)
    for back in (f"{name}.back.png", f"{name}.plain.png"):
        with Image.open(folder / back) as image:
            assert np.array_equal(pixels_of(image, shape[2]), plain)
            assert image.info == {}


def preprocessing_case(folder: Path, name: str, chance: random.Random, noise: np.random.Generator) -> dict[str, Any]:
    """A random image and preprocessing, with what Python would encrypt."""
    channels = chance.choice((1, 3, 3))
    mode = chance.choice(("RGB", "RGB", "RGB", "L", "RGBA", "LA", "P"))
    size = chance.choice(((chance.randint(1, 90), chance.randint(1, 90)), (chance.randint(90, 400), chance.randint(90, 400))))
    square = chance.random() < 0.7
    side = 4 * chance.randint(2, 20)
    plain = {
        "input_size": (channels, side, side if square else 4 * chance.randint(2, 20)),
        "mean": tuple(round(chance.random(), 3) for _ in range(channels)),
        "std": (0.25,) * channels,
        "interpolation": FILTERS[int(name.rpartition("-")[2]) % len(FILTERS)],
        "crop_pct": chance.choice((0.875, 0.9, 0.95, 1.0, 1.0, 1.15)),
        "crop_mode": chance.choice(("center", "center", "squash", "border")),
    }
    scheme = te.Scheme(patch_size=4, in_chans=channels, fingerprint="0" * 16, plain=Preprocessing(**plain))
    image = photo_like(size, noise).convert(mode) if mode != "RGBA" else with_alpha(photo_like(size, noise), noise)
    exif = Image.Exif()
    exif[0x0112] = chance.randint(1, 8)
    image.save(folder / f"{name}.png", **({"exif": exif} if chance.random() < 0.5 else {}))
    upright = to_channels(open_plain(folder / f"{name}.png"), channels)
    with resizing_as_pillow_13():
        expected = pixels_of(resize_and_crop(upright, scheme.plain), channels)
    (folder / f"{name}.expected").write_bytes(expected.tobytes())
    return {"name": name, "record": scheme.to_dict(), "shape": expected.shape, "most": LARGEST_DIFFERENCE}


def photo_like(size: tuple[int, int], noise: np.random.Generator) -> Image.Image:
    """Smooth colours, hard edges and noise: what makes filters overshoot."""
    width, height = size
    coarse = Image.fromarray(noise.integers(0, 256, (5, 5, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = noise.normal(0, 40, (height, width, 3)) * (noise.random((height, width, 1)) < 0.5)
    edges = 255 * (noise.random((height, width, 1)) < 0.05)
    return Image.fromarray(np.clip(np.asarray(coarse) + grain + edges, 0, 255).astype(np.uint8))


def with_alpha(image: Image.Image, noise: np.random.Generator) -> Image.Image:
    image.putalpha(Image.fromarray(noise.integers(0, 256, (image.height, image.width), np.uint8)))
    return image


def reading_cases(folder: Path, noise: np.random.Generator) -> list[dict[str, Any]]:
    """PNG files of every colour type, depth and order of rows, with the pixels that Python reads."""
    cases = []
    for colour, samples, depths in (
        (0, 1, (1, 2, 4, 8, 16)),
        (2, 3, (8, 16)),
        (3, 1, (1, 2, 4, 8)),
        (4, 2, (8, 16)),
        (6, 4, (8, 16)),
    ):
        for depth in depths:
            for interlaced, (height, width) in ((False, (5, 7)), (True, (9, 13)), (True, (2, 1))):
                name = f"read-{colour}-{depth}-{interlaced}-{height}"
                values = noise.integers(0, 2**depth, (height, width, samples))
                palette = noise.integers(0, 256, (2**depth, 3), np.uint8) if colour == 3 else None
                (folder / f"{name}.png").write_bytes(png(values, colour, depth, palette, interlaced, noise))
                channels = 3 if colour in (2, 3, 6) else 1
                expected = pixels_of(to_channels(open_plain(folder / f"{name}.png"), channels), channels)
                (folder / f"{name}.expected").write_bytes(expected.tobytes())
                cases.append({"name": name, "shape": expected.shape})
    return cases


def png(values: Pixels, colour: int, depth: int, palette: Pixels | None, interlaced: bool, noise: np.random.Generator) -> bytes:
    """Encode samples (H, W, S) with random filters, also in Adam7's order. Source: PNG specification, third edition."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for left, top, across, down in passes if interlaced else ((0, 0, 1, 1),):
        part = values[top::down, left::across]
        before = None
        for row in part if part.shape[1] else ():
            bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
            line = np.packbits(bits.astype(np.uint8).reshape(-1)).astype(np.int64)
            before = np.zeros_like(line) if before is None else before
            rows += filtered(line, before, max(1, values.shape[2] * depth // 8), int(noise.integers(0, 5)))
            before = line
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *([] if palette is None else [(b"PLTE", palette.tobytes())])]
    chunks += [(b"IDAT", part) for part in (zlib.compress(rows)[:9], zlib.compress(rows)[9:])] + [(b"IEND", b"")]
    whole = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + whole


def filtered(line: Pixels, up: Pixels, step: int, kind: int) -> bytes:
    """A row of bytes after one of PNG's filters, behind the filter's number."""
    left = np.concatenate((np.zeros(step, np.int64), line))[: len(line)]
    corner = np.concatenate((np.zeros(step, np.int64), up))[: len(line)]
    distances = np.abs(np.stack((up - corner, left - corner, left + up - 2 * corner)))
    paeth = np.choose(distances.argmin(axis=0), (left, up, corner))
    predicted = (np.zeros_like(line), left, up, (left + up) // 2, paeth)[kind]
    return bytes([kind]) + ((line - predicted) % 256).astype(np.uint8).tobytes()


def record_case(chance: random.Random) -> dict[str, Any]:
    """A record with random changes, and how Python reads it; None where it refuses."""
    text = mutated((COMPAT / f"record-{chance.randint(1, 4)}.json").read_text(), chance)
    try:
        return {"text": text, "record": te.Scheme.from_json(text).to_dict()}
    except te.EncMixerError:
        return {"text": text, "record": None}


def config_cases(folder: Path) -> list[dict[str, Any]]:
    cases = []
    for model in sorted(COMPAT.glob("encrypted-*")):
        shutil.copy(model / "config.json", folder / f"{model.name}.json")
        cases.append({"name": f"{model.name}.json", "record": find_scheme(model).to_dict()})
    return cases
