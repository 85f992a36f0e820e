"""Targets: absent, old or whole at every moment, and made beside their place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from timm_encmixer.errors import FileAccessError, TargetExistsError
from timm_encmixer.files.inside import sync_file, sync_folder
from timm_encmixer.files.refusals import FileKind, os_errors, refuse_existing, refuse_foreign
from timm_encmixer.renames import exchange, rename_new
from timm_encmixer.temporaries import lock, remove_leftovers, temporary_beside


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
    with os_errors(path, "a file to write"):
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
    with os_errors(path, "a folder to write"), _folder_beside(path, 0o777) as temporary:
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
    with os_errors(target, "a place to write"), _folder_beside(target, 0o700) as temporary:
        yield temporary


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
