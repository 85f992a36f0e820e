"""Encrypting, decrypting and rotating checkpoints on disk: safetensors in, safetensors out, only the stem in memory.

A checkpoint is a folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and
model.safetensors), or a single .safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import nn

from timm_encmixer.checkpoints.checkpoint import Checkpoint, check_tensors
from timm_encmixer.checkpoints.sources import Source, SourceLike, open_checkpoint
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import (
    AlreadyEncryptedError,
    CheckpointError,
    NotEncryptedError,
    SchemeError,
    StemError,
    warn_caller,
)
from timm_encmixer.files import PathLike, as_path
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.edits import ConstantFold
from timm_encmixer.models.encryption import planned, rotated_scheme
from timm_encmixer.models.listing import timm_cfg
from timm_encmixer.models.patch_stem import find_stem
from timm_encmixer.models.plan import EncryptionPlan, plan_encryption
from timm_encmixer.models.pretrained_cfg import cfg_dict, per_channel, preprocessing_of
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import DEFAULT_CIPHER, PATCH_PX, Preprocessing, Scheme, facts_of


def encrypt_checkpoint(
    src: SourceLike,
    dst: PathLike,
    key: KeyLike,
    *,
    cipher: str = DEFAULT_CIPHER,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    first_conv: str | None = None,
    stem_stride: int | None = None,
    provenance: Provenance | None = None,
    force: bool = False,
) -> Scheme:
    """Encrypt a plain checkpoint. Only the tensors of the encryption plan change; all others keep their bytes.

    Args:
        src: A folder with config.json and model.safetensors, a .safetensors file, or what `find_source` found.
        dst: Folder or .safetensors file to write, as `src` is; at every moment absent, old or whole.
        key: The secret key or its file.
        cipher: One of `timm_encmixer.CIPHERS`, as for `encrypt_model`.
        arch: timm name whose normalisation and stem a single file has. A folder's is in its config, and no other is taken.
        mean: Per-channel normalisation of the plain model; to override what `arch` or the config says, or with `stem_stride`.
        std: Likewise.
        stem_stride: Of a single file that is no architecture of timm's, with `mean` and `std`: the stem's stride in pixels. It
            must be the kernel's side. A file of tensors shows no stride, no padding and no readers of the image. That the stem
            has no padding and alone reads the image is then your word; if it is not true the encrypted model is wrong.
        first_conv: Name of the stem convolution, for example "stem.0"; else taken from the config or found by its shape.
        provenance: Where the plain weights came from, to be noted in config.json; None takes what a `Source` knows, or keeps
            what a folder notes already.
        force: Replace an existing target.

    Returns:
        The public record, which is also in the target's metadata and config.json.

    Raises:
        AlreadyEncryptedError: `src` is encrypted.
        CheckpointError, SchemeError: A file is malformed, or no normalisation or no architecture is known.
        StemError: The architecture cannot be encrypted, or not by this cipher.
        SourceError: `arch` is no name of timm's, or another one than the config has.
        FileAccessError, TargetExistsError: A file cannot be read, or the target is there or cannot be written.

    Warns:
        UserWarning: `stem_stride` was given: nobody has checked that the image is read by the stem alone.

    Examples:
        >>> scheme = te.encrypt_checkpoint("plain", "ciphered", "owner.key", cipher="shuffle")
        >>> scheme.stem
        'stem.0'
    """
    key = find_key(key)
    source = open_checkpoint(src)
    if source.scheme is not None:
        where = str(source.path)
        raise AlreadyEncryptedError(where, "a plain checkpoint", "an encrypted one", "decrypt or rotate it instead")
    source.check_architecture(arch)
    described = _described(source, arch, first_conv, mean, stem_stride)
    weight = source.read_kernel(described.stem)
    plain = preprocessing_of(described.cfg, weight.shape[1], mean, std)
    if described.model is not None:
        name, conv = find_stem(described.model, described.stem)
        scheme, plan = planned(described.model, conv, name, plain, key, cipher)
        scheme = scheme.replace(base_architecture=described.architecture)
    else:
        scheme = _scheme_without_architecture(weight.shape, described.stem, plain, key, cipher)
        plan = EncryptionPlan(described.stem, ConstantFold.into_bias(described.stem, len(weight)))
        _check_stride(f"{source.path}: {described.stem}", weight.shape[2], stem_stride)
    _check_plan(source.weights, plan)
    tensors = plan.encrypted(source.read, BlockCipher(key, scheme), plain)
    if provenance is None and isinstance(src, Source):
        provenance = src.provenance
    source.write(as_path(dst, where="dst"), tensors, scheme, provenance=provenance, force=force)
    if described.model is None:
        stem = f"{source.path}: {described.stem}"
        warn_caller(f"{stem}: nobody has checked that the image is read by this convolution alone and without padding")
    return scheme


def decrypt_checkpoint(src: SourceLike, dst: PathLike, key: KeyLike, *, force: bool = False) -> Scheme:
    """Write the plain checkpoint of an encrypted one; undoes `encrypt_checkpoint` to within the weights' rounding.

    Returns:
        The record that the encrypted checkpoint had.

    Raises:
        NotEncryptedError: `src` is plain.
        KeyMismatchError: It was encrypted with another key.

    Examples:
        >>> te.decrypt_checkpoint("encrypted", "decrypted", "owner.key").cipher
        'shuffle+negpos'
    """
    key = find_key(key)
    source, scheme, plain = _open_encrypted(src)
    tensors = _recorded_plan(source, scheme, plain).decrypted(source.read, BlockCipher(key, scheme), plain)
    source.write(as_path(dst, where="dst"), tensors, None, force=force)
    return scheme


def rotate_checkpoint(src: SourceLike, dst: PathLike, key: KeyLike, new_key: KeyLike, *, force: bool = False) -> Scheme:
    """Write a checkpoint encrypted with `new_key` instead of `key`; needs no plain weights.

    Returns:
        The new record.

    Raises:
        NotEncryptedError: `src` is plain.
        KeyMismatchError: It was encrypted with another key than `key`, or both keys are the same.

    Examples:
        >>> new_key = te.SecretKey.generate()
        >>> te.rotate_checkpoint("encrypted", "rotated", "owner.key", new_key).fingerprint == new_key.fingerprint
        True
    """
    key, new_key = find_key(key), find_key(new_key, where="new key")
    source, scheme, plain = _open_encrypted(src)
    new_scheme = rotated_scheme(scheme, key, new_key)
    ciphers = BlockCipher(key, scheme), BlockCipher(new_key, new_scheme)
    tensors = _recorded_plan(source, scheme, plain).rotated(source.read, *ciphers)
    source.write(as_path(dst, where="dst"), tensors, new_scheme, force=force)
    return new_scheme


@dataclass(frozen=True)
class _Described:
    """What is known of a plain checkpoint beside its tensors.

    Args:
        architecture: timm's name; None for a single file of which only the normalisation was given.
        cfg: Its `pretrained_cfg`; empty likewise.
        stem: Name of the stem convolution.
        model: The bare architecture on the meta device; None likewise.
    """

    architecture: str | None
    cfg: Mapping[str, Any]
    stem: str
    model: nn.Module | None


def _described(
    source: Checkpoint, arch: str | None, first_conv: str | None, mean: Sequence[float] | None, stem_stride: int | None
) -> _Described:
    """Describe a plain checkpoint by its config, by `arch`, or by the shape of its stem, checked against its tensors."""
    where = str(source.path)
    if stem_stride is not None and (source.config is not None or arch is not None):
        raise SchemeError("stem_stride", "none where the architecture is known", repr(stem_stride), "leave it out")
    if source.config is not None:
        architecture, cfg = str(source.config["architecture"]), source.config["pretrained_cfg"]
    elif arch is not None:
        architecture = arch.partition(".")[0]
        known = timm_cfg(arch) if timm.is_model(architecture) else None
        cfg = cfg_dict(known) if known is not None else {}
    elif mean is not None and stem_stride is not None:
        return _Described(None, {}, first_conv or _stem_by_shape(source.weights, len(per_channel("mean", mean))), None)
    else:
        remedy = (
            "pass arch= (--arch NAME); for a model that timm does not have pass mean=, std= and "
            "stem_stride= (--mean, --std, --stem-stride), its stem's stride in pixels"
        )
        raise SchemeError(
            where, "arch=NAME", "a single file without it, whose tensors do not show how the image is read", remedy
        )
    model = bare_model(architecture, source.config, where=where)
    stem, _ = find_stem(model, first_conv or cfg.get("first_conv"))
    check_tensors(source.weights, model, only=None if source.config is not None else [f"{stem}.weight"])
    return _Described(architecture, cfg, stem, model)


def _check_stride(where: str, side: int, stem_stride: int | None) -> None:
    """Refuse a stride that is not the kernel's side."""
    if stem_stride != side:
        remedy = "only stems with kernel = stride and no padding can be encrypted"
        raise StemError(where, f"a stride of {side} px, as its kernel's side", repr(stem_stride), remedy)


