"""Where data comes from: a folder, a data set of the Hub, or a URL. Only this module parses such names."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from timm_encmixer.errors import DataError, FileAccessError, HubError, SourceError, require_packages
from timm_encmixer.files import path_text, similar_paths
from timm_encmixer.hub.client import DATASET_PREFIX, dataset_in, is_repository, split_revision
from timm_encmixer.hub.snapshot import Snapshot, Token, open_dataset

_KINDS = "a folder, a Hub data set (owner/name) or a URL"
_TO_READ = "a folder or a Hub data set"
_CHECK = "check the path; a data set of the Hub is written owner/name"


@dataclass(frozen=True)
class DataSource:
    """What the name of a data set means; exactly one of `path`, `repository` and `url` is there.

    Args:
        name: As it was given, for messages.
        path: Folder on this machine.
        repository: "owner/name[@revision]" on the Hub.
        url: An address that fsspec may read.
        token: Of the Hub, as huggingface_hub's.
    """

    name: str
    path: Path | None = None
    repository: str | None = None
    url: str | None = None
    token: Token = field(default=None, repr=False)

    @property
    def repo_id(self) -> str | None:
        """The id of the repository, without a revision."""
        return None if self.repository is None else split_revision(self.repository)[0]

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit of the repository; None is main."""
        return None if self.repository is None else split_revision(self.repository)[1]

    @cached_property
    def is_table(self) -> bool:
        """Whether `datasets` reads it: a folder with parquet files, or a data set of the Hub. Else it is a folder of images."""
        return self.path is None or any(self.path.rglob("*.parquet"))

    @property
    def may_be_path(self) -> bool:
        """Whether it is a repository by its form alone, and begins with a folder that is here: it may be a mistyped path."""
        return self.repository == self.name and Path(self.name.partition("/")[0]).is_dir()

    def snapshot(self, commit: str | None = None) -> Snapshot:
        """Look up the repository, at a commit or at its revision.

        Raises:
            SourceError: This is no repository, or there is none of this name.
            HubError: The Hub refused or could not be reached.
        """
        if self.repository is None:
            raise SourceError(self.name, "a Hub data set", "another source", "give the id of a repository")
        return open_dataset(self.repository, name=self.name, commit=commit, token=self.token)


DataSourceLike = str | os.PathLike[str] | DataSource


def find_data_source(name: DataSourceLike, *, token: Token = None) -> DataSource:
    """Find out what a name means. Nothing is looked up on the Hub yet.

    Args:
        name: Folder; "owner/name[@revision]", also after hf://datasets/ or hf-hub:; or a URL. A `DataSource` is returned as is.
        token: Of the Hub.

    Raises:
        SourceError: It names nothing.
    """
    if isinstance(name, DataSource):
        return name
    text = path_text(name, where="data")
    path, named = Path(text), dataset_in(text)
    if path.is_dir():
        return DataSource(text, path=path)
    repository = text if named is None else named
    if "://" in repository:
        return DataSource(text, url=text)
    if path.exists():
        raise SourceError(text, _KINDS, "a file", "give the folder that it lies in")
    if not is_repository(repository):
        raise SourceError(text, _KINDS, "no such folder", similar_paths(text, otherwise=_CHECK))
    return DataSource(text, repository=repository, token=token)


def find_data(src: DataSourceLike) -> DataSource:
    """Find out what the name of images to read means, and whether it is there: a folder of images, or a table.

    The Hub is asked here because `datasets` goes on asking for most of a minute where there is no network.

    Raises:
        DataError: There is no such folder, and none on the Hub; or the Hub refused or could not be reached; or it is a URL.
        MissingExtraError: It is a table, and `datasets` is not installed.
    """
    try:
        source = find_data_source(src)
    except (SourceError, FileAccessError) as error:
        raise DataError(error.where, _TO_READ, error.got, error.remedy) from error
    if source.url is not None:
        raise DataError(source.name, _TO_READ, "a URL", "download it first, or give a Hub data set")
    if source.may_be_path:  # paths of this machine are not sent to the Hub
        otherwise = f"check the path; if the Hub's is meant, give {DATASET_PREFIX}{source.repository}"
        raise DataError(source.name, _TO_READ, "no such folder", similar_paths(source.name, otherwise=otherwise))
    if source.is_table:
        require_packages(source.name, "data", "datasets")
    if source.path is None:
        try:
            source.snapshot()
        except (SourceError, HubError) as error:
            cached = "" if isinstance(error, SourceError) else ", or set HF_HUB_OFFLINE=1 for one in the cache of datasets"
            raise DataError(source.name, _TO_READ, error.got, f"{error.remedy}{cached}") from error
    return source
