"""A model folder on its way out: checked to be encrypted and whole before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from timm_encmixer.checkpoints.checkpoint import Checkpoint, check_weights
from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import LeakError, NotEncryptedError, SchemeError, SourceError
from timm_encmixer.keys import SecretKey
from timm_encmixer.scheme import Scheme


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A checked folder.

    Args:
        checkpoint: The folder, with config.json and model.safetensors, opened once.
        config: What config.json says.
        scheme: The record, which both files hold.
    """

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    scheme: Scheme

    @property
    def folder(self) -> Path:
        """The folder's path."""
        return self.checkpoint.path

    @property
    def architecture(self) -> str:
        """The architecture, by its name in timm."""
        return str(self.config["architecture"])


def check_outgoing(checkpoint: Checkpoint, key: SecretKey | None, plain: Checkpoint | None) -> Outgoing:
    """Make sure that a folder holds an encrypted model and nothing that gives it away.

    Args:
        checkpoint: A folder with config.json and model.safetensors.
        key: The key that it must be encrypted with; None checks no key.
        plain: The plain weights, whose stem must be another one; None compares nothing.

    Raises:
        NotEncryptedError: The model is plain, or its weights are, whatever its record says.
        SourceError, CheckpointError, SchemeError: It is not a whole model with its record in both files.
        KeyMismatchError: It was encrypted with another key.
        LeakError: Its stem is the plain one.
    """
    where = str(checkpoint.path)
    if checkpoint.config is None:
        raise SourceError(where, "a folder with config.json and model.safetensors", "a file", "give the folder")
    scheme = checkpoint.scheme
    if scheme is None:
        remedy = "encrypt it first (encrypt_checkpoint), or pass key= (--key)"
        raise NotEncryptedError(where, "an encrypted model", "a plain one", remedy)
    if scheme.fingerprint is None or scheme.stem is None:
        remedy = "encrypt the plain model again"
        raise SchemeError(f"{where}: record", "a key fingerprint and a stem", "none", remedy)
    if RECORD_NAME not in checkpoint.weights.metadata or RECORD_NAME not in checkpoint.config:
        remedy = "load it and save it with timm_encmixer.save_model"
        raise SchemeError(where, "the record in config.json and in the weights' metadata", "one without", remedy)
    if key is not None:
        BlockCipher(key, scheme)  # raises KeyMismatchError
    check_weights(checkpoint.weights, checkpoint.config, where=where)
    if plain is not None:
        _refuse_equal_stems(plain, checkpoint, scheme.stem)
    checkpoint.check_stem()
    return Outgoing(checkpoint=checkpoint, config=checkpoint.config, scheme=scheme)


def _refuse_equal_stems(plain: Checkpoint, encrypted: Checkpoint, stem: str) -> None:
    name = f"{stem}.weight"
    before, after = (checkpoint.weights.read(name).double() for checkpoint in (plain, encrypted))
    if before.shape == after.shape and torch.allclose(before, after, rtol=1e-3, atol=1e-6):
        got = "the plain weights of " + str(plain.path)
        raise LeakError(f"{encrypted.path}: {name}", "an encrypted stem", got, "encrypt the model; its record is not true")
