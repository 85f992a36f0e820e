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
_OTHERS = {"jpg": "jpeg"}  # what suffixes call a format


def format_name(text: str) -> str:
    """Return the name of the format that a text means: in any case, and by its suffix; any other text as it is."""
    name = text.lower().removeprefix(".")
    name = _OTHERS.get(name, name)
    return name if name in FORMAT_NAMES else text
