"""Writing so that a target is absent, old or whole at every moment, whatever kills the process."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from timm_encmixer.errors import FileAccessError, TargetExistsError

_NAMED = 5  # longer lists of names make no error clearer


def file_error(path: Path | str, action: str, error: OSError) -> FileAccessError:
    """Say in one line what the operating system refused; `action` reads as in "a file to read"."""
    reason = error.strerror or type(error).__name__
    return FileAccessError(str(path), action, reason, "check the path, its permissions and the free space")


def refuse_existing(path: Path, *, overwrite: bool, remedy: str = "choose another target or pass --force (force=True)") -> None:
    """Raise `TargetExistsError` when `path` exists and `overwrite` is false."""
    if not overwrite and os.path.lexists(path):
        raise TargetExistsError(str(path), "a target that does not exist yet", "an existing file or folder", remedy)


def refuse_foreign(path: Path, owned: frozenset[str]) -> None:
    """Raise `TargetExistsError` when a folder to be replaced holds anything but `owned` names, or is a file."""
    if path.exists():
        foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in owned) if path.is_dir() else [path.name]
        if foreign:
            names = ", ".join(sorted(owned)) if len(owned) <= _NAMED else "what this command writes"
            raise TargetExistsError(
                str(path),
                f"a folder of nothing but {names}",
                foreign[0],
                "move it away or choose another target: --force throws away only what this command wrote",
            )


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Give the file its name; unlike a bare rename, fail if the target was created meanwhile."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        refuse_existing(path, overwrite=False)  # a file system without hard links: the best that is left
        temporary.rename(path)


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


def place_file(new: Path, target: Path) -> None:
    """Sync a file that was written elsewhere on the target's file system, and give it its name and folder.

    Raises:
        OSError: The operating system refused.
    """
    sync_file(new)
    target.parent.mkdir(parents=True, exist_ok=True)
    new.replace(target)
    sync_folder(target.parent)


@contextlib.contextmanager
def replacing_file(path: Path, *, overwrite: bool = False, mode: int | None = None, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    Args:
        path: The target. Its folder must exist.
        overwrite: Replace an existing target; otherwise a target that exists (even one that appeared meanwhile) is an error.
        mode: Permissions that the file has from its first byte on, for example 0o600.
        durable: Wait until the disk has it. False for files that are many and can be made again.

    Raises:
        TargetExistsError: The target exists and `overwrite` is false.
        FileAccessError: The operating system refused; nothing is left behind.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = _temporary_beside(path)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode))
        yield temporary
        if durable:
            sync_file(temporary)
        if overwrite:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
        if durable:
            sync_folder(path.parent)
    except FileExistsError:
        refuse_existing(path, overwrite=False)
        raise
    except FileAccessError:
        raise
    except OSError as error:
        raise file_error(path, "a file to write", error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, *, overwrite: bool = False, owned: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it to `path`.

    Args:
        path: The target folder. Its parent must exist.
        overwrite: Replace an existing folder, as long as it holds nothing but `owned` names.
        owned: File names that this package writes, and so may throw away.

    Raises:
        TargetExistsError: The target exists and may not be replaced.
        FileAccessError: The operating system refused; nothing is left behind.
    """
    refuse_existing(path, overwrite=overwrite)
    refuse_foreign(path, owned)
    temporary, aside = _temporary_beside(path), _temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        for entry in temporary.iterdir():
            sync_file(entry)
        sync_folder(temporary)
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
        sync_folder(path.parent)
    except (FileAccessError, TargetExistsError):
        raise
    except OSError as error:
        raise file_error(path, "a folder to write", error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(aside, ignore_errors=True)


PathLike = str | os.PathLike[str]


_BUFFER_BYTES = 1 << 20


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
