"""Real processes, by the command that gives two gloo ranks on CPUs (and one process, by plain Python).

The launcher and its ranks are forked from a process that has imported torch (tests/processes.py).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from processes import interpreter, run

LAUNCH = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"


def command(processes: int) -> list[str]:
    """What stands between `python` and a script, or "-m" and a module."""
    return [] if processes == 1 else ["-m", "accelerate.commands.launch", *LAUNCH.split()]


def launch(
    processes: int, *arguments: object, check: bool = True, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run a script (or "-m", module) on one process or two."""
    words = [*command(processes), *map(str, arguments)]
    result = run(words, env=env(**environment), cwd=cwd or Path.cwd())
    assert not check or result.returncode == 0, result.stdout[-4000:] + result.stderr[-8000:]
    return result


def env(**changes: str) -> dict[str, str]:
    quiet = {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # several tests run side by side
    ranks = {"PYTHON_EXEC": interpreter()}  # torch's launcher starts them by it
    return {**os.environ, "ACCELERATE_USE_CPU": "true", **quiet, **ranks, **changes}


def errors(result: subprocess.CompletedProcess) -> Sequence[str]:
    """The package's own error lines, without what the launcher adds."""
    return [line for line in result.stderr.splitlines() if line.startswith("encmixer: error:")]
