"""Encrypting, decrypting and rotating a timm model: find its patch stem, rewrite it, record what was done.

The result is an ordinary timm model. Its record (`model.encmixer`) also rides in `pretrained_cfg["notes"]`, a field that
timm saves and loads unread, so it survives `timm.models.save_for_hf` and stock `timm.create_model` (docs/adr/0003).
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import AlreadyEncryptedError, KeyMismatchError, NotEncryptedError, SchemeError, SchemeMismatchError
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.edits import ConstantFold, PositionEmbedding
from timm_encmixer.models.patch_stem import (
    check_finite,
    check_weights_are_own,
    find_stem,
    image_size,
    module_name,
    modules_named,
)
from timm_encmixer.models.plan import EncryptionPlan, Read, changed_names, plan_encryption
from timm_encmixer.models.pretrained_cfg import (
    bare_cfg,
    check_ciphertext,
    encrypted_cfg,
    plain_cfg,
    preprocessing_of,
    scheme_in_cfg,
)
from timm_encmixer.models.stem_sketch import StemSketch, sketch_in, with_sketch
from timm_encmixer.models.wrappers import check_itself, configured_part, unwrapped
from timm_encmixer.scheme import DEFAULT_CIPHER, SCRAMBLE, Preprocessing, Scheme, parts_of

ModelT = TypeVar("ModelT", bound=nn.Module)
_ENCRYPTED_TENSORS = "_encmixer_tensors"  # the kernel, and the position embedding that was permuted, as they got their record


def encrypt_model(
    model: ModelT,
    key: KeyLike,
    *,
    cipher: str = DEFAULT_CIPHER,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ModelT:
    """Return a model that computes on encrypted images what `model` computes on plain ones.

    Only the stem's kernel and bias are new tensors (and the position embedding, if the cipher scrambles blocks). All other
    tensors are shared with `model`, which is not changed. Dtype, device, mode, requires_grad and memory format are kept. The
    new model's `pretrained_cfg` asks for mean = std = 1/2 and no resizing. It does not say where the plain weights came from.

    What it does not do: hide the weights. Anyone with the plain stem computes the key at once (docs/security.md).

    Args:
        model: A plain timm model that reads the image through one patch convolution. If that has no bias, the constant of
            the normalisation is folded into the BatchNorm behind it, or into the position embedding. Not a wrapper
            (DataParallel, torch.compile, EMA) and not a network of your own around it: give the model inside.
        key: The secret key or its file.
        cipher: One of `timm_encmixer.CIPHERS`. One of `SCRAMBLING_CIPHERS` for models that know a block's position by their
            position embedding alone, as a ViT does.
        mean: Per-channel normalisation that the model was trained with; needed when it has no `pretrained_cfg`.
        std: Likewise.

    Raises:
        AlreadyEncryptedError: `model` is encrypted.
        StemError: Its stem is not a patch convolution that can be encrypted, or not the only reader of the image, or shares its
            weights; or its blocks cannot be scrambled.
        SourceError: `model` is no model, or something around one.
        SchemeError: Unknown cipher, or no normalisation is known for the stem's channels.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.
    """
    key = find_key(key)
    if scheme_of(model) is not None:
        raise AlreadyEncryptedError("model", "a plain model", "an encrypted one", "decrypt_model or rotate_model it instead")
    check_itself(model)
    check_weights_are_own(model)
    name, conv = find_stem(model, _cfg(model).get("first_conv"))
    check_finite(f"{name}.weight", conv.weight)
    plain = preprocessing_of(_cfg(model), conv.in_channels, mean, std)
    scheme, plan = planned(model, conv, name, plain, key, cipher)
    encrypted = _clone(model, plan.encrypted(_reader(model), BlockCipher(key, scheme), plain))
    _attach_to_encrypted(encrypted, scheme)
    return encrypted


def planned(
    model: nn.Module, conv: nn.Conv2d, name: str, plain: Preprocessing, key: SecretKey, cipher: str
) -> tuple[Scheme, EncryptionPlan]:
    """Return the record that an encryption will have, and its plan; of a bare model too.

    The input size is what the model was built for, where that differs from its `pretrained_cfg`.

    Raises:
        SchemeError: Unknown cipher.
        StemError: As for `encrypt_model`.
    """
    plain = dataclasses.replace(plain, input_size=image_size(model, plain.input_size))
    plan = plan_encryption(model, conv, plain, scrambles=SCRAMBLE in parts_of(cipher))
    scheme = Scheme(
        cipher=cipher,
        patch_size=conv.kernel_size[0],
        in_chans=conv.in_channels,
        fingerprint=key.fingerprint,
        base_architecture=_cfg(model).get("architecture"),
        plain=plain,
        **plan.record_fields(name, bias=conv.bias is not None),
    )
    return scheme, plan


def decrypt_model(model: ModelT, key: KeyLike) -> ModelT:
    """Return the plain model, with its original normalisation and crop. The weights differ by rounding only.

    Raises:
        NotEncryptedError: `model` is plain, or its weights are, whatever its record says.
        SourceError: `model` is no model, or a wrapper around one.
        KeyMismatchError: It was encrypted with another key.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.
    """
    scheme, plain = _encrypted(model)
    cipher = BlockCipher(key, scheme)
    new = _plan_of(model, scheme, plain).decrypted(_reader(model), cipher, plain)
    decrypted = _clone(model, new)
    _attach(decrypted, with_sketch(plain_cfg(_cfg(model), scheme), None), None)
    return decrypted


def rotate_model(model: ModelT, key: KeyLike, new_key: KeyLike) -> ModelT:
    """Return the model encrypted with `new_key` instead of `key`, without the plain weights.

    Raises:
        NotEncryptedError: `model` is plain, or its weights are, whatever its record says.
        SourceError: `model` is no model, or a wrapper around one.
        KeyMismatchError: It was encrypted with another key than `key`, or both keys are the same.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.
    """
    key, new_key = find_key(key), find_key(new_key, where="new key")
    scheme, plain = _encrypted(model)
    new_scheme = rotated_scheme(scheme, key, new_key)
    plan = _plan_of(model, scheme, plain)
    rotated = _clone(model, plan.rotated(_reader(model), BlockCipher(key, scheme), BlockCipher(new_key, new_scheme)))
    _attach_to_encrypted(rotated, new_scheme)
    return rotated


def rotated_scheme(scheme: Scheme, key: SecretKey, new_key: SecretKey) -> Scheme:
    """Return the record under `new_key`; refuses the same key twice.

    Raises:
        KeyMismatchError: Both keys are the same.
    """
    if key == new_key:
        raise KeyMismatchError("new key", "another key than the old one", "the same", "make one: encmixer key new PATH")
    return scheme.replace(fingerprint=new_key.fingerprint)


def scheme_of(model: nn.Module) -> Scheme | None:
    """Return an encrypted model's record, None for a plain one. Also for models that stock timm loaded.

    It looks through wrappers: DataParallel, DistributedDataParallel, FSDP, torch.compile, EMA, AveragedModel. The record has
    the image size that the model was built for, where timm was asked for another one since.

    Raises:
        SourceError: This is no model.
        SchemeError: There is a record and it is malformed or of an unknown version. Or the encrypted model is a part of a
            network of your own.
        SchemeMismatchError: The model was built with other patches or channels than were encrypted, so that its weights were
            resampled. Or its configuration asks for another normalisation or a crop, which ciphertext does not survive.
    """
    model = unwrapped(model)
    scheme = _record_of(model)
    if scheme is None:
        part = configured_part(model)
        if part is not None and _record_of(model.get_submodule(part)) is not None:
            got = f"a {type(model).__name__} around it"
            raise SchemeError("model", "the encrypted model itself", got, f"give the inner model: model.{part}")
        return None
    _check_geometry(model, scheme)
    check_ciphertext(_cfg(model))
    return _followed(scheme, model)


def _record_of(model: nn.Module) -> Scheme | None:
    scheme = getattr(model, "encmixer", None)
    return scheme if isinstance(scheme, Scheme) else scheme_in_cfg(_cfg(model))


def _followed(scheme: Scheme, model: nn.Module) -> Scheme:
    """Return a record with the image size that the model has now; where blocks are scrambled it cannot change."""
    if scheme.plain is None or scheme.scrambles:
        return scheme
    size = image_size(model, scheme.plain.input_size)
    return scheme if size == scheme.plain.input_size else scheme.replace(plain=scheme.plain.resized(size))


def _check_geometry(model: nn.Module, scheme: Scheme) -> None:
    """Refuse a model that timm built with other patches, or another image size, than were encrypted: weights were resampled."""
    names = modules_named(model, scheme.stem or "")
    stem = model.get_submodule(names[0]) if names else None
    patch = (scheme.patch_size, scheme.patch_size)
    remedy = "timm resampled the encrypted weights to fit, which destroys them: build it as it was encrypted"
    if isinstance(stem, nn.Conv2d) and tuple(stem.kernel_size) != patch:
        expected = f"patches of {patch[0]} x {patch[1]} px, as its record says"
        raise SchemeMismatchError("model", expected, " x ".join(map(str, stem.kernel_size)), remedy)
    if isinstance(stem, nn.Conv2d) and stem.in_channels != scheme.in_chans:
        expected = f"{scheme.in_chans} input channels, as its record says"
        raise SchemeMismatchError("model", expected, f"{stem.in_channels}", "build it as it was encrypted")
    if scheme.grid is not None:
        size = (scheme.grid[0] * scheme.patch_size, scheme.grid[1] * scheme.patch_size)
        got = image_size(model, (scheme.in_chans, *size))[1:]
        if got != size:
            expected = f"images of {size[0]} x {size[1]} px, whose blocks were scrambled, as its record says"
            raise SchemeMismatchError("model", expected, f"{got[0]} x {got[1]} px", remedy)


def stem_of(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the kernel and the bias, None where there is none, of a model's patch stem.

    Raises:
        StemError: It has none that can be encrypted.
    """
    scheme, model = scheme_of(model), unwrapped(model)
    name, conv = find_stem(model, scheme.stem if scheme is not None else _cfg(model).get("first_conv"))
    return _weight(name, conv), None if conv.bias is None else conv.bias.detach()


