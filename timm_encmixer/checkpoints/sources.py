"""Where a model comes from: a timm name, hf-hub:ID, a folder, or a .safetensors file. Only this module parses such names."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, SEALED_NAME, WEIGHTS_NAME, path_in, read_config
from timm_encmixer.checkpoints.header import CheckpointHeader
from timm_encmixer.checkpoints.record import read_record
from timm_encmixer.errors import EncMixerError, IntegrityError, SourceError
from timm_encmixer.files import path_text, similar_paths
from timm_encmixer.hub.client import HUB_PREFIX, is_repository, repository_in, split_revision
from timm_encmixer.hub.snapshot import Snapshot, Token, is_public
from timm_encmixer.models.listing import is_model, plain_name, similar_names, timm_cfg
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import Scheme

if TYPE_CHECKING:
    from timm_encmixer.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)
_OTHERS_PREFIX = re.compile(r"^(https?://(www\.)?(huggingface\.co|hf\.co)/|huggingface:|hf:(//)?)")  # of a repository
_KINDS = "a timm model name, hf-hub:ID, a folder or a .safetensors file"


@dataclass(frozen=True)
class Source:
    """What the name of a model means. Its files are fetched, verified and opened when they are first asked for, and only once.

    Args:
        name: As it was given, for messages.
        path: Folder or file on this machine; None for a repository.
        repo_id: "owner/name" on the Hub; None for a path.
        revision: Branch, tag, pull request or commit of the repository; None is main.
        timm_name: timm's name of the plain architecture, with its tag, where that was given; else None.
        cache_dir: The Hub's cache; None takes huggingface_hub's own.
        token: Of the Hub, as huggingface_hub's.
    """

    name: str
    path: Path | None = None
    repo_id: str | None = None
    revision: str | None = None
    timm_name: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: Token = None

    @cached_property
    def snapshot(self) -> Snapshot:
        """The repository's commit, looked up once.

        Raises:
            SourceError: This is no repository, or there is none of this name.
            HubError: The Hub refused or could not be reached.
        """
        if self.repo_id is None:
            raise SourceError(self.name, "hf-hub:ID", "another source", "give the id of a repository")
        return Snapshot.open(self.repo_id, revision=self.revision, cache_dir=self.cache_dir, token=self.token)

    @cached_property
    def local(self) -> Path:
        """The checkpoint on this machine, a folder or a file; from the Hub its config and weights, verified.

        Raises:
            SourceError: There are no safetensors weights.
            HubError, IntegrityError: The Hub could not be reached, or sent other bytes than it lists.
        """
        if self.path is not None:
            logger.info("%s: read from %s", self.name, self.path)
            return self.path
        if self.repo_id is None:
            raise SourceError(self.name, "a model with pretrained weights", "none", "give a folder or a .safetensors file")
        return fetch_files(self.snapshot, CONFIG_NAME, WEIGHTS_NAME)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, opened by its headers.

        Raises:
            CheckpointError, SchemeError, FileAccessError: A file is malformed or unreadable. And as `local`.
        """
        from timm_encmixer.checkpoints.checkpoint import Checkpoint

        return Checkpoint.open(self.local)

    @cached_property
    def record(self) -> Scheme | None:
        """The record of the encryption, None for a plain model. Of a repository only config.json is fetched.

        Raises:
            SourceError: There is no config.json.
        """
        if self.repo_id is not None:
            (config,) = self.snapshot.fetch(CONFIG_NAME)
            if config is None:
                raise SourceError(self.name, "a repository with config.json", "none", "give the id of a timm model")
            return read_record(read_config(config.parent), None, where=self.name)
        if self.local.is_dir() and not (self.local / WEIGHTS_NAME).exists():  # config.json is all that a client needs
            return read_record(read_config(self.local), None, where=str(self.local))
        return CheckpointHeader.open(self.local).scheme

    @cached_property
    def provenance(self) -> Provenance:
        """Where the plain weights come from: what the config notes, else the repository itself."""
        if self.path == BUNDLED_FOLDER and self.timm_name is not None:
            return Provenance(public=True)
        noted = _noted(self.local)
        if noted != Provenance() or self.repo_id is None:
            return noted
        return _from_repository(self.repo_id)

    @cached_property
    def sealed(self) -> Path:
        """The sealed file: the path itself, or the one in the repository, verified."""
        if self.path is not None:
            return self.path
        return fetch_files(self.snapshot, SEALED_NAME) / SEALED_NAME


SourceLike = str | os.PathLike[str] | Source


