"""What a checkpoint is, told from its config and header alone: on this machine, or on the Hub without downloading weights."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

from timm_encmixer.checkpoints.config_file import CONFIG_NAME, SEALED_NAME, WEIGHTS_NAME, read_config
from timm_encmixer.checkpoints.header import CheckpointHeader
from timm_encmixer.checkpoints.record import read_record
from timm_encmixer.checkpoints.sources import Source, SourceLike, find_source
from timm_encmixer.checkpoints.tensor_file import read_header
from timm_encmixer.ciphers.parts.etc import few_keys
from timm_encmixer.errors import CheckpointError, SourceError
from timm_encmixer.hub.client import is_offline
from timm_encmixer.hub.snapshot import Snapshot
from timm_encmixer.scheme import Scheme

_FIRST_BYTES = 1 << 16  # enough for the header of a ConvMixer or ViT
_LONGEST_HEADER_BYTES = 10_000_000  # of a file that somebody else offers


def describe(name: SourceLike) -> dict[str, Any]:
    """Say what a model source is: architecture, tensors, and the record of its encryption.

    Args:
        name: As for `find_source`. Of hf-hub:ID only the config and the weights' header are fetched.

    Raises:
        SourceError, HubError: It names nothing, or the Hub could not be reached.
        CheckpointError, SchemeError: A config, header or record is malformed.
    """
    source = find_source(name)
    if source.repo_id is not None and not is_offline():
        return _describe_repository(source)
    checkpoint = CheckpointHeader.open(source.local)
    architecture = checkpoint.config["architecture"] if checkpoint.config else None
    size = checkpoint.weights.path.stat().st_size
    return {"path": str(checkpoint.path), **_facts(architecture, checkpoint.scheme, len(checkpoint.weights.entries), size)}


def _describe_repository(source: Source) -> dict[str, Any]:
    snapshot = source.snapshot
    (config_path,) = snapshot.fetch(CONFIG_NAME)
    if config_path is None:
        raise SourceError(snapshot.where, f"a repository with {CONFIG_NAME}", "none", "give the id of a timm model")
    config = read_config(config_path.parent)
    place = {"repository": snapshot.repo_id, "commit": snapshot.commit, "private": snapshot.private}
    weights = snapshot.files.get(WEIGHTS_NAME)
    if weights is None:
        sealed = snapshot.files.get(SEALED_NAME)
        scheme = read_record(config, None, where=snapshot.where)
        facts = _facts(config["architecture"], scheme, None, sealed.size if sealed else None)
        return {**place, **facts, "sealed": sealed is not None}
    header, metadata = _remote_header(snapshot)
    scheme = read_record(config, metadata, where=snapshot.where)
    return {**place, **_facts(config["architecture"], scheme, len(header), weights.size)}


def read_remote_record(snapshot: Snapshot) -> Scheme | None:
    """Return the record in the header of a repository's weights, None if they are plain.

    Raises:
        CheckpointError: The weights are no safetensors file.
    """
    return read_record(None, _remote_header(snapshot)[1], where=snapshot.where)


def _remote_header(snapshot: Snapshot) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Return the tensors and the metadata in the header of a repository's weights."""
    where, size = f"{snapshot.where}: {WEIGHTS_NAME}", snapshot.files[WEIGHTS_NAME].size or 0
    content = snapshot.header_bytes(WEIGHTS_NAME, 0, min(_FIRST_BYTES, size))
    length = struct.unpack("<Q", content[:8])[0] + 8 if len(content) >= 8 else 0
    if length > _LONGEST_HEADER_BYTES:
        remedy = "do not use this repository"
        raise CheckpointError(where, f"a header of at most {_LONGEST_HEADER_BYTES} bytes", f"{length}", remedy)
    if len(content) < min(length, size):
        content += snapshot.header_bytes(WEIGHTS_NAME, len(content), min(length, size))
    header, _ = read_header(io.BytesIO(content), size, where)
    metadata = header.pop("__metadata__", None)
    return header, metadata if isinstance(metadata, dict) else None


def _facts(architecture: str | None, scheme: Scheme | None, tensors: int | None, size: int | None) -> Mapping[str, Any]:
    counts = {"tensors": tensors, "bytes": size}
    return {
        "architecture": architecture,
        "encrypted": scheme is not None,
        **{name: value for name, value in counts.items() if value is not None},
        **({"encmixer": scheme.to_dict()} if scheme is not None else {}),
        **({"few_keys": few_keys(scheme)} if scheme is not None and scheme.takes_jpeg else {}),
    }
