"""What must stay: targets that are there, files of another kind, folders with files of others, paths elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from timm_encmixer.errors import EncMixerError, FileAccessError, TargetExistsError
from timm_encmixer.files.paths import file_error
from timm_encmixer.files.reading import open_regular

_REMEDY = "choose another target or pass --force (force=True)"
_NAMED = 5  # longer lists of names make no error clearer


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


def refuse_elsewhere(path: Path, folder: Path) -> None:
    """Refuse a path that does not lie in a folder, for example because a folder on the way is a link.

    Raises:
        FileAccessError: It lies elsewhere.
    """
    if path.name in ("", "..") or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise FileAccessError(str(path), f"a path inside {folder}", "a place elsewhere", "look at its links")


@contextlib.contextmanager
def os_errors(path: Path, action: str, *, remedy: str = _REMEDY) -> Iterator[None]:
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