def _scheme_without_architecture(kernel: Sequence[int], stem: str, plain: Preprocessing, key: SecretKey, cipher: str) -> Scheme:
    """Return the record of a single file of which no more is known than its stem's shape and its normalisation."""
    if facts_of(cipher).scrambles:
        raise SchemeError("cipher", "a known architecture, to scramble blocks for", "none", "pass arch= (--arch NAME)")
    return Scheme(cipher=cipher, patch_size=kernel[2], in_chans=kernel[1], fingerprint=key.fingerprint, stem=stem, plain=plain)


def _recorded_plan(source: Checkpoint, scheme: Scheme, plain: Preprocessing) -> EncryptionPlan:
    """Return the plan by which a checkpoint was encrypted.

    Raises:
        CheckpointError: The tensors are not where the record says, or nothing says which architecture this is.
    """
    stem = scheme.stem or ""
    weight = source.read_kernel(stem)
    bias = f"{stem}.bias" in source.weights.entries
    if scheme.constant is None and not scheme.scrambles:
        plan = EncryptionPlan(stem, ConstantFold.into_bias(stem, len(weight)) if bias else None)
        _check_plan(source.weights, plan)
        return plan
    architecture = source.config["architecture"] if source.config is not None else scheme.base_architecture
    remedy = "take config and weights from the same encryption"
    if architecture is None:
        raise CheckpointError(str(source.path), "the architecture that was encrypted, in the record", "none", remedy)
    model = bare_model(architecture, source.config, where=str(source.path))
    plan = plan_encryption(model, find_stem(model, stem)[1], plain, cipher=scheme.facts)
    for field, found in plan.record_fields(stem, bias=bias).items():
        if found != getattr(scheme, field):
            what = "the constant of the normalisation in " if field == "constant" else f"{field} "
            expected = f"{what}{getattr(scheme, field)}, as the record says"
            raise CheckpointError(str(source.path), expected, f"{found or 'none'}", remedy)
    _check_plan(source.weights, plan)
    if plan.position_embedding is not None:
        check_tensors(source.weights, model, only=[plan.position_embedding.tensor])
    return plan


def _check_plan(weights: TensorFile, plan: EncryptionPlan) -> None:
    """Raise `CheckpointError` unless the tensor that takes the constant has its shape."""
    fold = plan.constant_fold
    if fold is not None and weights.shape(fold.tensor) != tuple(fold.channel.shape):
        got, expected = f"{weights.shape(fold.tensor)}", f"shape {tuple(fold.channel.shape)}"
        raise CheckpointError(f"{weights.path}: {fold.tensor}", expected, got, "take the model's own")


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


def _open_encrypted(src: SourceLike) -> tuple[Checkpoint, Scheme, Preprocessing]:
    source = open_checkpoint(src)
    scheme, where = source.scheme, str(source.path)
    if scheme is None:
        raise NotEncryptedError(where, "an encrypted checkpoint with its record", "a plain one", "encrypt it first")
    if scheme.plain is None or scheme.stem is None:
        remedy = "encrypt the plain checkpoint again"
        raise SchemeError(f"{where}: record", "stem and plain preprocessing", "a record without them", remedy)
    source.check_stem()
    return source, scheme, scheme.plain
