"""How much processor time mistakes, lists and helps take, beside `python -c pass` and `python -c "import torch"`.

python tests/benchmarks/bench_mistakes.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_MODEL

ROUNDS = 5
PLAIN = str(BUNDLED_FOLDER)
COMMANDS = {
    "encmixer --help": ["--help"],
    "encmixer model encrypt --help": ["model", "encrypt", "--help"],
    "encmixer audit --help": ["audit", "--help"],
    "models": ["models"],
    "no such command": ["encrypt"],
    "a key that is missing": ["model", "encrypt", PLAIN, "new"],
    "a key that is mistyped": ["images", "encrypt", ".", "new", "-k", "kye", "-m", PLAIN],
    "a target that exists": ["model", "encrypt", PLAIN, "there", "-k", "k"],
    "a model that is mistyped": ["model", "encrypt", BUNDLED_MODEL.replace("conv", "con"), "new", "-k", "k"],
    "a cipher that is mistyped": ["eval", "-m", PLAIN, "-k", "k", "--data", ".", "--cipher", "shufle"],
    "an attack that is mistyped": ["audit", "--only", "thumbnial"],
    "a folder that is mistyped": ["dataset", "encrypt", "fotos", "new", "-k", "k", "-m", PLAIN],
}


def seconds(words: list[str], folder: str) -> float:
    """User and system time of a process, least of the rounds."""
    took = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], cwd=folder, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "there").mkdir()
        subprocess.run([sys.executable, "-m", "timm_encmixer", "key", "new", "k"], cwd=folder, check=True, capture_output=True)
        for name, words in {"python -c pass": ["-c", "pass"], "python -c 'import torch'": ["-c", "import torch"]}.items():
            print(f"{name:<32}{seconds(words, folder):>6.2f} s")
        for name, words in COMMANDS.items():
            print(f"{name:<32}{seconds(['-m', 'timm_encmixer', *words], folder):>6.2f} s")


if __name__ == "__main__":
    main()
