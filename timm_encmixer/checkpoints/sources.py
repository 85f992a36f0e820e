"""Where a model comes from: a timm name, hf-hub:ID, a folder, or a .safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.checkpoints.checkpoint import Checkpoint
from timm_encmixer.checkpoints.config_file import (
    CONFIG_NAME,
    LOCAL_PREFIX,
    SEALED_NAME,
    WEIGHTS_NAME,
    read_config,
    scheme_in_config,
)
from timm_encmixer.checkpoints.pull import fetch_checkpoint, fetch_file
from timm_encmixer.errors import EncMixerError, NotEncryptedError, SourceError
from timm_encmixer.hub.client import HUB_PREFIX
from timm_encmixer.hub.snapshot import Token, is_public
from timm_encmixer.models.encryption import scheme_of
from timm_encmixer.models.pretrained_cfg import cfg_dict
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import Scheme


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine, and where its weights came from."""

    path: Path
    provenance: Provenance


def find_source(name: str, *, cache_dir: str | os.PathLike[str] | None = None, token: Token = None) -> Source:
    """Bring a model source to a folder or file on this machine, from the Hub where need be.

    An `encmixer_X` name means the plain weights of `convmixer_X`, which it encrypts. What comes from the Hub is verified.

    Raises:
        SourceError: It names nothing, or nothing with safetensors weights.
        HubError, IntegrityError: The Hub could not be reached, or sent other bytes than it lists.
    """
    if name.startswith(HUB_PREFIX):
        return _hub_source(name.removeprefix(HUB_PREFIX), cache_dir, token)
    path = Path(name.removeprefix(LOCAL_PREFIX))
    if path.exists():
        return Source(path, _noted(path))
    plain = "convmixer_" + name.removeprefix("encmixer_") if name.startswith("encmixer_") else name
    if "/" in name or not timm.is_model(plain):
        raise SourceError(
            name, "a timm model name, hf-hub:ID, a folder or a .safetensors file", "nothing of that name", "check it"
        )
    cfg = timm.get_pretrained_cfg(plain)
    if cfg is not None and cfg.file == str(BUNDLED_WEIGHTS):
        return Source(BUNDLED_FOLDER, provenance_of(cfg_dict(cfg)))
    if cfg is None or not cfg.hf_hub_id:
        raise SourceError(name, "a model with pretrained weights", "none", "give a folder or a .safetensors file")
    return _hub_source(cfg.hf_hub_id, cache_dir, token)


def provenance_of(cfg: Mapping[str, Any]) -> Provenance:
    """Say where the weights come from that a plain `pretrained_cfg` names: timm's own and the bundled ones are public."""
    hub_id = str(cfg.get("hf_hub_id") or "").partition("@")[0]
    bundled = cfg.get("file") == str(BUNDLED_WEIGHTS)
    if hub_id and not cfg.get("file"):
        return Provenance(hub_id, public=hub_id.startswith("timm/") or is_public(hub_id))
    return Provenance(public=True) if bundled or cfg.get("url") else Provenance.of(cfg)


def _hub_source(model_id: str, cache_dir: str | os.PathLike[str] | None, token: Token) -> Source:
    path = fetch_checkpoint(model_id, CONFIG_NAME, WEIGHTS_NAME, cache_dir=cache_dir, token=token)
    noted = _noted(path)
    if noted != Provenance():
        return Source(path, noted)
    repo_id = model_id.partition("@")[0]
    return Source(path, Provenance(repo_id, public=repo_id.startswith("timm/") or is_public(repo_id)))


def _noted(path: Path) -> Provenance:
    """Return what a folder's config.json says; a damaged one is reported when it is opened."""
    try:
        return Provenance.of(read_config(path)["pretrained_cfg"]) if path.is_dir() else Provenance()
    except EncMixerError:
        return Provenance()


def find_scheme(target: nn.Module | Scheme | str | os.PathLike[str]) -> Scheme:
    """Return the record of an encrypted model, Hub repository, folder or .safetensors file.

    Raises:
        NotEncryptedError: There is none.
        SourceError: No such place.
    """
    if isinstance(target, Scheme):
        return target
    if isinstance(target, nn.Module):
        scheme, where = scheme_of(target), "model"
    else:
        where = os.fspath(target)
        scheme = _scheme_at(where)
    if scheme is None:
        raise NotEncryptedError(where, "an encrypted model with its record", "a plain one", "encrypt it first")
    return scheme


def _scheme_at(where: str) -> Scheme | None:
    if where.startswith(HUB_PREFIX):
        config = fetch_file(where.removeprefix(HUB_PREFIX), CONFIG_NAME)
        if config is None:
            raise SourceError(where, "a repository with config.json", "none", "give the id of a timm model")
        return scheme_in_config(read_config(config.parent), where=f"{where}: record")
    path = Path(where.removeprefix(LOCAL_PREFIX))
    if path.is_dir() and not (path / WEIGHTS_NAME).exists():
        return scheme_in_config(read_config(path), where=f"{path}: record")  # config.json is all that a client needs
    if path.exists():
        return Checkpoint.open(path).scheme
    raise SourceError(where, "an encrypted folder or .safetensors file, or hf-hub:ID", "no such path", "check the name")


def find_sealed(name: str) -> Path:
    """Return a sealed file: the path itself, or the one in a repository, verified.

    Args:
        name: A path, or "hf-hub:owner/name[@revision]".
    """
    if not name.startswith(HUB_PREFIX):
        return Path(name)
    return fetch_checkpoint(name.removeprefix(HUB_PREFIX), SEALED_NAME) / SEALED_NAME
