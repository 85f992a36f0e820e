"""Where a model comes from: a timm name, hf-hub:ID, a folder, or a .safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from torch import nn

from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.checkpoints.checkpoint import Checkpoint
from timm_encmixer.checkpoints.config_file import (
    CONFIG_NAME,
    LOCAL_PREFIX,
    WEIGHTS_NAME,
    bare_model,
    check_tensors,
    check_weights,
    read_config,
)
from timm_encmixer.errors import EncMixerError, SourceError
from timm_encmixer.hub.client import HUB_PREFIX
from timm_encmixer.hub.snapshot import Token, fetch_checkpoint, is_public
from timm_encmixer.models.encryption import attach_scheme
from timm_encmixer.models.pretrained_cfg import cfg_dict
from timm_encmixer.models.provenance import Provenance


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


def load_model(name: str, *, arch: str | None = None) -> nn.Module:
    """Load a model, plain or encrypted, in evaluation mode.

    Args:
        name: As for `find_source`.
        arch: timm name of a single file's architecture; an encrypted file that records its own needs none.

    Raises:
        SourceError: It names nothing that is a whole model.
        CheckpointError: Weights and architecture do not belong together.
    """
    path = find_source(name).path
    checkpoint = Checkpoint.open(path)
    if checkpoint.config is None:
        model = _load_single_file(checkpoint, arch)
    else:
        check_weights(checkpoint.weights, checkpoint.config, where=name)
        model = timm.create_model(f"{LOCAL_PREFIX}{path}", pretrained=True)
    if checkpoint.scheme is not None:
        attach_scheme(model, checkpoint.scheme)
    return model.eval()


def _load_single_file(checkpoint: Checkpoint, arch: str | None) -> nn.Module:
    """Build the architecture with as many classes as the file's classifier has, and load the file into it."""
    where, scheme = str(checkpoint.path), checkpoint.scheme
    name = arch or (scheme.base_architecture if scheme is not None else None)
    if name is None or not timm.is_model(name):
        raise SourceError(where, "the architecture of a single file", repr(name), "pass --arch NAME")
    cfg = timm.get_pretrained_cfg(name)
    classifier = f"{cfg.classifier}.weight" if cfg is not None else ""
    weights = checkpoint.weights
    classes: dict[str, Any] = {"num_classes": weights.shape(classifier)[0]} if classifier in weights.entries else {}
    check_tensors(weights, bare_model(name, classes, where=where))
    model: nn.Module = timm.create_model(name, pretrained=False, **classes)
    model.load_state_dict(load_file(checkpoint.path))
    return model


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
