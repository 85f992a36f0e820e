"""Renames that replace nothing, and renames that swap: what Python's `os.rename` does not offer.

Linux has both in one system call, renameat2. Elsewhere, and on file systems that lack it, a new file gets its name by a
hard link, which fails if the name is taken; a new folder by a plain rename, which fails if the name is taken by anything but
an empty folder; and two names are swapped by three renames, between which one of them is absent for a moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

_HERE = -100  # AT_FDCWD: relative names count from the current folder
_NO_REPLACE, _EXCHANGE = 1, 2  # flags of renameat2
_UNSUPPORTED = frozenset((errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM))


def rename_new(source: Path, target: Path) -> None:
    """Give a file or folder a new name on the same file system.

    Raises:
        FileExistsError: The name is taken, by whatever it is: a link that leads nowhere, an empty folder.
        OSError: The operating system refused.
    """
    if _renamed(source, target, _NO_REPLACE):
        return
    if stat.S_ISDIR(source.lstat().st_mode):
        _rename_new_folder(source, target)
    else:
        _rename_new_file(source, target)


def exchange(one: Path, other: Path) -> None:
    """Swap what two names in one folder stand for.

    Raises:
        FileNotFoundError: One of them does not exist.
        OSError: The operating system refused; nothing has changed.
    """
    if _renamed(one, other, _EXCHANGE):
        return
    aside = one.with_name(f"{one.name}.aside")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def _renamed(source: Path, target: Path, flag: int) -> bool:
    call = _renameat2()
    if call is None:
        return False
    sys.audit("os.rename", source, target, -1, -1)  # as Python's own renames say it
    if call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Return the C library's renameat2, None where it has none."""
    try:
        call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    return call


def _rename_new_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _refuse_taken(target)  # a file system without hard links: the best that is left
        source.rename(target)
        return
    with contextlib.suppress(FileNotFoundError):
        source.unlink()


def _rename_new_folder(source: Path, target: Path) -> None:
    _refuse_taken(target)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            _refuse_taken(target)
        raise


def _refuse_taken(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
