"""Time and memory of encrypting a checkpoint file, against a plain copy with sync of the same file, side by side.

    python tests/benchmarks/bench_checkpoint.py [FOLDER]

Files of 200 MB and 2 GB are written to FOLDER (a temporary one by default) and removed. Memory is how far the resident set
of a fresh process, mapped files included, rises during its first call above what it was before.
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

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from peak_memory import grown_bytes

import timm_encmixer as te

SIZES = {"200 MB": 200_000_000, "2 GB": 2_000_000_000}
NORMALISATION = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "first_conv": "stem.0"}


def first_call(source: Path, target: Path) -> int:
    """Return `grown_bytes` of the first encryption in a fresh process."""
    command = [sys.executable, __file__, "--memory", str(source), str(target)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def copy_and_sync(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def timed(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    key = te.SecretKey.generate()
    if sys.argv[1:2] == ["--memory"]:
        _, _, source, target = sys.argv
        te.encrypt_checkpoint  # noqa: B018  imports the module, which is not the call's own memory
        print(grown_bytes(lambda: te.encrypt_checkpoint(source, target, key, **NORMALISATION)))
        return
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        print(f"{'file':<8}{'copy + sync':>13}{'encrypt':>10}{'ratio':>8}{'memory':>10}")
        for label, size in SIZES.items():
            source, target = folder / "plain.safetensors", folder / "target.safetensors"
            stem = {"stem.0.weight": torch.randn(1536, 3, 7, 7), "stem.0.bias": torch.randn(1536)}
            rest = {f"block.{i:03}": torch.randn(2_500_000) for i in range(size // 10_000_000)}
            save_file({**stem, **rest}, source)
            del rest
            os.sync()

            def encrypt() -> None:
                te.encrypt_checkpoint(source, target, key, **NORMALISATION)  # noqa: B023  called in this round only

            def copy() -> None:
                copy_and_sync(source, target)  # noqa: B023  likewise

            rounds = 7 if size < 10**9 else 3
            times: dict[str, list[float]] = {"copy": [], "encrypt": []}
            for _ in range(rounds):
                for kind, function in (("copy", copy), ("encrypt", encrypt)):
                    target.unlink(missing_ok=True)
                    os.sync()
                    times[kind].append(timed(function))
            target.unlink()
            memory = first_call(source, target)
            target.unlink()
            own, plain = statistics.median(times["encrypt"]), statistics.median(times["copy"])
            print(f"{label:<8}{plain:>12.2f}s{own:>9.2f}s{own / plain:>8.2f}{memory / 1e6:>7.1f} MB")
            source.unlink()


if __name__ == "__main__":
    main()
