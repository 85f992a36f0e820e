"""Temporary files and folders beside their targets, which a run that died may leave: named, locked, known by that, removed."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: leftovers are not recognised there, and stay
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)
_TEMPORARY = re.compile(r"\.encmixer-([0-9a-f]{8})[0-9a-f]{8}")


@contextlib.contextmanager
def temporary_beside(path: Path, make: Callable[[Path], None], remove: Callable[[Path], None]) -> Iterator[Path]:
    """Yield what `make` makes at a new name beside `path`, locked; `remove` it at the end, unless it was renamed."""
    temporary, descriptor = _made_and_locked(path, make)
    try:
        yield temporary
    finally:
        remove(temporary)
        if descriptor is not None:
            os.close(descriptor)


def _made_and_locked(path: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    while True:
        temporary = path.with_name(f".encmixer-{digest_of_name(path.name)}{secrets.token_hex(4)}")
        make(temporary)
        if fcntl is None:
            return temporary, None
        with contextlib.suppress(FileNotFoundError):  # a run that cleans up came before the lock: make another
            descriptor = os.open(temporary, os.O_RDONLY)
            if lock(descriptor) is not False and os.path.lexists(temporary):
                return temporary, descriptor
            os.close(descriptor)


def digest_of_name(name: str) -> str:
    """Return 8 hexadecimal digits that stand for a target's name, which may be as long as a name can be."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def is_temporary(name: str) -> bool:
    """Whether a name is that of a temporary file or folder."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: Path, *, of: str | None = None) -> int:
    """Remove the temporary files and folders of runs that died, and log how many that were.

    Args:
        folder: Where to look; not below it.
        of: The target's name; None takes those of all targets.

    Returns:
        How many were removed.
    """
    removed = 0
    if fcntl is None or not folder.is_dir():
        return removed
    for entry in os.scandir(folder):
        match = _TEMPORARY.fullmatch(entry.name)
        if match and (of is None or match[1] == digest_of_name(of)):
            removed += _remove_if_dead(Path(entry.path))
    if removed:
        logger.warning("%s: removed %d unfinished output%s of runs that were killed", folder, removed, "s" * (removed > 1))
    return removed


def _remove_if_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # a link, another user's, or gone
        return False
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or not lock(descriptor):
            return False
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if stat.S_ISDIR(mode) else path.unlink()
        return not os.path.lexists(path)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool | None:
    """Lock an open file or folder for this process; returns False where another has it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
