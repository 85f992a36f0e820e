"""Reading files that are not ours: regular ones alone, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from timm_encmixer.errors import FileAccessError
from timm_encmixer.files.paths import file_error

_BUFFER_BYTES = 1 << 20


def open_regular(path: Path, *, action: str = "a file to read") -> BinaryIO:
    """Open a file to read; a link to one too. What is no regular file is never opened: a pipe would wait for ever.

    Raises:
        FileAccessError: It is missing or unreadable, or is a folder, a pipe, a device or a socket.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
        raise file_error(path, action, reason) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, device or socket"
        raise FileAccessError(str(path), action, kind, "give a regular file")
    return os.fdopen(descriptor, "rb")


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, which the Hub lists for LFS and Xet files."""
    return _hexdigest(path, hashlib.sha256())


def git_blob_id(path: Path) -> str:
    """Return a file's Git blob id, which the Hub lists for small files."""
    return _hexdigest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))


def _hexdigest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(_BUFFER_BYTES):
            digest.update(block)
    hexadecimal: str = digest.hexdigest()
    return hexadecimal
