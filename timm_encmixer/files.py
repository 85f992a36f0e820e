"""Reading and writing files so that nothing of others is touched, and a target is absent, old or whole at every moment.

What this package removes or renames, and how far that may reach:

- Targets. A new target gets its name only while nobody else has it (`timm_encmixer.renames`). A target that is replaced is
  swapped with the new one, looked at, and put back if it is not what this package writes. A link is never a target.
- Temporary files and folders, called ".encmixer-" and 16 hexadecimal digits, beside their target. A run holds a lock on its
  own, so what a dead run left is known by its free lock, and removed (`timm_encmixer.temporaries`).
- Files of a cache, of a data set, or of a run's own notes: `remove_inside` and `place_file`, which refuse what does not lie in
  the folder that it is to lie in.

Links are unlinked, never followed.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from timm_encmixer.errors import EncMixerError, FileAccessError, TargetExistsError
from timm_encmixer.renames import exchange, rename_new
from timm_encmixer.temporaries import lock, remove_leftovers, temporary_beside

PathLike = str | os.PathLike[str]
_REMEDY = "choose another target or pass --force (force=True)"
_REMEDIES = {
    (errno.EACCES, errno.EPERM, errno.EROFS): "check its permissions, or choose another place",
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "check the free space",
    (errno.EIO,): "check the disk",
    (errno.EMFILE, errno.ENFILE): "raise the limit of open files: ulimit -n",
}
_NAMED = 5  # longer lists of names make no error clearer
_BUFFER_BYTES = 1 << 20


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


def refuse_existing(path: Path, *, overwrite: bool, remedy: str = _REMEDY) -> None:
    """Refuse a target at once, before work is spent on it; whether it is still free is decided when it gets its name.

    Raises:
        TargetExistsError: It exists and `overwrite` is false, or it is a link.
        FileAccessError: It has no name of its own, as "." and "" have none.
    """
    if path.name in ("", ".."):
        raise FileAccessError(str(path), "a target with a name", repr(str(path)), "give its path by name")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise TargetExistsError(str(path), "a target that does not exist yet", "an existing file or folder", remedy)
    if not (path.is_symlink() or path.is_file() or path.is_dir()):
        raise TargetExistsError(str(path), "a file or folder", "a pipe, device or socket", "choose another target")
    if path.is_symlink():
        remedy = "give what it leads to, or choose another target: links are not replaced"
        raise TargetExistsError(str(path), "a file or folder", "a symbolic link", remedy)


@dataclass(frozen=True)
class FileKind:
    """What a file is, by some bytes near its beginning.

    Args:
        words: The kind, as in "a PNG file".
        magic: The bytes.
        offset: Where they stand.
    """

    words: str
    magic: bytes
    offset: int = 0

    def refuse_other(self, path: Path) -> None:
        """Refuse to replace a file of another kind; an empty one may be replaced, and what does not exist is fine.

        Raises:
            TargetExistsError: It is of another kind, or no file.
        """
        if not os.path.lexists(path):
            return
        with open_regular(path, action="a file to replace") as file:
            start = file.read(self.offset + len(self.magic))
        if start and start[self.offset :] != self.magic:
            remedy = "move it away or choose another target: force=True (--force) replaces only files of its own kind"
            raise TargetExistsError(str(path), self.words, "a file of another kind", remedy)


PNG = FileKind("a PNG file", b"\x89PNG")


def refuse_foreign(path: Path, owned: frozenset[str], *, name: Path | None = None) -> None:
    """Refuse to replace a folder that holds anything but files of `owned` names, or something that is no folder.

    Args:
        path: The folder; what does not exist is fine.
        owned: Names of files.
        name: What the folder is called in messages; None takes `path`.

    Raises:
        TargetExistsError: It must stay.
    """
    if not os.path.lexists(path):
        return
    is_folder = path.is_dir() and not path.is_symlink()
    foreign = sorted(entry.name for entry in os.scandir(path) if not _is_owned(entry, owned)) if is_folder else [path.name]
    if foreign:
        names = ", ".join(sorted(owned)) if len(owned) <= _NAMED else "what this command writes"
        raise TargetExistsError(
            str(name or path),
            f"a folder of nothing but {names}",
            foreign[0] if is_folder else "something else",
            "move it away or choose another target: force=True (--force) throws away only what this command wrote",
        )


def _is_owned(entry: os.DirEntry[str], owned: frozenset[str]) -> bool:
    return entry.name in owned and not entry.is_dir(follow_symlinks=False)


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


@contextlib.contextmanager
def replacing_file(
    path: Path, *, overwrite: bool = False, durable: bool = True, kind: FileKind | None = None
) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    Args:
        path: The target. Its folder must exist.
        overwrite: Replace an existing file; otherwise a target that exists (even one that appeared meanwhile) is an error.
        durable: Wait until the disk has it, and remove what dead runs left of this target. False for files that are many and
            can be made again.
        kind: What an existing file must be to be replaced; None replaces any.

    Raises:
        TargetExistsError: The target exists and `overwrite` is false, or is a link, a folder or of another kind.
        FileAccessError: The operating system refused; nothing is left behind.
    """
    refuse_existing(path, overwrite=overwrite)
    if path.is_dir():
        remedy = "choose another target: a folder is not replaced by a file"
        raise TargetExistsError(str(path), "a file to replace", "a folder", remedy)
    if kind is not None:
        kind.refuse_other(path)
    with _os_errors(path, "a file to write"):
        if durable:
            remove_leftovers(path.parent, of=path.name)
        with temporary_beside(path, _make_file, lambda temporary: temporary.unlink(missing_ok=True)) as temporary:
            yield temporary
            if durable:
                sync_file(temporary)
            if overwrite:
                refuse_existing(path, overwrite=True)
                if kind is not None:
                    kind.refuse_other(path)
                temporary.replace(path)
            else:
                rename_new(temporary, path)
            if durable:
                sync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path, *, overwrite: bool = False, owned: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it to `path`.

    Args:
        path: The target folder. Its parent must exist.
        overwrite: Replace an existing folder, as long as it holds nothing but files of `owned` names.
        owned: File names that this package writes, and so may throw away.

    Raises:
        TargetExistsError: The target exists and may not be replaced, also if it became so meanwhile.
        FileAccessError: The operating system refused; the target is as it was, or new and the error says what was left.
    """
    refuse_existing(path, overwrite=overwrite)
    refuse_foreign(path, owned)
    with _os_errors(path, "a folder to write"), _folder_beside(path, 0o777) as temporary:
        yield temporary
        for entry in temporary.iterdir():
            sync_file(entry)
        sync_folder(temporary)
        if overwrite and os.path.lexists(path):
            _replace_folder(temporary, path, owned)
        else:
            rename_new(temporary, path)
        sync_folder(path.parent)


@contextlib.contextmanager
def scratch_folder(target: Path | None = None) -> Iterator[Path]:
    """Yield a new private folder, for what is made on the way to a target; after a kill the next such run removes it.

    Args:
        target: The folder lies beside it; None takes the system's folder for temporary files.

    Raises:
        FileAccessError: The operating system refused.
    """
    target = target or Path(tempfile.gettempdir(), "encmixer")
    with _os_errors(target, "a place to write"), _folder_beside(target, 0o700) as temporary:
        yield temporary


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
    with _os_errors(path, "a file to write", remedy=remedy):
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


def remove_inside(path: Path, folder: Path) -> None:
    """Remove a file, a link or a whole folder that lies in `folder`; what a link leads to stays. What is absent is fine.

    Raises:
        FileAccessError: It lies elsewhere, for example because a folder on the way is a link; or it cannot be removed.
    """
    refuse_elsewhere(path, folder)
    with _os_errors(path, "something to remove"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def refuse_elsewhere(path: Path, folder: Path) -> None:
    """Refuse a path that does not lie in a folder, for example because a folder on the way is a link.

    Raises:
        FileAccessError: It lies elsewhere.
    """
    if path.name in ("", "..") or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise FileAccessError(str(path), f"a path inside {folder}", "a place elsewhere", "look at its links")


@contextlib.contextmanager
def _folder_beside(path: Path, mode: int) -> Iterator[Path]:
    remove_leftovers(path.parent, of=path.name)
    with temporary_beside(path, lambda new: new.mkdir(mode), lambda old: shutil.rmtree(old, ignore_errors=True)) as temporary:
        yield temporary


def _make_file(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _replace_folder(new: Path, path: Path, owned: frozenset[str]) -> None:
    """Put a new folder in the place of one that holds nothing but `owned` names at that moment, and remove that one."""
    old = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        lock(old)  # so that no run that cleans up takes it for a dead one's while it has the temporary name
        exchange(new, path)
        try:
            refuse_foreign(new, owned, name=path)
        except TargetExistsError:
            exchange(new, path)
            raise
        try:
            shutil.rmtree(new)
        except OSError as error:
            remedy = f"the new one is in its place; remove {new} yourself"
            raise FileAccessError(str(path), "the old folder to be removed", error.strerror or str(error), remedy) from error
    finally:
        os.close(old)


@contextlib.contextmanager
def _os_errors(path: Path, action: str, *, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn what the operating system refuses into this package's errors."""
    try:
        yield
    except EncMixerError:
        raise
    except FileExistsError as error:
        refuse_existing(path, overwrite=False, remedy=remedy)
        raise file_error(path, action, error) from error
    except OSError as error:
        raise file_error(path, action, error) from error


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
