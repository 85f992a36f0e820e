"""A copy of the package with one more file in it: what a new attack or a new format of files is."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent


def with_file(folder: Path, name: str, content: str) -> dict[str, str]:
    """Copy the package, as links where it stays as it is, and add a file; returns the environment that finds the copy.

    Args:
        folder: Where the copy goes.
        name: Of the new file, below the package.
        content: Of the new file.
    """
    package, real = folder / "timm_encmixer", ROOT / "timm_encmixer"
    parents = [path.as_posix() for path in Path(name).parents]  # "." is the package itself
    for parent in reversed(parents):
        (package / parent).mkdir(parents=True)
        for entry in (real / parent).iterdir():
            if entry.name != "__pycache__" and entry.relative_to(real).as_posix() not in parents:
                (package / parent / entry.name).symlink_to(entry)
    (package / name).write_text(content)
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