def changed_by_encryption(model: nn.Module, scheme: Scheme) -> dict[str, Tensor]:
    """Return those tensors of a model, plain or encrypted, that differ between the two, by name."""
    _, conv = find_stem(model, scheme.stem)
    tensors = _named_tensors(model)
    names = changed_names(module_name(model, conv), scheme, bias=conv.bias is not None)
    return {name: tensors[name].detach() for name in names}


def position_embedding_of(model: nn.Module, scheme: Scheme) -> PositionEmbedding:
    """Return the position embedding of a model that was permuted with the blocks.

    Raises:
        StemError: There is none.
    """
    assert scheme.plain is not None  # the record of a model
    embedding = plan_encryption(model, find_stem(model, scheme.stem)[1], scheme.plain, scrambles=True).position_embedding
    assert embedding is not None  # or plan_encryption had raised
    return embedding


def with_encrypted_stem(model: ModelT, changed: Mapping[str, Tensor], scheme: Scheme) -> ModelT:
    """Return the plain `model` with what `changed_by_encryption` gave of an encrypted one elsewhere, and with its record."""
    encrypted = _clone(model, changed)
    _check_geometry(encrypted, scheme)
    _attach_to_encrypted(encrypted, scheme)
    return encrypted


def attach_scheme(model: nn.Module, scheme: Scheme, sketch: StemSketch | None = None) -> None:
    """Give a model whose weights are encrypted already its record and the configuration that goes with it, in place.

    Args:
        model: The model.
        scheme: Its record.
        sketch: Of the weights; None keeps what its configuration notes.

    Raises:
        SchemeMismatchError: It was built with other patches, channels or, where blocks are scrambled, another image size.
    """
    _check_geometry(model, scheme)
    scheme = _followed(scheme, model)
    cfg = encrypted_cfg(_cfg(model), scheme)
    _attach(model, cfg if sketch is None else with_sketch(cfg, sketch), scheme)


