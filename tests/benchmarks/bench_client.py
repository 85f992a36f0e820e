"""What a client pays: processor time of its commands, and what the cipher costs in the whole pipeline, side by side.

    python tests/benchmarks/bench_client.py

- start: user and system time of a command as the operating system counts it, least of the rounds, beside `python -c pass` and
  `python -c "import torch"` of the same rounds;
- pipeline: `encmixer images encrypt`, as its function, of 1,000 JPEG photos of 512 x 384 px to 224 px, on all cores, against
  the same with the cipher taken out, alternating, by processor time; and each step alone;
- one pipeline: processor time of `encrypt_images` and of `encrypt_dataset` for the same folder of 400 small photos.
"""

from __future__ import annotations

import dataclasses
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_dataset import mosaic
from PIL import Image

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER
from timm_encmixer.images import encryption
from timm_encmixer.images.codec import ENCRYPT, make_codec
from timm_encmixer.images.formats.png import FORMAT as PNG
from timm_encmixer.images.formats.png import png_encoder
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.images.reading import open_plain
from timm_encmixer.scheme import Preprocessing

ROUNDS, PIPELINE_ROUNDS, PHOTOS, SMALL = 5, 9, 1000, 400
PLAIN = Preprocessing(input_size=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_pct=0.96)
LIMITS = {
    "images encrypt of one photo": 0.6,
    "key new": 0.4,
    "key show": 0.4,
    "model info FOLDER": 0.4,
    "images encrypt --help": 0.4,
}


def processor_seconds(command: list[str], cwd: Path) -> float:
    """Return what a process and its children took, as `time` counts it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starts(root: Path) -> None:
    with_key = ("--key", "owner.key", "--model", "encrypted")
    encmixer = [sys.executable, "-m", "timm_encmixer"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        'python -c "import torch"': [sys.executable, "-c", "import torch"],
        "images encrypt of one photo": [*encmixer, "images", "encrypt", "photo.jpg", "photo.png", "--force", *with_key],
        "key new": [*encmixer, "key", "new", "new.key"],
        "key show": [*encmixer, "key", "show", "owner.key"],
        "model info FOLDER": [*encmixer, "model", "info", "encrypted"],
        "images encrypt --help": [*encmixer, "images", "encrypt", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            (root / "new.key").unlink(missing_ok=True)
            seconds[name].append(processor_seconds(command, root))
    torch = min(seconds['python -c "import torch"'])
    print(f"processor time of a process, least of {ROUNDS} rounds")
    for name, values in seconds.items():
        limit = f"   (limit {LIMITS[name]})" if name in LIMITS else ""
        print(f"  {name:<30}{min(values):>7.2f} s{min(values) / torch:>8.2f} of importing torch{limit}")


def pipeline(root: Path, key: te.SecretKey) -> None:
    scheme = te.Scheme(patch_size=7, plain=PLAIN)
    codec = make_codec(ENCRYPT, te.ImageCipher(key, scheme))
    folder = root / "photos"
    folder.mkdir()
    for number in range(PHOTOS):
        (folder / f"{number}.jpg").write_bytes(mosaic(number, 16, 12))
    codecs = {"encrypted": codec, "cipher taken out": dataclasses.replace(codec, transform=lambda images: images)}
    seconds: dict[str, list[float]] = {name: [] for name in codecs}
    for number in range(PIPELINE_ROUNDS):
        for name in list(codecs) if number % 2 else list(codecs)[::-1]:
            shutil.rmtree(root / "sent", ignore_errors=True)
            start = time.process_time()  # of all threads
            encryption.convert_all(folder, root / "sent", codecs[name], force=False, label=name)
            seconds[name].append(time.process_time() - start)
    ratio = statistics.median(a / b for a, b in zip(seconds["cipher taken out"], seconds["encrypted"], strict=True))
    each = min(seconds["encrypted"]) / PHOTOS
    print(f"pipeline: {PHOTOS} photos of 512 x 384 px to 224 px, {each * 1e3:.2f} ms of processor time for one")
    print(f"  throughput per processor second with / without cipher {ratio:.3f}   (limit 0.95)")
    photo, cipher = folder / "0.jpg", te.ImageCipher(key, scheme)
    image = open_plain(photo)
    small = resize_and_crop(image, PLAIN)
    pixels = np.asarray(small)
    buffer = root / "pillow.png"
    encode = png_encoder(PNG.for_ciphertext)
    steps: dict[str, Callable[[], object]] = {
        "decode JPEG": lambda: open_plain(photo),
        "resize and crop": lambda: resize_and_crop(image, PLAIN),
        "cipher": lambda: cipher.encrypt(pixels),
        "encode PNG": lambda: encode(pixels),
        "encode PNG as Pillow does by default": lambda: Image.fromarray(pixels).save(buffer),
    }
    for name, step in steps.items():
        print(f"  {name:<38}{least_milliseconds(step):>7.2f} ms")


def least_milliseconds(step: Callable[[], object]) -> float:
    found = []
    for _ in range(50):
        start = time.process_time()
        step()
        found.append(time.process_time() - start)
    return min(found) * 1e3


def one_pipeline(root: Path, key: te.SecretKey) -> None:
    folder = root / "small" / "class"
    folder.mkdir(parents=True)
    for number in range(SMALL):
        (folder / f"{number}.jpg").write_bytes(mosaic(number, 1, 1))
    jobs: dict[str, Callable[[Path], object]] = {
        "encrypt_images": lambda dst: te.encrypt_images(folder.parent, dst, key, root / "encrypted"),
        "encrypt_dataset": lambda dst: te.encrypt_dataset(folder.parent, dst, key, root / "encrypted", progress=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(ROUNDS):
        for name, job in jobs.items():
            start = time.process_time()
            job(root / f"{name}-{number}")
            seconds[name].append(time.process_time() - start)
    print(f"one pipeline: processor time for {SMALL} photos of 32 px")
    for name, values in seconds.items():
        print(f"  {name:<20}{min(values):>6.2f} s")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        key = te.SecretKey.generate()
        key.save(root / "owner.key")
        te.encrypt_checkpoint(BUNDLED_FOLDER, root / "encrypted", key)
        (root / "photo.jpg").write_bytes(mosaic(0, 16, 12))
        starts(root)
        pipeline(root, key)
        one_pipeline(root, key)


if __name__ == "__main__":
    main()
