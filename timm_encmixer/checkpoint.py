"""Encrypting, decrypting and rotating checkpoints on disk: safetensors in, safetensors out, only the stem in memory.

A checkpoint is a folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and
model.safetensors), or a single .safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf  # public name in a private module: timm re-exports only save_for_hf
from torch import Tensor, nn

from timm_encmixer.atomic import refuse_existing, replacing_file, replacing_folder
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.config_file import (
    CONFIG_NAME,
    RECORD_NAME,
    WEIGHTS_NAME,
    bare_model,
    check_tensors,
    read_config,
    scheme_in_config,
    without_repeats,
)
from timm_encmixer.errors import AlreadyEncryptedError, CheckpointError, NotEncryptedError, SchemeError, SourceError
from timm_encmixer.keys import SecretKey, find_key
from timm_encmixer.models import planned, rotated_scheme, scheme_of
from timm_encmixer.patch_stem import check_finite, find_stem
from timm_encmixer.places import Places, Read, find_places, recorded
from timm_encmixer.pretrained_cfg import cfg_dict, encrypted_cfg, plain_cfg, preprocessing_of
from timm_encmixer.probe import bias_home
from timm_encmixer.provenance import Provenance
from timm_encmixer.scheme import DEFAULT_CIPHER, PATCH_PX, SCRAMBLE, Preprocessing, Scheme
from timm_encmixer.tensor_file import TensorFile

OWNED_NAMES = frozenset((WEIGHTS_NAME, CONFIG_NAME))
KeyLike = SecretKey | str | os.PathLike[str]
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


def encrypt_checkpoint(
    src: PathLike,
    dst: PathLike,
    key: KeyLike,
    *,
    cipher: str = DEFAULT_CIPHER,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    first_conv: str | None = None,
    provenance: Provenance | None = None,
    force: bool = False,
) -> Scheme:
    """Encrypt a plain checkpoint; all tensors but the stem's kernel and bias, or what takes the bias's place, keep their bytes.

    Args:
        src: A folder with config.json and model.safetensors, or a .safetensors file.
        dst: Folder or .safetensors file to write, as `src` is; at every moment absent, old or whole.
        key: The secret key or its file.
        cipher: One of `timm_encmixer.CIPHERS`.
        arch: timm name whose normalisation and stem a single file has.
        mean: Per-channel normalisation of the plain model; with `std` instead of `arch`, or to override the config.
        std: Likewise.
        first_conv: Name of the stem convolution, for example "stem.0"; else taken from the config or found by its shape.
        provenance: Where the plain weights came from, to be noted in config.json; None keeps what a folder notes already.
        force: Replace an existing target.

    Returns:
        The public record, which is also in the target's metadata and config.json.

    Raises:
        AlreadyEncryptedError, CheckpointError, SchemeError, StemError, FileAccessError, TargetExistsError.
    """
    key = find_key(key)
    source = Checkpoint.open(src)
    if source.scheme is not None:
        raise AlreadyEncryptedError(str(src), "a plain checkpoint", "an encrypted one", "decrypt or rotate it instead")
    architecture, cfg, stem, model = _describe(source, arch, first_conv, mean)
    weight = _read_kernel(source.weights, stem)
    plain = preprocessing_of(cfg, weight.shape[1], mean, std)
    if model is not None:
        name, conv = find_stem(model, stem)
        scheme, places = planned(model, conv, name, plain, key, cipher)
    else:
        places = Places(stem, bias_home(stem, len(weight)))
        scheme = _scheme_without_architecture(weight, stem, plain, key, cipher)
    scheme = scheme.replace(base_architecture=architecture)
    _check_places(source.weights, places)
    tensors = places.encrypted(_reader(source.weights), BlockCipher(key, scheme), plain)
    _write(source, Path(dst), tensors, scheme, provenance=provenance, force=force)
    return scheme


def decrypt_checkpoint(src: PathLike, dst: PathLike, key: KeyLike, *, force: bool = False) -> Scheme:
    """Write the plain checkpoint of an encrypted one; undoes `encrypt_checkpoint` to within the weights' rounding.

    Returns:
        The record that the encrypted checkpoint had.

    Raises:
        NotEncryptedError: `src` is plain.
        KeyMismatchError: It was encrypted with another key.
    """
    key = find_key(key)
    source, scheme, plain = _open_encrypted(src)
    cipher = BlockCipher(key, scheme)
    tensors = _recorded_places(source, scheme, plain).decrypted(_reader(source.weights), cipher, plain)
    _write(source, Path(dst), tensors, None, force=force)
    return scheme


def rotate_checkpoint(src: PathLike, dst: PathLike, key: KeyLike, new_key: KeyLike, *, force: bool = False) -> Scheme:
    """Write a checkpoint encrypted with `new_key` instead of `key`; needs no plain weights.

    Returns:
        The new record.

    Raises:
        NotEncryptedError: `src` is plain.
        KeyMismatchError: It was encrypted with another key than `key`, or both keys are the same.
    """
    key, new_key = find_key(key), find_key(new_key, where="new key")
    source, scheme, plain = _open_encrypted(src)
    new_scheme = rotated_scheme(scheme, key, new_key)
    ciphers = BlockCipher(key, scheme), BlockCipher(new_key, new_scheme)
    tensors = _recorded_places(source, scheme, plain).rotated(_reader(source.weights), *ciphers)
    _write(source, Path(dst), tensors, new_scheme, force=force)
    return new_scheme


def save_model(model: nn.Module, dst: PathLike, *, state_dict: Mapping[str, Tensor] | None = None, force: bool = False) -> None:
    """Save a model, encrypted or plain, as a folder that `timm.create_model("local-dir:DST", pretrained=True)` loads.

    Writes config.json and model.safetensors only; an encrypted model's record goes into both.

    Args:
        model: Made by `timm.create_model`.
        dst: Folder to write.
        state_dict: Its tensors, where they are not in the model itself (sharded over processes, say).
        force: Replace an existing folder that this package wrote.

    Raises:
        CheckpointError: The model does not say its architecture (it was not made by `timm.create_model`).
        TargetExistsError, FileAccessError.
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
        _write_config(folder, without_repeats(json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))))