def check_stem(model: nn.Module, scheme: Scheme, tensors: Mapping[str, Tensor] | None = None) -> bool:
    """Refuse a model whose weights are not the encrypted ones that its record describes, as far as that shows without a key.

    Args:
        model: An encrypted model, not a wrapper.
        scheme: Its record.
        tensors: Its tensors by name, if they are not in the model itself.

    Returns:
        Whether the weights are near those that were encrypted; also where nothing is known of these.

    Raises:
        NotEncryptedError: The weights are plain, or encrypted with another key.
        SchemeMismatchError: timm resampled them.
    """
    sketch, found = sketch_in(_cfg(model)), _encrypted_tensors(model, scheme, tensors)
    if sketch is None or found is None:
        return True
    before = getattr(model, _ENCRYPTED_TENSORS, None) if tensors is None else None
    replaced = before is not None and any(one is not other for one, other in zip(before, found, strict=False))
    return sketch.check(scheme, *found, replaced=replaced)


def sketch_of(model: nn.Module, scheme: Scheme, tensors: Mapping[str, Tensor] | None = None) -> StemSketch | None:
    """Return the sketch of an encrypted model's weights as they are now; None where they are not in this memory.

    Args:
        model: The model.
        scheme: Its record.
        tensors: Its tensors by name, if they are not in the model itself.
    """
    found = _encrypted_tensors(model, scheme, tensors)
    return None if found is None else StemSketch.of(scheme, *found)


