"""A new file that only its owner can read: the key's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from timm_encmixer.files.refusals import os_errors, refuse_existing


def write_new_private(path: Path, content: Callable[[], bytes]) -> None:
    """Write a new file that only its owner can read, and that no other name holds for a moment, whatever kills the process.

    Args:
        path: The target. Its folder must exist.
        content: Gives the bytes; they stand in no variable of a frame, where a report of an error would show them.

    Raises:
        TargetExistsError: The target exists.
        FileAccessError: The operating system refused; nothing is left behind.
    """
    remedy = "choose another name: it is never overwritten"
    refuse_existing(path, overwrite=False, remedy=remedy)
    with os_errors(path, "a file to write", remedy=remedy):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            if not _write_unnamed(folder, path.name, content):
                _write_named(folder, path.name, content)
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_unnamed(folder: int, name: str, content: Callable[[], bytes]) -> bool:
    """Write a file without a name and give it its name when it is whole; returns False where the system cannot do that."""
    try:
        file = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o600, dir_fd=folder)
    except (AttributeError, OSError):
        return False
    try:
        _write_whole(file, content)
        os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=folder, follow_symlinks=True)
    except FileNotFoundError:  # no /proc here
        return False
    finally:
        os.close(file)
    return True


def _write_named(folder: int, name: str, content: Callable[[], bytes]) -> None:
    file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=folder)
    try:
        _write_whole(file, content)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(file)


def _write_whole(descriptor: int, content: Callable[[], bytes]) -> None:
    with open(descriptor, "wb", closefd=False) as file:  # os.write alone may stop half-way and say so by its result only
        file.write(content())
    os.fsync(descriptor)
