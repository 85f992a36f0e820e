"""Where a model comes from on the command line: a timm name, hf-hub:ID, a folder, or a .safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from torch import nn

from timm_encmixer.building import PRIVATE_WEIGHTS, PUBLIC_WEIGHTS, is_public_source
from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_WEIGHTS
from timm_encmixer.checkpoint import Checkpoint
from timm_encmixer.config_file import CONFIG_NAME, WEIGHTS_NAME, bare_model, check_tensors
from timm_encmixer.errors import SourceError
from timm_encmixer.hub_files import HUB_PREFIX, download_file
from timm_encmixer.models import attach_scheme
from timm_encmixer.pretrained_cfg import cfg_dict
from timm_encmixer.transforms import LOCAL_PREFIX


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine, and whether anybody can download the same weights."""

    path: Path
    public: bool


def find_source(name: str) -> Source:
    """Bring a model source to a folder or file on this machine, from the Hub where need be.

    An `encmixer_X` name means the plain weights of `convmixer_X`, which it encrypts.

    Raises:
        SourceError: It names nothing, or nothing with safetensors weights.
    """
    if name.startswith(HUB_PREFIX):
        return Source(_download(name.removeprefix(HUB_PREFIX)), public=True)
    path = Path(name.removeprefix(LOCAL_PREFIX))
    if path.exists():
        return Source(path, public=False)
    plain = "convmixer_" + name.removeprefix("encmixer_") if name.startswith("encmixer_") else name
    if "/" in name or not timm.is_model(plain):
        raise SourceError(
            name, "a timm model name, hf-hub:ID, a folder or a .safetensors file", "nothing of that name", "check it"
        )
    cfg = timm.get_pretrained_cfg(plain)
    if cfg is not None and cfg.file == str(BUNDLED_WEIGHTS):
        return Source(BUNDLED_FOLDER, public=True)
    if cfg is None or not cfg.hf_hub_id:
        raise SourceError(name, "a model with pretrained weights", "none", "give a folder or a .safetensors file")
    return Source(_download(cfg.hf_hub_id), public=is_public_source(cfg_dict(cfg)))


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
        check_tensors(checkpoint.weights, bare_model(checkpoint.config["architecture"], checkpoint.config, where=name))
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


def describe(path: Path) -> dict[str, Any]:
    """Say what a checkpoint is: architecture, tensors, and the record of its encryption, read from headers alone."""
    checkpoint = Checkpoint.open(path)
    architecture = checkpoint.config["architecture"] if checkpoint.config else None
    return {
        "path": str(path),
        "architecture": architecture,
        "encrypted": checkpoint.scheme is not None,
        "tensors": len(checkpoint.weights.entries),
        "bytes": checkpoint.weights.path.stat().st_size,
        **({"encmixer": checkpoint.scheme.to_dict()} if checkpoint.scheme is not None else {}),
    }


def public_weights_warning(source: Source) -> str:
    """Return what to tell the owner of a model about its plain weights."""
    if source.public:
        return PUBLIC_WEIGHTS
    return f"keep the plain weights secret: {PRIVATE_WEIGHTS}"


def _download(model_id: str) -> Path:
    files = {name: download_file(model_id, name) for name in (CONFIG_NAME, WEIGHTS_NAME)}
    weights = files[WEIGHTS_NAME]
    if weights is None or files[CONFIG_NAME] is None:
        missing = next(name for name, file in files.items() if file is None)
        raise SourceError(
            HUB_PREFIX + model_id, f"a repository with {missing}", "none", "pickles are never read: ask for safetensors"
        )
    return weights.parent
