"""Encrypting, decrypting and rotating checkpoints on disk: safetensors in, safetensors out, only the stem in memory.

A checkpoint is a folder as `timm.models.save_for_hf(..., safe_serialization=True)` writes it (config.json and
model.safetensors), or a single .safetensors file. File formats: docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from timm_encmixer.checkpoints.checkpoint import Checkpoint, check_tensors
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import AlreadyEncryptedError, CheckpointError, NotEncryptedError, SchemeError
from timm_encmixer.files import PathLike
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.edits import bias_home
from timm_encmixer.models.encryption import planned, rotated_scheme
from timm_encmixer.models.patch_stem import find_stem
from timm_encmixer.models.plan import Places, find_places, recorded
from timm_encmixer.models.pretrained_cfg import cfg_dict, preprocessing_of
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.scheme import DEFAULT_CIPHER, PATCH_PX, SCRAMBLE, Preprocessing, Scheme


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
    weight = source.read_kernel(stem)
    plain = preprocessing_of(cfg, weight.shape[1], mean, std)
    if model is not None:
        name, conv = find_stem(model, stem)
        scheme, places = planned(model, conv, name, plain, key, cipher)
    else:
        places = Places(stem, bias_home(stem, len(weight)))
        scheme = _scheme_without_architecture(weight, stem, plain, key, cipher)
    scheme = scheme.replace(base_architecture=architecture)
    _check_places(source.weights, places)
    tensors = places.encrypted(source.read, BlockCipher(key, scheme), plain)
    source.write(Path(dst), tensors, scheme, provenance=provenance, force=force)
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
    tensors = _recorded_places(source, scheme, plain).decrypted(source.read, cipher, plain)
    source.write(Path(dst), tensors, None, force=force)
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
    tensors = _recorded_places(source, scheme, plain).rotated(source.read, *ciphers)
    source.write(Path(dst), tensors, new_scheme, force=force)
    return new_scheme


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
    weight = source.read_kernel(stem)
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
