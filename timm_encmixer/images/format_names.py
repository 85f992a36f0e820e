"""The names of the file formats: those of their files. The command line needs them before it imports numpy."""

from __future__ import annotations

import pkgutil
from pathlib import Path

BASE, DEFAULT_FORMAT = "base", "png"
FORMAT_NAMES = tuple(
    sorted(
        (file.name for file in pkgutil.iter_modules([str(Path(__file__).with_name("formats"))]) if file.name != BASE),
        key=lambda name: (name != DEFAULT_FORMAT, name),
    )
)