def _describe(
    source: Checkpoint, arch: str | None, first_conv: str | None, mean: Sequence[float] | None
) -> tuple[str | None, Mapping[str, Any], str, nn.Module | None]:
    """Return a plain checkpoint's architecture, pretrained_cfg, stem name and bare model, checked against its tensors."""
    where = str(source.path)
    if source.config is not None:
        architecture, cfg = str(source.config["architecture"]), source.config["pretrained_cfg"]
    elif arch is not None:
        architecture = arch.partition(".")[0]
        known = timm.get_pretrained_cfg(arch) if timm.is_model(architecture) else None
        cfg = cfg_dict(known) if known is not None else {}
    elif mean is not None:
        return None, {}, first_conv or _stem_by_shape(source.weights, len(mean)), None
    else:
        raise SchemeError(
            where, "arch=NAME, or mean= and std=", "a single file without either", "pass --arch NAME or --mean/--std"
        )
    model = bare_model(architecture, source.config, where=where)
    stem, _ = find_stem(model, first_conv or cfg.get("first_conv"))
    check_tensors(source.weights, model, only=None if source.config is not None else [f"{stem}.weight"])
    return architecture, cfg, stem, model


def _scheme_without_architecture(weight: Tensor, stem: str, plain: Preprocessing, key: SecretKey, cipher: str) -> Scheme:
    """Return the record of a single file of which no more is known than its stem and its normalisation."""
    if SCRAMBLE in cipher.split("+"):
        remedy = "pass --arch NAME"
        raise SchemeError("cipher", "a known architecture, to scramble blocks for", "none", remedy)
    return Scheme(
        cipher=cipher,
        patch_size=weight.shape[2],
        in_chans=weight.shape[1],
        fingerprint=key.fingerprint,
        stem=stem,
        plain=plain,
    )


def _recorded_places(source: Checkpoint, scheme: Scheme, plain: Preprocessing) -> Places:
    """Return the tensors that the encryption of a checkpoint changed.

    Raises:
        CheckpointError: They are not where the record says, or nothing says which architecture this is.
    """
    stem = scheme.stem or ""
    weight = _read_kernel(source.weights, stem)
    bias = f"{stem}.bias" in source.weights.entries
    if scheme.constant is None and not scheme.scrambles:
        return Places(stem, bias_home(stem, len(weight)) if bias else None)
    architecture = source.config["architecture"] if source.config is not None else scheme.base_architecture
    remedy = "take config and weights from the same encryption"
    if architecture is None:
        raise CheckpointError(str(source.path), "the architecture that was encrypted, in the record", "none", remedy)
    model = bare_model(architecture, source.config, where=str(source.path))
    places = find_places(model, find_stem(model, stem)[1], plain, scrambles=scheme.scrambles)
    found = recorded(places, stem, bias=bias)
    for field in ("constant", "positions", "grid"):
        if found[field] != getattr(scheme, field):
            what = "the constant of the normalisation in " if field == "constant" else f"{field} "
            expected = f"{what}{getattr(scheme, field)}, as the record says"
            raise CheckpointError(str(source.path), expected, f"{found[field] or 'none'}", remedy)
    _check_places(source.weights, places)
    return places


