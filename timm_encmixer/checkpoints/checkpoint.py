"""A checkpoint on disk: opened by its headers, read tensor by tensor, written anew with a few tensors changed.

A folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and model.safetensors), or a single
.safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from timm_encmixer.checkpoints.config_file import CONFIG_NAME, RECORD_NAME, WEIGHTS_NAME, read_config, scheme_in_config
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.errors import CheckpointError, SourceError
from timm_encmixer.files import refuse_existing, replacing_file, replacing_folder
from timm_encmixer.models.patch_stem import check_finite
from timm_encmixer.models.pretrained_cfg import encrypted_cfg, plain_cfg
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import PATCH_PX, Scheme

OWNED_NAMES = frozenset((WEIGHTS_NAME, CONFIG_NAME))
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint before its tensors are read."""

    path: Path
    weights: TensorFile
    config: Mapping[str, Any] | None  # config.json; None for a single file
    scheme: Scheme | None  # the record; None for a plain checkpoint

    @classmethod
    def open(cls, path: PathLike) -> Checkpoint:
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
        text = weights.metadata.get(RECORD_NAME)
        scheme = Scheme.from_json(text, where=f"{weights.path}: record") if text is not None else None
        if config is not None:
            in_config = scheme_in_config(config, where=f"{path / CONFIG_NAME}: record")
            if scheme is not None and in_config != scheme:
                raise CheckpointError(
                    str(path),
                    "one record in config.json and model.safetensors",
                    "two different ones",
                    "the files come from different encryptions: take both from the same one",
                )
            scheme = in_config
            if scheme is not None and scheme.base_architecture not in (None, config["architecture"]):
                raise CheckpointError(
                    str(path / CONFIG_NAME),
                    f"the record's architecture {scheme.base_architecture}",
                    repr(config["architecture"]),
                    "take config and weights from the same encryption",
                )
        return cls(path, weights, config, scheme)

    def read(self, name: str) -> Tensor:
        """Return a tensor, checked to hold finite numbers.

        Raises:
            CheckpointError: There is none of this name.
            StemError: It holds others.
        """
        tensor = self.weights.read(name)
        check_finite(f"{self.weights.path}: {name}", tensor)
        return tensor

    def read_kernel(self, stem: str) -> Tensor:
        """Return a stem's kernel, checked to be one of a patch convolution, shape (dim, C, P, P)."""
        name = f"{stem}.weight"
        shape = self.weights.shape(name)
        if len(shape) != 4 or shape[2] != shape[3] or shape[2] not in PATCH_PX:
            where, got = f"{self.weights.path}: {stem}", f"shape {shape}"
            raise CheckpointError(where, "a square patch kernel (dim, C, P, P)", got, "pass the stem's name")
        return self.read(name)

    def write(
        self,
        dst: Path,
        tensors: Mapping[str, Tensor],
        scheme: Scheme | None,
        *,
        provenance: Provenance | None = None,
        force: bool,
    ) -> None:
        """Write a target with some tensors changed, a folder or a file as this is; `scheme` is its record, None for plain."""
        if dst.exists() and dst.samefile(self.path):
            raise SourceError(str(dst), "a target other than the source", "the same path", "the source is never overwritten")
        metadata = {name: text for name, text in self.weights.metadata.items() if name != RECORD_NAME}
        if scheme is not None:
            metadata[RECORD_NAME] = scheme.to_json()
            metadata.setdefault("format", "pt")  # accelerate and transformers refuse metadata without it
        if self.config is None:
            _refuse_folder(dst)
            with replacing_file(dst, overwrite=force) as temporary:
                self.weights.write_with(temporary, tensors, metadata)
            return
        refuse_existing(dst, overwrite=force)
        with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
            self.weights.write_with(folder / WEIGHTS_NAME, tensors, metadata)
            content = self._changed_config(scheme)
            if provenance is not None:
                content["pretrained_cfg"] = provenance.noted_in(content["pretrained_cfg"])
            write_config(folder, content)

    def _changed_config(self, scheme: Scheme | None) -> dict[str, Any]:
        config = {name: value for name, value in (self.config or {}).items() if name != RECORD_NAME}
        change: Callable[[Mapping[str, Any], Scheme], dict[str, Any]] = encrypted_cfg if scheme is not None else plain_cfg
        record = scheme if scheme is not None else self.scheme
        assert record is not None  # a target without a record comes from a source with one
        config["pretrained_cfg"] = change(config["pretrained_cfg"], record)
        return {**config, RECORD_NAME: scheme.to_dict()} if scheme is not None else config


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a folder's config.json."""
    (folder / CONFIG_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _refuse_folder(dst: Path) -> None:
    if dst.suffix != ".safetensors" or dst.is_dir():
        raise SourceError(str(dst), "a .safetensors file as target of a .safetensors file", "another name", "rename it")
