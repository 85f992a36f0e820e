"""A checkpoint on disk: opened by its headers, read tensor by tensor, written again with a few tensors changed.

A folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and model.safetensors), or a single
.safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn

from timm_encmixer.checkpoints.config_file import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    read_config,
    without_repeats,
)
from timm_encmixer.checkpoints.record import RECORD_NAME, read_record
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.errors import CheckpointError, SourceError
from timm_encmixer.files import PathLike, refuse_existing, replacing_file, replacing_folder
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.encryption import scheme_of
from timm_encmixer.models.patch_stem import check_finite
from timm_encmixer.models.pretrained_cfg import encrypted_cfg, plain_cfg
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import PATCH_PX, Scheme

OWNED_NAMES = frozenset((WEIGHTS_NAME, CONFIG_NAME))


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
        scheme = read_record(config, weights.metadata, where=str(path))
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


def check_weights(weights: TensorFile, config: Mapping[str, Any], *, where: str) -> None:
    """Compare a file with the whole model that its config.json describes, without memory for it.

    Raises:
        SourceError: The config describes no model.
        CheckpointError: A tensor is missing, has another shape, or is not the architecture's.
    """
    check_tensors(weights, bare_model(config["architecture"], config, where=where))


def check_tensors(weights: TensorFile, model: nn.Module, *, only: Sequence[str] | None = None) -> None:
    """Compare a file's tensor names and shapes with an architecture's, by the header alone.

    Args:
        weights: The file.
        model: The architecture, for example on the meta device.
        only: Names to compare; None means all, and none else in the file.

    Raises:
        CheckpointError: A tensor is missing, has another shape, or is not the architecture's.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    remedy = "take the weights that belong to this config"
    for name in expected if only is None else only:
        if weights.shape(name) != expected[name]:
            got = f"{weights.shape(name)}"
            raise CheckpointError(f"{weights.path}: {name}", f"shape {expected[name]}", got, remedy)
    unknown = sorted(set(weights.entries) - set(expected))
    if only is None and unknown:
        raise CheckpointError(str(weights.path), "the architecture's tensors and no others", unknown[0], remedy)


def save_model(model: nn.Module, dst: PathLike, *, state_dict: Mapping[str, Tensor] | None = None, force: bool = False) -> None:
    """Save a model, encrypted or plain, as a folder that `timm.create_model("local-dir:DST", pretrained=True)` loads.

    Writes config.json and model.safetensors only; an encrypted model's record goes into both.

    Args:
        model: Made by `timm.create_model`.
        dst: Folder to write.
        state_dict: Its tensors, if they are not in the model itself, for example because they are sharded over processes.
        force: Replace an existing folder that this package wrote.

    Raises:
        CheckpointError: The model does not say its architecture (it was not made by `timm.create_model`).
        TargetExistsError, FileAccessError: The folder is there, or cannot be written.
    """
    if not (getattr(model, "pretrained_cfg", None) or {}).get("architecture"):
        raise CheckpointError(
            "model",
            "a model with pretrained_cfg['architecture']",
            "none",
            "build it with timm.create_model, for example convmixer_custom",
        )
    scheme = scheme_of(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in (state_dict or model.state_dict()).items()}
    record = {RECORD_NAME: scheme.to_json()} if scheme is not None else {}
    with replacing_folder(Path(dst), overwrite=force, owned=OWNED_NAMES) as folder:
        save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt", **record})
        record_block = {RECORD_NAME: scheme.to_dict()} if scheme is not None else None
        save_config_for_hf(model, str(folder / CONFIG_NAME), model_config=record_block)
        write_config(folder, without_repeats(json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))))
