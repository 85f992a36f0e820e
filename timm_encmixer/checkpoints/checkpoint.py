"""A checkpoint on disk: opened by its headers, read tensor by tensor, written again with a few tensors changed.

A folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and model.safetensors), or a single
.safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn

from timm_encmixer.checkpoints.config_file import CONFIG_NAME, WEIGHTS_NAME, without_repeats
from timm_encmixer.checkpoints.header import CheckpointHeader
from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.checkpoints.tensor_file import SAFETENSORS, TensorFile
from timm_encmixer.errors import CheckpointError, NotEncryptedError, SourceError, StemError
from timm_encmixer.files import PathLike, as_path, refuse_existing, replacing_file, replacing_folder
from timm_encmixer.models.bare import bare_model, bytes_beside
from timm_encmixer.models.patch_stem import built_size, check_finite
from timm_encmixer.models.pretrained_cfg import encrypted_cfg, plain_cfg
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.models.record import check_stem, scheme_of, sketch_of
from timm_encmixer.models.stem_sketch import SKETCH_NAME, StemSketch, sketch_in, with_sketch
from timm_encmixer.models.wrappers import MERGE, adapter_in, check_itself, unwrapped
from timm_encmixer.scheme import PATCH_PX, Scheme

OWNED_NAMES = frozenset((WEIGHTS_NAME, CONFIG_NAME))
_FREE_BYTES, _SHARE_BESIDE = 64 * 2**20, 4  # of buffers that no file has; all of timm have less than a quarter of their weights
_AS_BUILT = "timm loads what timm.create_model builds: pass changes to it as arguments; make pruned or normed weights permanent"


class Checkpoint(CheckpointHeader):
    """A checkpoint whose tensors can be read, and written again with some changed."""

    @cached_property
    def sketch(self) -> StemSketch | None:
        """The sketch of the weights as they were encrypted or saved; None where there is none."""
        text = self.weights.metadata.get(SKETCH_NAME)
        in_weights = StemSketch.from_json(text) if text is not None else None
        return in_weights or sketch_in(self.config["pretrained_cfg"] if self.config is not None else {})

    def check_stem(self) -> None:
        """Refuse plain weights, or ones under another key, under an encrypted record, as far as the sketch shows it.

        Raises:
            NotEncryptedError: They are not what the record says.
        """
        if self.scheme is not None and self.scheme.stem is not None and self.sketch is not None:
            positions = None if self.scheme.positions is None else self.read(self.scheme.positions)
            self.sketch.check(self.scheme, self.read_kernel(self.scheme.stem), positions, where=str(self.weights.path))

    def check_architecture(self, arch: str | None) -> None:
        """Refuse an architecture that a caller names beside a config that names another one.

        Raises:
            SourceError: It is another one, or no name.
        """
        if arch is not None and not isinstance(arch, str):
            raise SourceError("arch", "a timm model name", repr(arch)[:100], "give the name as a text")
        if arch is None or self.config is None:
            return
        if _plain_name(arch) != _plain_name(self.config["architecture"]):
            expected = f"{self.config['architecture']}, as its config says"
            raise SourceError(f"{self.path}: arch (--arch)", expected, repr(arch), "leave it out: it is for .safetensors files")

    def read(self, name: str) -> Tensor:
        """Return a tensor, checked to hold finite numbers.

        Raises:
            CheckpointError: There is none of this name.
            StemError: It holds others, or is of a type that cannot be computed with.
        """
        if self.weights.dtype(name) not in COMPUTABLE:
            expected = f"floating-point weights ({', '.join(COMPUTABLE)})"
            where, got = f"{self.weights.path}: {name}", self.weights.dtype(name)
            raise StemError(where, expected, got, "encrypt before quantising")
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
        metadata = {name: text for name, text in self.weights.metadata.items() if name not in (RECORD_NAME, SKETCH_NAME)}
        sketch = None
        if scheme is not None:
            kernel = tensors[f"{scheme.stem}.weight"]
            sketch = StemSketch.of(scheme, kernel, None if scheme.positions is None else tensors[scheme.positions])
            metadata |= {RECORD_NAME: scheme.to_json(), SKETCH_NAME: sketch.to_json()}
            metadata.setdefault("format", "pt")  # accelerate and transformers refuse metadata without it
        if self.config is None:
            _refuse_folder(dst)
            with replacing_file(dst, overwrite=force, kind=SAFETENSORS) as temporary:
                self.weights.write_with(temporary, tensors, metadata)
            return
        if dst.suffix == ".safetensors":
            remedy = "give the name of a folder: config.json goes with the weights"
            raise SourceError(str(dst), "a folder as target of a folder", "the name of a file", remedy)
        refuse_existing(dst, overwrite=force)
        with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
            self.weights.write_with(folder / WEIGHTS_NAME, tensors, metadata)
            content = self._changed_config(scheme, sketch)
            if provenance is not None:
                content["pretrained_cfg"] = provenance.noted_in(content["pretrained_cfg"])
            write_config(folder, content)

    def _changed_config(self, scheme: Scheme | None, sketch: StemSketch | None) -> dict[str, Any]:
        config = {name: value for name, value in (self.config or {}).items() if name != RECORD_NAME}
        change = encrypted_cfg if scheme is not None else plain_cfg
        record = scheme if scheme is not None else self.scheme
        assert record is not None  # a target without a record comes from a source with one
        config["pretrained_cfg"] = with_sketch(change(config["pretrained_cfg"], record), sketch)
        return {**config, RECORD_NAME: scheme.to_dict()} if scheme is not None else config


def _plain_name(arch: str) -> str:
    """Return timm's name of an architecture without its tag; `encmixer_X` is what encrypts `convmixer_X`."""
    name = arch.partition(".")[0]
    return f"convmixer_{name.removeprefix('encmixer_')}" if name.startswith("encmixer_") else name


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
        CheckpointError: A tensor is missing, has another shape, or is not the architecture's. Or the model would take much more
            memory than its weights.
    """
    model = bare_model(config["architecture"], config, where=where)
    check_tensors(weights, model)
    beside, given = bytes_beside(model), weights.path.stat().st_size
    most = _FREE_BYTES + _SHARE_BESIDE * given
    if beside > most:
        expected, got = f"a model with at most {most} bytes beside its weights of {given} bytes", f"{beside} bytes"
        raise CheckpointError(f"{where}: model_args", expected, got, "do not use this config")


COMPUTABLE = ("F16", "BF16", "F32", "F64")  # types of tensors, as safetensors names them


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

    Writes config.json and model.safetensors only; an encrypted model's record goes into both. Nothing is written that timm
    would not load as it is.

    Args:
        model: Made by `timm.create_model`; also inside a wrapper (DataParallel, torch.compile, EMA), which is looked through.
        dst: Folder to write.
        state_dict: Its tensors, if they are not in the model itself, for example because they are sharded over processes.
        force: Replace an existing folder that this package wrote.

    Raises:
        CheckpointError: The model does not say its architecture (it was not made by `timm.create_model`). Or its tensors are
            not those that timm builds from its configuration: it is quantised or pruned, or has other layers or image size.
        NotEncryptedError: It has the record of an encrypted model, and its weights are plain or encrypted with another key.
        SchemeMismatchError: It has such a record, and its weights were resampled.
        SourceError: This is no model, or a network of your own around one; or `state_dict` is no mapping.
        TargetExistsError, FileAccessError: The folder is there, or cannot be written.

    Examples:
        >>> model = te.load_model("encrypted")
        >>> te.save_model(model, "copy")
        >>> te.find_scheme("copy") == te.find_scheme("encrypted")
        True
    """
    _save(model, scheme_of(model), as_path(dst, where="dst"), state_dict, force=force)