def find_source(
    name: SourceLike, *, cache_dir: str | os.PathLike[str] | None = None, token: Token = None, exists: bool = True
) -> Source:
    """Find out what a name means. Nothing is fetched yet.

    `encmixer_X` means the plain weights of `convmixer_X`, which that model encrypts.

    Args:
        name: timm model name, "hf-hub:owner/name[@revision]", a folder, or a .safetensors file. A `Source` is returned as is.
        cache_dir: The Hub's cache; None takes huggingface_hub's own.
        token: Of the Hub.
        exists: Refuse a path that does not exist, and a folder without a model. With False such a path becomes a source, and
            reading it fails later.

    Raises:
        SourceError: It names nothing.
    """
    if isinstance(name, Source):
        return name
    if not isinstance(name, (str, os.PathLike)):
        raise SourceError("source", _KINDS, type(name).__name__, "give its name or path")
    text = path_text(name, where="source")
    repository = repository_in(text)
    if repository is not None:
        repo_id, revision = split_revision(repository)
        return Source(text, repo_id=repo_id, revision=revision, cache_dir=cache_dir, token=token)
    local = path_in(text)
    path = Path(text if local is None else local)
    if path.exists() or not exists:
        if exists and path.is_dir() and not any((path / file).exists() for file in (CONFIG_NAME, WEIGHTS_NAME)):
            expected, remedy = f"a folder with {CONFIG_NAME} and {WEIGHTS_NAME}", "give the folder that timm or encmixer wrote"
            raise SourceError(text, expected, "a folder with neither", remedy)
        return Source(text, path=path)
    return _timm_source(text, cache_dir, token)


def open_checkpoint(src: SourceLike) -> Checkpoint:
    """Return the checkpoint of a source, or of a path; a path that does not exist is an error of the file system's."""
    return find_source(src, exists=False).checkpoint


def _timm_source(name: str, cache_dir: str | os.PathLike[str] | None, token: Token) -> Source:
    plain = plain_name(name)
    if "/" in name or name != name.strip() or not is_model(plain):  # before timm is imported
        raise _no_source(name)
    cfg = timm_cfg(plain, given=name)
    if cfg is not None and cfg.file == str(BUNDLED_WEIGHTS):
        return Source(name, path=BUNDLED_FOLDER, timm_name=plain)
    if cfg is None or not cfg.hf_hub_id:
        return Source(name, timm_name=plain)
    repo_id, revision = split_revision(cfg.hf_hub_id)
    return Source(name, repo_id=repo_id, revision=revision, timm_name=plain, cache_dir=cache_dir, token=token)


def _no_source(name: str) -> SourceError:
    """Say that a name means nothing, and what it may have meant."""
    if name != name.strip():
        return SourceError(name, _KINDS, "a name with a space before or after it", f"leave the space out: {name.strip()}")
    repo_id = _OTHERS_PREFIX.sub("", name)
    if is_repository(repo_id):
        remedy = similar_paths(name, otherwise=f"check the path; for a repository of the Hub write {HUB_PREFIX}{repo_id}")
        return SourceError(name, _KINDS, "no such path", remedy)
    if "/" in name or "\\" in name or name.endswith(".safetensors"):
        return SourceError(name, _KINDS, "no such path", similar_paths(name))
    lists = "check the path; encmixer models lists the names that timm has"
    remedy = similar_paths(name, otherwise=similar_names(name, otherwise=lists))
    return SourceError(name, _KINDS, "nothing of that name", remedy)


def fetch_files(snapshot: Snapshot, *names: str) -> Path:
    """Return the folder of a repository's verified files, all from one commit.

    Raises:
        SourceError: The repository has not all of them.
    """
    paths = snapshot.fetch(*names)
    for name, path in zip(names, paths, strict=True):
        if path is None:
            sealed = SEALED_NAME in snapshot.files
            remedy = "pickles are never read: ask its owner for safetensors"
            if sealed:
                remedy = f"open it: encmixer model open {HUB_PREFIX}{snapshot.repo_id} DST --identity FILE"
            raise SourceError(snapshot.where, f"a repository with {name}", "a sealed model" if sealed else "none", remedy)
    folders = {path.parent for path in paths if path is not None}
    if len(folders) != 1:
        remedy = "unset HF_HUB_OFFLINE and run encmixer model pull once"
        raise IntegrityError(snapshot.where, "files of one commit", "files of several", remedy)
    return folders.pop()


def provenance_of(cfg: Mapping[str, Any]) -> Provenance:
    """Say where the weights come from that a plain `pretrained_cfg` names: timm's own and the bundled ones are public."""
    repo_id, _ = split_revision(str(cfg.get("hf_hub_id") or ""))
    if repo_id and not cfg.get("file"):
        return _from_repository(repo_id)
    bundled = cfg.get("file") == str(BUNDLED_WEIGHTS)
    return Provenance(public=True) if bundled or cfg.get("url") else Provenance.of(cfg)


def _from_repository(repo_id: str) -> Provenance:
    return Provenance(repo_id, public=repo_id.startswith("timm/") or is_public(repo_id))


def _noted(path: Path) -> Provenance:
    """Return what a folder's config.json notes; a damaged config is reported when the checkpoint is opened."""
    try:
        return Provenance.of(read_config(path)["pretrained_cfg"]) if path.is_dir() else Provenance()
    except EncMixerError:
        return Provenance()
