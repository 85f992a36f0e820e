"""Changes inside a folder of ours: a file that gets its place there, and what is removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from timm_encmixer.files.refusals import os_errors, refuse_elsewhere


def sync_folder(folder: Path) -> None:
    """Force a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Force a file's bytes to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def place_file(new: Path, target: Path, *, inside: Path) -> None:
    """Sync a file that was written elsewhere on the target's file system, and give it its name and folder.

    Args:
        new: The file.
        target: Its new path. Folders on the way are made.
        inside: The folder that it must lie in.

    Raises:
        FileAccessError: It would lie elsewhere, because a folder on the way is a link.
        OSError: The operating system refused.
    """
    sync_file(new)
    target.parent.mkdir(parents=True, exist_ok=True)
    refuse_elsewhere(target, inside)
    new.replace(target)
    sync_folder(target.parent)


def remove_inside(path: Path, folder: Path) -> None:
    """Remove a file, a link or a whole folder that lies in `folder`; what a link leads to stays. What is absent is fine.

    Raises:
        FileAccessError: It lies elsewhere, for example because a folder on the way is a link; or it cannot be removed.
    """
    refuse_elsewhere(path, folder)
    with os_errors(path, "something to remove"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
