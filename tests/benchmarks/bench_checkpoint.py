"""Time and memory of encrypting a checkpoint file, against a plain copy with sync of the same file, side by side.

    python tests/benchmarks/bench_checkpoint.py [FOLDER]

Files of 200 MB and 2 GB, and checkpoint folders of a ConvMixer of 200 MB and of timm's ViT-L/14 (CLIP's, whose stem has no
bias), the latter with and without scrambled blocks, are written to FOLDER (a temporary one by default) and removed. "Fixed" is
the processor time of an encryption beyond that of the copy: following the image, and all else that does not grow with the file.
Memory is how far the resident set of a fresh process, mapped files included, rises during its first call above what it was.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from peak_memory import grown_bytes

import timm_encmixer as te

SIZES = {"200 MB": 200_000_000, "2 GB": 2_000_000_000}
NORMALISATION = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "first_conv": "stem.0", "stem_stride": 7}


CONVMIXER = "convmixer_1536_20"
VIT = "vit_large_patch14_clip_quickgelu_224"  # 1.2 GB
CIPHERS = ("shuffle+negpos", "shuffle+negpos+scramble")


def first_call(source: Path, target: Path, cipher: str) -> int:
    """Return `grown_bytes` of the first encryption in a fresh process."""
    command = [sys.executable, __file__, "--memory", str(source), str(target), cipher]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def copy_and_sync(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call takes, and those of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - busy


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def compare(label: str, source: Path, weights: Path, target: Path, key: te.SecretKey, rounds: int, cipher: str) -> None:
    """Print one row: `source` is encrypted to `target`; `weights` is the file in it, or itself, that is copied."""
    options = NORMALISATION if source == weights else {}
    copied = target.with_name("copy.safetensors")
    times: dict[str, list[tuple[float, float]]] = {"copy": [], "encrypt": []}
    for _ in range(rounds):
        for path in (copied, target):
            remove(path)
        os.sync()
        times["copy"].append(timed(lambda: copy_and_sync(weights, copied)))
        remove(copied)
        os.sync()
        times["encrypt"].append(timed(lambda: te.encrypt_checkpoint(source, target, key, cipher=cipher, **options)))
    remove(target)
    memory = first_call(source, target, cipher)
    remove(target)
    (own, own_busy), (plain, plain_busy) = (
        tuple(map(statistics.median, zip(*times[name], strict=True))) for name in ("encrypt", "copy")
    )
    fixed = own_busy - plain_busy
    print(f"{label:<17}{plain:>13.2f}s{own:>9.2f}s{own / plain:>8.2f}{fixed:>9.3f}s{memory / 1e6:>7.1f} MB", flush=True)


def main() -> None:
    key = te.SecretKey.generate()
    if sys.argv[1:2] == ["--memory"]:
        source, target, cipher = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
        options = {} if source.is_dir() else NORMALISATION
        te.encrypt_checkpoint  # noqa: B018  imports the module, which is not the call's own memory
        print(grown_bytes(lambda: te.encrypt_checkpoint(source, target, key, cipher=cipher, **options)))
        return
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        print(f"{'file':<17}{'copy + sync':>14}{'encrypt':>10}{'ratio':>8}{'fixed':>10}{'memory':>10}")
        for label, size in SIZES.items():
            source = folder / "plain.safetensors"
            stem = {"stem.0.weight": torch.randn(1536, 3, 7, 7), "stem.0.bias": torch.randn(1536)}
            rest = {f"block.{i:03}": torch.randn(2_500_000) for i in range(size // 10_000_000)}
            save_file({**stem, **rest}, source)
            del rest
            rounds = 7 if size < 10**9 else 3
            compare(label, source, source, folder / "target.safetensors", key, rounds, CIPHERS[0])
            source.unlink()
        te.save_model(timm.create_model(CONVMIXER), folder / "convmixer")
        compare(
            "ConvMixer", folder / "convmixer", folder / "convmixer" / "model.safetensors", folder / "target", key, 7, CIPHERS[0]
        )
        te.save_model(timm.create_model(VIT, num_classes=0), folder / "vit")
        for label, cipher in zip(("ViT-L", "ViT-L, scrambled"), CIPHERS, strict=True):
            compare(label, folder / "vit", folder / "vit" / "model.safetensors", folder / "target", key, 3, cipher)


if __name__ == "__main__":
    main()
