"""Loading a whole model from a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from timm_encmixer.checkpoints.checkpoint import Checkpoint, check_tensors, check_weights
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, LOCAL_PREFIX
from timm_encmixer.checkpoints.sources import SourceLike, find_source
from timm_encmixer.errors import CheckpointError, EncMixerError, SourceError, warn_caller
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.listing import timm_cfg
from timm_encmixer.models.pretrained_cfg import check_ciphertext
from timm_encmixer.models.record import attach_scheme, cfg_of, check_stem, scheme_of

ModelLike = nn.Module | SourceLike


def load_model(source: ModelLike, *, arch: str | None = None, device: str | None = None) -> nn.Module:
    """Load a model, plain or encrypted, in evaluation mode.

    Args:
        source: As for `find_source`; a model is returned as it is, in evaluation mode.
        arch: timm name of a single file's architecture; an encrypted file that records its own needs none. A folder's is in its
            config, and no other is taken.
        device: torch's name of the device to move it to; None leaves it where it is.

    Raises:
        SourceError: It names nothing that is a whole model. Or torch has no such device.
        CheckpointError: Weights and architecture do not belong together.
        SchemeMismatchError: The config of an encrypted model asks for another normalisation than its record, or for a crop.
        NotEncryptedError: Plain weights, or ones under another key, lie under an encrypted model's record.

    Warns:
        UserWarning: The stem is far from the one that was encrypted. It was trained for long, or is not this model's.

    Examples:
        >>> model = te.load_model("encrypted")
        >>> model.training
        False
    """
    if device is not None:
        _check_device(device)
        return load_model(source, arch=arch).to(device)
    if isinstance(source, nn.Module):
        return source.eval()
    source = find_source(source)
    checkpoint = source.checkpoint
    checkpoint.check_architecture(arch)
    if checkpoint.config is None:
        model = _load_single_file(checkpoint, arch)
    else:
        check_weights(checkpoint.weights, checkpoint.config, where=source.name)
        model = _build(checkpoint.path)
    if checkpoint.scheme is not None:
        if checkpoint.config is not None:
            check_ciphertext(cfg_of(model), checkpoint.scheme)
        attach_scheme(model, checkpoint.scheme, checkpoint.sketch)
        check_loaded(model, source.name)
    return model.eval()


def check_loaded(model: nn.Module, where: str) -> None:
    """Refuse an encrypted model that was just loaded if its weights are plain; warn if they are far from those encrypted."""
    scheme = scheme_of(model)
    if scheme is not None and not check_stem(model, scheme):
        warn_caller(f"{where}: the stem is far from the one that was encrypted; was it trained on ciphertext, or resampled?")


def _check_device(device: str) -> None:
    """Find out before anything is read whether torch has a device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch without CUDA asserts
        raise SourceError(
            "device", "a device that torch has here", repr(device), "take cpu, or install torch for it"
        ) from error


def _build(folder: Path) -> nn.Module:
    """Let timm build and load a folder's model; it reads more of a config than is checked when the config is read."""
    try:
        model: nn.Module = timm.create_model(f"{LOCAL_PREFIX}{folder}", pretrained=True)
        return model
    except (EncMixerError, OSError):
        raise
    except Exception as error:
        expected, got = "a config that timm builds a model from", f"{type(error).__name__}: {error}"
        remedy = "take the folder that timm.models.save_for_hf or encmixer wrote"
        raise CheckpointError(str(folder / CONFIG_NAME), expected, got, remedy) from error


def _load_single_file(checkpoint: Checkpoint, arch: str | None) -> nn.Module:
    """Build the architecture with as many classes as the file's classifier has, and load the file into it."""
    where, scheme = str(checkpoint.path), checkpoint.scheme
    name = arch or (scheme.base_architecture if scheme is not None else None)
    if name is None or not timm.is_model(name):
        raise SourceError(where, "the architecture of a single file", repr(name), "pass arch= (--arch NAME)")
    cfg = timm_cfg(name)
    classifier = f"{cfg.classifier}.weight" if cfg is not None else ""
    weights = checkpoint.weights
    classes: dict[str, Any] = {"num_classes": weights.shape(classifier)[0]} if classifier in weights.entries else {}
    check_tensors(weights, bare_model(name, classes, where=where))
    model: nn.Module = timm.create_model(name, pretrained=False, **classes)
    try:
        model.load_state_dict(load_file(checkpoint.path))
    except (SafetensorError, KeyError, NotImplementedError, RuntimeError) as error:  # types that torch has not
        raise CheckpointError(where, "weights of types that torch can load", str(error), "take another copy") from error
    return model
