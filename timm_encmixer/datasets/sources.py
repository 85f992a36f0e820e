"""Where a data set's files are: a folder, a repository of the Hub, or any address that fsspec reads."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from timm_encmixer.errors import FileAccessError, IntegrityError, SourceError
from timm_encmixer.files import file_error
from timm_encmixer.hub.client import HUB_PREFIX
from timm_encmixer.hub.snapshot import DATASET, DATASET_PREFIX, Snapshot, Token

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


class DatasetSource(Protocol):
    """A tree of files to read, one at a time."""

    @property
    def where(self) -> str:
        """Its name, for messages."""

    @property
    def commit(self) -> str | None:
        """The commit that its files come from, where there is one."""

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield names and sizes in bytes, folder by folder, each sorted; hidden ones are left out."""

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files of one folder ("." is the topmost), sorted as in `files`."""

    def local(self, name: str, scratch: Path) -> contextlib.AbstractContextManager[Path]:
        """Bring one file here for as long as the context lasts, below `scratch` if it has to be copied."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine, or mounted on it."""

    root: Path
    commit: str | None = None

    @property
    def where(self) -> str:
        """The folder's path."""
        return str(self.root)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the files of the tree, one folder's listing in memory at a time."""

        def fail(error: OSError) -> None:
            raise file_error(error.filename or self.root, "a folder to read", error) from error

        seen = set()
        for folder, folders, names in os.walk(self.root, onerror=fail, followlinks=True):
            real = os.path.realpath(folder)  # of a text, once per folder
            if real in seen:
                raise SourceError(folder, "a tree of folders", "a link to a folder that is in it already", "remove the link")
            seen.add(real)
            folders[:] = sorted(name for name in folders if not _hidden(name))
            for name in sorted(name for name in names if not _hidden(name)):
                path = Path(folder) / name
                try:
                    size = path.stat().st_size
                except OSError as error:
                    raise file_error(path, "a file to read", error) from error
                yield path.relative_to(self.root).as_posix(), size

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files of one folder."""
        try:
            names = [entry.name for entry in os.scandir(self.root / folder) if not _hidden(entry.name) and not entry.is_dir()]
        except OSError as error:
            raise file_error(self.root / folder, "a folder to read", error) from error
        return [(Path(folder) / name).as_posix() for name in sorted(names)]

    @contextlib.contextmanager
    def local(self, name: str, scratch: Path) -> Iterator[Path]:
        """Yield the file where it is."""
        yield self.root / name


@dataclass(frozen=True)
class HubDataset:
    """One commit of a data set's repository; each file is downloaded, compared with the Hub's listing, used and removed."""

    snapshot: Snapshot

    @property
    def where(self) -> str:
        """hf://datasets/ and the repository's id."""
        return self.snapshot.where

    @property
    def commit(self) -> str | None:
        """The pinned commit."""
        return self.snapshot.commit

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the files of the commit."""
        for name, file in sorted(self.snapshot.files.items(), key=lambda item: _folder_first(item[0])):
            if not any(_hidden(part) for part in name.split("/")):
                yield name, file.size or 0

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files of one folder."""
        return _in_folder(self.files(), folder)

    @contextlib.contextmanager
    def local(self, name: str, scratch: Path) -> Iterator[Path]:
        """Yield a verified copy, in a cache of its own that goes away with it."""
        cache = scratch / "hub"
        pinned = Snapshot(
            self.snapshot.repo_id,
            self.snapshot.commit,
            self.snapshot.commit,
            self.snapshot.files,
            str(cache),
            self.snapshot.token,
            repo_type=DATASET,
        )
        try:
            (path,) = pinned.fetch(name)
            if path is None:
                raise IntegrityError(f"{self.where}: {name}", "a file that the Hub lists", "none", "start over")
            yield path
        finally:
            shutil.rmtree(cache, ignore_errors=True)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder that fsspec reads, for example s3://bucket/folder with s3fs installed."""

    url: str
    filesystem: Any  # fsspec.AbstractFileSystem: untyped
    root: str
    commit: str | None = None

    @property
    def where(self) -> str:
        """The URL."""
        return self.url

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the files of the tree."""
        prefix = self.root.rstrip("/") + "/"
        found = {name.removeprefix(prefix): info["size"] for name, info in self.filesystem.find(self.root, detail=True).items()}
        for name in sorted(found, key=_folder_first):
            if not any(_hidden(part) for part in name.split("/")):
                yield name, int(found[name] or 0)

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files of one folder."""
        return _in_folder(self.files(), folder)

    @contextlib.contextmanager
    def local(self, name: str, scratch: Path) -> Iterator[Path]:
        """Yield a copy that goes away again."""
        scratch.mkdir(parents=True, exist_ok=True)
        copy = scratch / "remote"
        try:
            try:
                self.filesystem.get_file(f"{self.root.rstrip('/')}/{name}", str(copy))
            except Exception as error:  # each file system has errors of its own
                got = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise FileAccessError(
                    f"{self.url}/{name}", "a file to read", got, "check the address and your access"
                ) from error
            yield copy
        finally:
            copy.unlink(missing_ok=True)


def open_source(src: str, *, commit: str | None = None, token: Token = None) -> DatasetSource:
    """Open a data set.

    Args:
        src: Folder, Hub id ("owner/name[@revision]", also after hf://datasets/ or hf-hub:), or a URL that fsspec knows.
        commit: For a Hub id: the commit to use, whatever the revision is by now.
        token: Of the Hub, as huggingface_hub's.

    Raises:
        SourceError: Nothing there.
        HubError: The Hub refused or could not be reached.
    """
    if Path(src).is_dir():
        return LocalFolder(Path(src))
    repo_id = src.removeprefix(DATASET_PREFIX).removeprefix(HUB_PREFIX)
    if "://" in repo_id:
        return _remote(src)
    if Path(src).exists() or not _REPO_ID.fullmatch(repo_id):
        raise SourceError(src, "a folder, a Hub data set (owner/name) or a URL", "nothing of that name", "check it")
    return HubDataset(Snapshot.open(repo_id, revision=commit, token=token, repo_type=DATASET))


def _remote(url: str) -> RemoteFolder:
    from fsspec.core import url_to_fs

    try:
        filesystem, root = url_to_fs(url)
        if not filesystem.isdir(root):
            raise SourceError(url, "a folder", "none there", "check the address and your access")
    except SourceError:
        raise
    except Exception as error:  # unknown protocols, missing packages, refused access: each file system has its own
        raise SourceError(url, "an address that fsspec reads", str(error), "check it and install its package") from error
    return RemoteFolder(url, filesystem, root)


def _hidden(name: str) -> bool:
    # ".." leads out of the data set: not left out, but refused where the names are read.
    return name.startswith((".", "__")) and name != ".."


def _in_folder(files: Iterator[tuple[str, int]], folder: str) -> list[str]:
    return [name for name, _ in files if (name.rpartition("/")[0] or ".") == folder]


def _folder_first(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base