def save_to_open(model: nn.Module, folder: Path) -> Checkpoint:
    """Save an encrypted model, and open what was written; arguments and errors as for `save_model`.

    Raises:
        NotEncryptedError: The model is plain; nothing is written.
    """
    scheme = scheme_of(model)
    if scheme is None:
        raise NotEncryptedError("model", "an encrypted model", "a plain one", "encrypt it first: encrypt_model(model, key)")
    _save(model, scheme, folder, None, force=False)
    return Checkpoint.open(folder)


def _save(model: nn.Module, scheme: Scheme | None, dst: Path, state_dict: Mapping[str, Tensor] | None, *, force: bool) -> None:
    model = unwrapped(model)
    check_itself(model)
    adapter = adapter_in(model)
    if adapter is not None:
        raise CheckpointError("model", "the layers that timm builds", f"adapters of PEFT ({adapter})", MERGE)
    if not (getattr(model, "pretrained_cfg", None) or {}).get("architecture"):
        raise CheckpointError(
            "model",
            "a model with pretrained_cfg['architecture']",
            "none",
            "build it with timm.create_model, for example convmixer_custom",
        )
    tensors = _tensors_to_save(model.state_dict() if state_dict is None else state_dict)
    metadata, sketch = {"format": "pt"}, None
    if scheme is not None:
        check_stem(model, scheme, None if state_dict is None else tensors)
        sketch = sketch_of(model, scheme, tensors)
        metadata[RECORD_NAME] = scheme.to_json()
    if sketch is not None:
        metadata[SKETCH_NAME] = sketch.to_json()
    with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
        try:
            save_file(tensors, folder / WEIGHTS_NAME, metadata=metadata)
            save_config_for_hf(model, str(folder / CONFIG_NAME))
        except (ValueError, RuntimeError) as error:  # tensors that share memory, arguments that JSON does not have
            raise CheckpointError("model", "tensors and arguments that can be saved", str(error), _AS_BUILT) from error
        config = without_repeats(json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")))
        if scheme is not None:
            config["pretrained_cfg"] = with_sketch(encrypted_cfg(config["pretrained_cfg"], scheme), sketch)
            config[RECORD_NAME] = scheme.to_dict()
        write_config(folder, config)
        _check_loads(model, folder, config)


def _tensors_to_save(state_dict: Any) -> dict[str, Tensor]:
    """Return a state dict's tensors on the CPU, under the names that they have without the wrappers of torch.compile."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        got = f"something else ({type(state_dict).__name__})"
        raise SourceError("state_dict", "a mapping of names to tensors", got, "leave it out, or give model.state_dict()")
    other = next((name for name, value in state_dict.items() if not isinstance(value, Tensor) or value.is_quantized), None)
    if other is not None:
        raise CheckpointError(f"model: {other}", "a tensor of numbers", "a quantised or packed one", "save before quantising")
    return {
        name.replace("_orig_mod.", ""): tensor.detach().cpu().contiguous()  # also of parts that were compiled
        for name, tensor in state_dict.items()
    }


def _check_loads(model: nn.Module, folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder from which timm would build another model than `model`; of names that timm has not, nothing is known."""
    if not timm.is_model(config["architecture"]):
        return
    try:
        built = bare_model(config["architecture"], config, where="model")
        check_tensors(TensorFile.open(folder / WEIGHTS_NAME), built)
    except (CheckpointError, SourceError) as error:
        where = "model" if isinstance(error, SourceError) else f"model{error.where.removeprefix(str(folder / WEIGHTS_NAME))}"
        raise CheckpointError(where, error.expected, error.got, _AS_BUILT) from error
    sizes = built_size(built), built_size(model)
    if sizes[0] != sizes[1]:
        raise CheckpointError("model", f"the image size of its configuration, {sizes[0]}", f"{sizes[1]}", _AS_BUILT)
