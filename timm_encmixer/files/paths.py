"""Paths that users give, and what the operating system says of them."""

from __future__ import annotations

import difflib
import errno
import os
from pathlib import Path

from timm_encmixer.errors import FileAccessError

PathLike = str | os.PathLike[str]
_REMEDIES = {
    (errno.EACCES, errno.EPERM, errno.EROFS): "check its permissions, or choose another place",
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "check the free space",
    (errno.EIO,): "check the disk",
    (errno.EMFILE, errno.ENFILE): "raise the limit of open files: ulimit -n",
}


def file_error(path: Path | str, action: str, error: OSError) -> FileAccessError:
    """Say in one line what the operating system refused; `action` reads as in "a file to read". One that is said stays."""
    if isinstance(error, FileAccessError):
        return error
    reason = error.strerror or str(error) or type(error).__name__
    remedy = next((remedy for numbers, remedy in _REMEDIES.items() if error.errno in numbers), "check the path")
    return FileAccessError(str(path), action, reason, remedy)


def similar_paths(path: PathLike, *, otherwise: str = "check the path") -> str:
    """Return the remedy for a path that does not exist: what is spelt like it in its folder; else `otherwise`."""
    path = Path(path)
    try:
        names = [known.name for known in path.parent.iterdir()]
    except (OSError, ValueError):
        return otherwise
    found = difflib.get_close_matches(path.name, names, cutoff=0.75)
    return f"did you mean {' or '.join(str(path.with_name(name)) for name in found)}?" if found else otherwise


def as_path(path: PathLike, *, where: str) -> Path:
    """Return a path that a user gave; arguments and errors are those of `path_text`."""
    return Path(path_text(path, where=where))


def path_text(path: PathLike, *, where: str) -> str:
    """Return the text of a path, or of what stands in its place, such as an id or a URL.

    Args:
        path: A text, or a path.
        where: The argument, for messages.

    Raises:
        FileAccessError: It is empty, no path at all, or holds a NUL.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise FileAccessError(where, "a path", type(path).__name__, "give a text or a pathlib.Path")
    if not text or "\0" in text:
        raise FileAccessError(where, "a path", repr(text), "name a file or a folder; the current folder is '.'")
    return text