def _check_places(weights: TensorFile, places: Places) -> None:
    """Raise `CheckpointError` unless the tensor that takes the constant has its shape."""
    home = places.home
    if home is not None and weights.shape(home.tensor) != tuple(home.index.shape):
        got = f"{weights.shape(home.tensor)}"
        raise CheckpointError(f"{weights.path}: {home.tensor}", f"shape {tuple(home.index.shape)}", got, "take the model's own")


def _stem_by_shape(weights: TensorFile, channels: int) -> str:
    """Find the one kernel of a file that can be a patch stem: square, on `channels` channels, with a bias."""
    found = []
    for name in weights.entries:
        shape = weights.shape(name)
        if len(shape) == 4 and shape[1] == channels and shape[2] == shape[3] and shape[2] in PATCH_PX:
            stem = name.removesuffix(".weight")
            if f"{stem}.bias" in weights.entries:
                found.append(stem)
    if len(found) != 1:
        got = ", ".join(found) or "none"
        raise CheckpointError(
            str(weights.path), f"one patch kernel on {channels} channels", got, "pass first_conv=NAME (--first-conv)"
        )
    return found[0]


def _open_encrypted(src: PathLike) -> tuple[Checkpoint, Scheme, Preprocessing]:
    source = Checkpoint.open(src)
    scheme = source.scheme
    if scheme is None:
        raise NotEncryptedError(str(src), "an encrypted checkpoint with its record", "a plain one", "encrypt it first")
    if scheme.plain is None or scheme.stem is None:
        raise SchemeError(f"{src}: record", "stem and plain preprocessing", "a record without them", "encrypt it anew")
    return source, scheme, scheme.plain


def _reader(weights: TensorFile) -> Read:
    def read(name: str) -> Tensor:
        tensor = weights.read(name)
        check_finite(f"{weights.path}: {name}", tensor)
        return tensor

    return read


def _read_kernel(weights: TensorFile, stem: str) -> Tensor:
    name = f"{stem}.weight"
    shape = weights.shape(name)
    if len(shape) != 4 or shape[2] != shape[3] or shape[2] not in PATCH_PX:
        got = f"shape {shape}"
        raise CheckpointError(f"{weights.path}: {stem}", "a square patch kernel (dim, C, P, P)", got, "pass the stem's name")
    return _reader(weights)(name)


def _write(
    source: Checkpoint,
    dst: Path,
    tensors: Mapping[str, Tensor],
    scheme: Scheme | None,
    *,
    provenance: Provenance | None = None,
    force: bool,
) -> None:
    """Write the target, a folder or a file as the source is; `scheme` is the target's record, None for plain."""
    if dst.exists() and dst.samefile(source.path):
        raise SourceError(str(dst), "a target other than the source", "the same path", "the source is never overwritten")
    metadata = {name: text for name, text in source.weights.metadata.items() if name != RECORD_NAME}
    if scheme is not None:
        metadata[RECORD_NAME] = scheme.to_json()
        metadata.setdefault("format", "pt")  # accelerate and transformers refuse metadata without it

    def write_weights(path: Path) -> None:
        source.weights.write_with(path, tensors, metadata)

    if source.config is None:
        _refuse_folder(dst)
        with replacing_file(dst, overwrite=force) as temporary:
            write_weights(temporary)
        return
    refuse_existing(dst, overwrite=force)
    with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
        write_weights(folder / WEIGHTS_NAME)
        content = _config(source, scheme)
        if provenance is not None:
            content["pretrained_cfg"] = provenance.noted_in(content["pretrained_cfg"])
        _write_config(folder, content)


def _write_config(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / CONFIG_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _refuse_folder(dst: Path) -> None:
    if dst.suffix != ".safetensors" or dst.is_dir():
        raise SourceError(str(dst), "a .safetensors file as target of a .safetensors file", "another name", "rename it")


def _config(source: Checkpoint, scheme: Scheme | None) -> dict[str, Any]:
    config = {name: value for name, value in (source.config or {}).items() if name != RECORD_NAME}
    change: Callable[[Mapping[str, Any], Scheme], dict[str, Any]] = encrypted_cfg if scheme is not None else plain_cfg
    record = scheme if scheme is not None else source.scheme
    assert record is not None  # a target without a record comes from a source with one
    config["pretrained_cfg"] = change(config["pretrained_cfg"], record)
    return {**config, RECORD_NAME: scheme.to_dict()} if scheme is not None else config
