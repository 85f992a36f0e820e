"""A checkpoint on disk, opened by its headers: what a client needs of it, without torch.

A folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and model.safetensors), or a single
.safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from timm_encmixer.checkpoints.config_file import WEIGHTS_NAME, read_config
from timm_encmixer.checkpoints.record import read_record
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.files import PathLike
from timm_encmixer.scheme import Scheme

HeaderT = TypeVar("HeaderT", bound="CheckpointHeader")


@dataclass(frozen=True)
class CheckpointHeader:
    """What is known of a checkpoint before its tensors are read."""

    path: Path
    weights: TensorFile
    config: Mapping[str, Any] | None  # config.json; None for a single file
    scheme: Scheme | None  # the record; None for a plain checkpoint

    @classmethod
    def open(cls: type[HeaderT], path: PathLike) -> HeaderT:
        """Open a folder or a .safetensors file and read its record.

        Raises:
            FileAccessError: It is missing or unreadable.
            CheckpointError: A file in it is malformed, or config and weights hold different records.
            SchemeError: The record is malformed or of an unknown version.
        """
        path = Path(path)
        folder = path.is_dir()
        weights = TensorFile.open(path / WEIGHTS_NAME if folder else path)
        config = read_config(path) if folder else None
        scheme = read_record(config, weights.metadata, where=str(path))
        return cls(path, weights, config, scheme)
