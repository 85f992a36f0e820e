"""What a checkpoint is, told from its config and header alone: on this machine, or on the Hub without downloading weights."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm_encmixer.checkpoints.checkpoint import Checkpoint
from timm_encmixer.checkpoints.config_file import (
    CONFIG_NAME,
    RECORD_NAME,
    SEALED_NAME,
    WEIGHTS_NAME,
    read_config,
    scheme_in_config,
)
from timm_encmixer.checkpoints.pull import fetch_checkpoint
from timm_encmixer.checkpoints.sources import find_source
from timm_encmixer.checkpoints.tensor_file import read_header
from timm_encmixer.errors import CheckpointError, SourceError
from timm_encmixer.hub.client import HUB_PREFIX, is_offline
from timm_encmixer.hub.snapshot import Snapshot
from timm_encmixer.scheme import Scheme

_FIRST_BYTES = 1 << 16  # enough for the header of a ConvMixer or ViT
_LONGEST_HEADER_BYTES = 10_000_000  # of a file that somebody else offers


def describe(name: str) -> dict[str, Any]:
    """Say what a model source is: architecture, tensors, and the record of its encryption.

    Args:
        name: As for `find_source`. For hf-hub:ID the config and the weights' header are fetched, and nothing else.

    Raises:
        SourceError, HubError, CheckpointError, SchemeError.
    """
    if name.startswith(HUB_PREFIX):
        model_id = name.removeprefix(HUB_PREFIX)
        return (
            _describe_folder(fetch_checkpoint(model_id, CONFIG_NAME, WEIGHTS_NAME)) if is_offline() else _describe_hub(model_id)
        )
    return _describe_folder(find_source(name).path)


def _describe_folder(path: Path) -> dict[str, Any]:
    checkpoint = Checkpoint.open(path)
    architecture = checkpoint.config["architecture"] if checkpoint.config else None
    size = checkpoint.weights.path.stat().st_size
    return {"path": str(path), **_facts(architecture, checkpoint.scheme, len(checkpoint.weights.entries), size)}


def _describe_hub(model_id: str) -> dict[str, Any]:
    snapshot = Snapshot.open(model_id)
    (config_path,) = snapshot.fetch(CONFIG_NAME)
    if config_path is None:
        raise SourceError(snapshot.where, f"a repository with {CONFIG_NAME}", "none", "give the id of a timm model")
    config = read_config(config_path.parent)
    scheme = scheme_in_config(config, where=f"{snapshot.where}: record")
    place = {"repository": snapshot.repo_id, "commit": snapshot.commit, "private": snapshot.private}
    weights = snapshot.files.get(WEIGHTS_NAME)
    if weights is None:
        sealed = snapshot.files.get(SEALED_NAME)
        facts = _facts(config["architecture"], scheme, None, sealed.size if sealed else None)
        return {**place, **facts, "sealed": sealed is not None}
    header = _remote_header(snapshot, weights.size or 0)
    in_header = _record(header, snapshot.where)
    if in_header is not None and in_header != scheme:
        remedy = "do not use it: the files come from different encryptions"
        raise CheckpointError(snapshot.where, "one record in config.json and model.safetensors", "two different ones", remedy)
    return {**place, **_facts(config["architecture"], scheme, len(header), weights.size)}


def read_remote_record(snapshot: Snapshot) -> Scheme | None:
    """Return the record in the header of a repository's weights, None if they are plain.

    Raises:
        CheckpointError: The weights are no safetensors file.
    """
    return _record(_remote_header(snapshot, snapshot.files[WEIGHTS_NAME].size or 0), snapshot.where)


def _record(header: dict[str, Any], where: str) -> Scheme | None:
    metadata = header.pop("__metadata__", None) or {}
    text = metadata.get(RECORD_NAME) if isinstance(metadata, dict) else None
    return Scheme.from_json(str(text), where=f"{where}: record") if text is not None else None


def _remote_header(snapshot: Snapshot, size: int) -> dict[str, Any]:
    where = f"{snapshot.where}: {WEIGHTS_NAME}"
    content = snapshot.header_bytes(WEIGHTS_NAME, 0, min(_FIRST_BYTES, size))
    length = struct.unpack("<Q", content[:8])[0] + 8 if len(content) >= 8 else 0
    if length > _LONGEST_HEADER_BYTES:
        remedy = "do not use this repository"
        raise CheckpointError(where, f"a header of at most {_LONGEST_HEADER_BYTES} bytes", f"{length}", remedy)
    if len(content) < min(length, size):
        content += snapshot.header_bytes(WEIGHTS_NAME, len(content), min(length, size))
    return read_header(io.BytesIO(content), size, where)[0]


def _facts(architecture: str | None, scheme: Scheme | None, tensors: int | None, size: int | None) -> Mapping[str, Any]:
    counts = {"tensors": tensors, "bytes": size}
    return {
        "architecture": architecture,
        "encrypted": scheme is not None,
        **{name: value for name, value in counts.items() if value is not None},
        **({"encmixer": scheme.to_dict()} if scheme is not None else {}),
    }
