"""The files of a data set, wherever it is: in a folder, a repository of the Hub, or any address that fsspec reads."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec.structs import replace

from timm_encmixer.datasets.listing import FOLDER, SourceFile, same_times
from timm_encmixer.errors import FileAccessError, HubError, IntegrityError, SourceError
from timm_encmixer.files import file_error
from timm_encmixer.hub.client import is_offline
from timm_encmixer.hub.snapshot import DATASET, Snapshot, Token
from timm_encmixer.images.data_source import DataSourceLike, find_data_source
from timm_encmixer.images.folders import HIDDEN, is_hidden, walk

LeftOut = tuple[str, str]  # the reason and the name; of a folder that nobody looks into, with a / at its end
RUN_AGAIN = "let nobody write there, and run the command again: only what has changed is made again"
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "version_id", "mtime", "LastModified", "last_modified", "created")


class SourceTree(Protocol):
    """A tree of files to read, one at a time."""

    @property
    def where(self) -> str:
        """Its name, for messages."""

    @property
    def commit(self) -> str | None:
        """The commit that its files come from, where there is one."""

    def files(self) -> Iterator[SourceFile | LeftOut]:
        """Yield the files, folder by folder, each sorted, and what is left out for what it is."""

    def has(self, name: str) -> bool:
        """Whether there is a file of that name, hidden or not."""

    def stamp(self, path: Path) -> str | None:
        """Return the stamp that a file that `local` has brought has now; None for what cannot change under us."""

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

    def files(self) -> Iterator[SourceFile | LeftOut]:
        """Yield the files of the tree, one folder's listing in memory at a time.

        Links to files are followed. Links to folders are left out, as are hidden entries and what is no regular file.

        Raises:
            FileAccessError: A folder cannot be read, or a link leads nowhere.
        """
        for path, status in walk(self.root):
            name = path.relative_to(self.root).as_posix()
            if not isinstance(status, str):
                yield SourceFile(name, status.st_size, _times(status))
            elif name != FOLDER:  # which is ours
                yield status, f"{name}/" if path.is_dir() else name

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.root / name).is_file()

    def stamp(self, path: Path) -> str:
        """Return the times of a file."""
        return _times(path.stat())

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files of one folder ("." is the topmost), sorted as in `files`."""
        try:
            names = [entry.name for entry in os.scandir(self.root / folder) if not is_hidden(entry.name) and not entry.is_dir()]
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

    def files(self) -> Iterator[SourceFile | LeftOut]:
        """Yield the files of the commit."""
        for name, file in sorted(self.snapshot.files.items(), key=lambda item: _folder_first(item[0])):
            yield from _listed(name, file.size or 0, file.digest, where=self.where)

    def has(self, name: str) -> bool:
        """Whether the commit has such a file."""
        return name in self.snapshot.files

    def stamp(self, path: Path) -> None:
        """A commit does not change, and its files are verified."""

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

    def files(self) -> Iterator[SourceFile | LeftOut]:
        """Yield the files of the tree."""
        prefix = self.root.rstrip("/") + "/"
        found = {name.removeprefix(prefix): info for name, info in self.filesystem.find(self.root, detail=True).items()}
        for name in sorted(found, key=_folder_first):
            info = found[name]
            version = next((str(info[field]) for field in _VERSIONS if info.get(field)), "")
            stamp = hashlib.sha256(version.encode()).hexdigest()
            yield from _listed(name, int(info["size"] or 0), stamp, where=self.url)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        found: bool = self.filesystem.isfile(f"{self.root.rstrip('/')}/{name}")
        return found

    def stamp(self, path: Path) -> None:
        """What has been copied here does not change."""

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


def open_source(src: DataSourceLike, *, commit: str | None = None, token: Token = None) -> SourceTree:
    """Open the tree of files that a data set's name means.

    Args:
        src: As for `find_data_source`.
        commit: For a Hub id: the commit to use, whatever the revision is by now.
        token: Of the Hub, as huggingface_hub's.

    Raises:
        SourceError: Nothing there.
        HubError: The Hub refused or could not be reached.
    """
    source = find_data_source(src, token=token)
    if source.path is not None:
        return LocalFolder(source.path)
    if source.url is not None:
        return _remote(source.url)
    if is_offline():
        got = "no such folder, and offline mode"
        raise HubError(source.name, "a folder or a Hub data set", got, "unset HF_HUB_OFFLINE")
    return HubDataset(source.snapshot(commit))


@contextlib.contextmanager
def unchanged(source: SourceTree, file: SourceFile, scratch: Path) -> Iterator[Path]:
    """Bring a listed file here for as long as the context lasts; it is to be what was listed, before and after.

    Raises:
        SourceError: It has vanished or was changed.
    """

    def compare(path: Path) -> None:
        try:
            now = SourceFile(file.name, path.stat().st_size, source.stamp(path) or file.stamp)
        except FileNotFoundError:
            now = None
        if now is None or not same_times(now, replace(file, size=file.size or now.size)):
            got = "none by now" if now is None else "one that was changed meanwhile"
            raise SourceError(f"{source.where}/{file.name}", "the file that this run began with", got, RUN_AGAIN)

    with source.local(file.name, scratch) as path:
        compare(path)
        yield path
        compare(path)


def printable(name: str) -> str:
    """Return a name as text that can be printed, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _remote(url: str) -> RemoteFolder:
    from fsspec import get_filesystem_class
    from fsspec.core import url_to_fs

    address = urlsplit(url.rpartition("::")[2])
    try:
        host = inspect.signature(get_filesystem_class(address.scheme).__init__).parameters.get("host")
        if host is not None and host.default is host.empty and not address.hostname:
            raise SourceError(url, "an address with a host", "none", "name the host after ://")
        filesystem, root = url_to_fs(url)
        if not filesystem.isdir(root):
            raise SourceError(url, "a folder", "none there", "check the address and your access")
    except SourceError:
        raise
    except Exception as error:  # unknown protocols, missing packages, refused access: each file system has its own
        raise SourceError(url, "an address that fsspec reads", str(error), "check it and install its package") from error
    return RemoteFolder(url, filesystem, root)


def _listed(name: str, size: int, stamp: str, *, where: str) -> Iterator[SourceFile | LeftOut]:
    """Yield a file of a flat list, or say that it is hidden; what we wrote ourselves is neither.

    Raises:
        SourceError: The name leads out of the data set; a server may list what it likes.
    """
    if name.startswith(f"{FOLDER}/"):
        return
    if any(is_hidden(part) for part in name.split("/")):
        yield HIDDEN, name
        return
    try:
        yield SourceFile(name, size, stamp)
    except ValueError as error:
        raise SourceError(f"{where}: {name}", "files below the data set", "one outside", "do not use this source") from error


def _times(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}"


def _folder_first(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base
