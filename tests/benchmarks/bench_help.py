"""How soon `encmixer --help` answers, against starting Python with click alone and against importing timm, side by side.

python tests/benchmarks/bench_help.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 9
COMMANDS = {
    "python -c 'import click'": [sys.executable, "-c", "import click"],
    "encmixer --help": [str(Path(sys.executable).with_name("encmixer")), "--help"],
    "encmixer key show --help": [str(Path(sys.executable).with_name("encmixer")), "key", "show", "--help"],
    "python -c 'import timm'": [sys.executable, "-c", "import timm"],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["python -c 'import click'"])
    for name, values in times.items():
        print(f"{name:<28}{statistics.median(values):>7.3f} s{statistics.median(values) / base:>8.1f}x")


if __name__ == "__main__":
    main()
