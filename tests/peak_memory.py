"""How far a process's memory rises, by the kernel's high-water mark (Linux), which is set back first.

`ru_maxrss` cannot tell: it starts at the size of the process that started this one, so a large parent hides any growth.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path


def grown_bytes(work: Callable[[], object]) -> int:
    """Return how far the resident set of this process, mapped files included, rises above its present size during the call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the high-water mark becomes the present size
    before = _status_kib("VmRSS")
    work()
    return (_status_kib("VmHWM") - before) * 1024


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