def _encrypted_tensors(
    model: nn.Module, scheme: Scheme, tensors: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, ...] | None:
    """Return the kernel, and the position embedding that was permuted; None where they are not in this memory as they are."""
    tensors = _named_tensors(model) if tensors is None else tensors
    names = modules_named(model, scheme.stem or "")
    if not names or f"{names[0]}.weight" not in tensors:
        return None
    names = changed_names(names[0], scheme, bias=False)
    wanted = [names[0], *(names[-1:] if scheme.positions is not None else [])]
    found = tuple(tensors[name] for name in wanted if name in tensors)
    shape = (scheme.in_chans, scheme.patch_size, scheme.patch_size)
    whole = all(type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta for tensor in found)  # no shard of a DTensor
    if len(found) != len(wanted) or tuple(found[0].shape[1:]) != shape or not whole:
        return None
    return found


def withdraw_plain_input(model: nn.Module) -> None:
    """Make a bare model ask for ciphertext (mean = std = 1/2, no resizing), in place; its weights are still to come."""
    _attach(model, bare_cfg(_cfg(model)), None)


def _cfg(model: nn.Module) -> dict[str, Any]:
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return cfg


def _encrypted(model: nn.Module) -> tuple[Scheme, Preprocessing]:
    scheme = scheme_of(model)
    if scheme is None or scheme.plain is None:
        raise NotEncryptedError("model", "an encrypted model with its record", "a plain one", "encrypt_model it first")
    check_itself(model)
    check_weights_are_own(model)
    check_stem(model, scheme)
    return scheme, scheme.plain


def _plan_of(model: nn.Module, scheme: Scheme, plain: Preprocessing) -> EncryptionPlan:
    """Return the plan by which a model was encrypted."""
    _, conv = find_stem(model, scheme.stem)
    if conv.bias is not None and not scheme.scrambles:  # then the trace was made when the model was encrypted
        own = module_name(model, conv)
        return EncryptionPlan(own, ConstantFold.into_bias(own, conv.out_channels))
    return plan_encryption(model, conv, plain, scrambles=scheme.scrambles)


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(itertools.chain(model.named_parameters(), model.named_buffers()))


def _weight(name: str, conv: nn.Conv2d) -> Tensor:
    """Return the stem's kernel, checked to be usable numbers."""
    check_finite(f"{name}.weight", conv.weight)
    return conv.weight.detach()


def _reader(model: nn.Module) -> Read:
    tensors = _named_tensors(model)

    def read(name: str) -> Tensor:
        check_finite(name, tensors[name])
        return tensors[name].detach()

    return read


def _clone(model: ModelT, new: Mapping[str, Tensor]) -> ModelT:
    """Copy the module tree with new tensors by name; every other tensor is shared, because deepcopy finds it in the memo."""
    tensors = _named_tensors(model)
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors.values()}
    for name, tensor in new.items():
        old = tensors[name]
        memo[id(old)] = nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    return copy.deepcopy(model, memo)


def _attach_to_encrypted(model: nn.Module, scheme: Scheme) -> None:
    """Give a model that was just encrypted its record, and the sketch of its new tensors."""
    _attach(model, with_sketch(encrypted_cfg(_cfg(model), scheme), sketch_of(model, scheme)), scheme)


def _attach(model: nn.Module, cfg: dict[str, Any], scheme: Scheme | None) -> None:
    """Give a model its configuration and its record, everywhere timm looks for the first convolution."""
    untyped: Any = model
    untyped.__dict__.pop(_ENCRYPTED_TENSORS, None)
    found = None if scheme is None else _encrypted_tensors(model, scheme)
    if found is not None:
        untyped.__dict__[_ENCRYPTED_TENSORS] = found
    untyped.pretrained_cfg = untyped.default_cfg = cfg
    if hasattr(model, "_traits"):
        untyped._traits = {**untyped._traits, "first_conv": cfg["first_conv"]}
    if scheme is not None:
        untyped.encmixer = scheme
    elif hasattr(model, "encmixer"):
        del untyped.encmixer
