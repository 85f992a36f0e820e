"""Encrypted models on many processes: each reads the checkpoint once, one encrypts, one writes."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from timm_encmixer.checkpoints.checkpoint import save_model
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.checkpoints.sources import SourceLike, find_source
from timm_encmixer.distributed.processes import gather, on_every_process, on_main_first, same_everywhere
from timm_encmixer.errors import MissingKeyError
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.models.encryption import changed_by_encryption, encrypt_model, with_encrypted_stem
from timm_encmixer.models.record import scheme_of
from timm_encmixer.models.wrappers import unwrapped
from timm_encmixer.scheme import DEFAULT_CIPHER, Scheme


def load_encrypted(
    accelerator: Accelerator,
    source: SourceLike,
    *,
    key: KeyLike | None = None,
    cipher: str = DEFAULT_CIPHER,
    arch: str | None = None,
) -> nn.Module:
    """Load a model on every process; a plain one is encrypted on the main process, and its new stem broadcast.

    Each process reads the safetensors file once. What comes from the Hub is fetched by the main process first. Only the
    main process needs the key.

    Args:
        accelerator: The run. Every process must call this.
        source: timm model name, "hf-hub:ID", folder or .safetensors file; the same on every process.
        key: For a plain source, on the main process.
        cipher: For a plain source.
        arch: timm name of the architecture of a .safetensors file.

    Returns:
        The encrypted model in evaluation mode, on the CPU: `accelerator.prepare_model` moves it.

    Raises:
        MissingKeyError: The source is plain and the main process has no key.
        ProcessError: Another process has another source, or other bytes under the same name.
        SourceError, CheckpointError, HubError: The source cannot be used. All errors are raised on all processes.

    Examples:
        >>> accelerator = accelerate.Accelerator(cpu=True)
        >>> model = te.load_encrypted(accelerator, "encrypted")
    """
    found = on_every_process(lambda: find_source(source))
    same_everywhere("model", found.name)
    model = on_main_first(lambda: load_model(found, arch=arch))
    same_everywhere("model", _digest(model), remedy="one process reads another file under this name")
    if scheme_of(model) is not None:
        return model
    encrypted = on_every_process(lambda: _encrypt(model, key, cipher) if accelerator.is_main_process else None)
    if accelerator.num_processes == 1:
        assert encrypted is not None  # this is the main process
        return encrypted
    scheme = Scheme.from_json(gather([_record(encrypted)])[0])
    own = changed_by_encryption(encrypted if encrypted is not None else model, scheme)
    changed = {name: broadcast(tensor.to(accelerator.device)).to(tensor.device) for name, tensor in own.items()}
    return encrypted if encrypted is not None else with_encrypted_stem(model, changed, scheme)


def save_encrypted(accelerator: Accelerator, model: nn.Module, dst: str | os.PathLike[str], *, force: bool = False) -> None:
    """Save a prepared model with its record as `save_model` does: one unsharded model.safetensors that timm reads, config.json.

    `accelerator.save_model` writes no record and no config, and shards above its size limit, which timm cannot read.

    Args:
        accelerator: The run. Every process must call this; the main one writes.
        model: As `accelerator.prepare` returned it, or bare.
        dst: Folder to write.
        force: Replace an existing one.

    Raises:
        CheckpointError, TargetExistsError, FileAccessError: Raised on all processes.

    Examples:
        >>> accelerator = accelerate.Accelerator(cpu=True)
        >>> model = te.load_encrypted(accelerator, "encrypted")
        >>> te.save_encrypted(accelerator, model, "trained")
    """
    tensors: Any = accelerator.get_state_dict(model)  # of sharded wrappers every process must ask
    bare = unwrapped(accelerator.unwrap_model(model))  # accelerate keeps torch.compile's wrapper

    def write() -> None:
        if accelerator.is_main_process:
            save_model(bare, dst, state_dict=tensors, force=force)

    on_every_process(write)


def _encrypt(model: nn.Module, key: KeyLike | None, cipher: str) -> nn.Module:
    if key is None:
        raise MissingKeyError("model", "a key to encrypt the plain model with", "none", "pass key=share_key(accelerator)")
    return encrypt_model(model, find_key(key), cipher=cipher)


def _record(model: nn.Module | None) -> str:
    scheme = scheme_of(model) if model is not None else None
    return scheme.to_json() if scheme is not None else ""


def _digest(model: nn.Module) -> str:
    """Return a digest of a model's tensors and record."""
    digest = hashlib.sha256(_record(model).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]
