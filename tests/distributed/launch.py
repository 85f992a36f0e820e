"""Real processes, by the command that gives two gloo ranks on CPUs (and one process, by plain Python)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from processes import run

LAUNCH = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"


def command(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH.split()]


def launch(
    processes: int, *arguments: object, check: bool = True, timeout: float = 200, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run a script (or "-m", module) on one process or two."""
    words = [*command(processes)[1:], *map(str, arguments)]
    result = run(words, env=env(**environment), cwd=cwd or Path.cwd(), timeout=timeout)
    assert not check or result.returncode == 0, result.stdout[-4000:] + result.stderr[-8000:]
    return result


def env(**changes: str) -> dict[str, str]:
    quiet = {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # several tests run side by side
    return {**os.environ, "ACCELERATE_USE_CPU": "true", **quiet, **changes}


def errors(result: subprocess.CompletedProcess) -> Sequence[str]:
    """The package's own error lines, without what the launcher adds."""
    return [line for line in result.stderr.splitlines() if line.startswith("encmixer: error:")]
