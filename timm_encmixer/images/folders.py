"""Which files of a folder are taken, and which are left out and why: one rule for all folders of images."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from timm_encmixer.files import file_error

HIDDEN, LINKED, SPECIAL, SUFFIX = "hidden", "linked", "special", "suffix"  # why an entry is left out


def walk(root: Path) -> Iterator[tuple[Path, os.stat_result | str]]:
    """Yield the entries of a tree, one folder's listing in memory at a time, sorted by name.

    Links to files are followed. Hidden entries (".x" and "__x", as `datasets` has it), links to folders, and pipes, devices
    and sockets are left out; nobody looks into such a folder.

    Yields:
        A file's path and its status; or the path of what is left out and the reason.

    Raises:
        FileAccessError: A folder cannot be read, or a link leads nowhere.
    """

    def fail(error: OSError) -> None:
        raise file_error(os.fspath(error.filename), "a folder to read", error) from error

    for folder, folders, names in os.walk(root, onerror=fail):
        here = Path(folder)
        for name in sorted(folders):
            if is_hidden(name) or (here / name).is_symlink():
                yield here / name, HIDDEN if is_hidden(name) else LINKED
        folders[:] = sorted(name for name in folders if not is_hidden(name))  # os.walk does not follow links
        for name in sorted(names):
            yield here / name, HIDDEN if is_hidden(name) else _status(here / name)


def is_hidden(name: str) -> bool:
    """Whether an entry of this name is hidden, as `datasets` has it."""
    return name.startswith((".", "__")) and name != ".."  # which leads elsewhere, and is refused where names are read


def _status(path: Path) -> os.stat_result | str:
    try:
        status = path.stat()
    except OSError as error:
        raise file_error(path, "a file to read", error) from error
    return status if stat.S_ISREG(status.st_mode) else SPECIAL
