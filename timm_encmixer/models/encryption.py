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
from timm_encmixer.errors import AlreadyEncryptedError, KeyMismatchError, NotEncryptedError, SchemeMismatchError
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.edits import ConstantFold, PositionEmbedding
from timm_encmixer.models.patch_stem import check_finite, find_stem, image_size, module_name
from timm_encmixer.models.plan import EncryptionPlan, Read, changed_names, plan_encryption
from timm_encmixer.models.pretrained_cfg import bare_cfg, encrypted_cfg, plain_cfg, preprocessing_of, scheme_in_cfg
from timm_encmixer.scheme import DEFAULT_CIPHER, SCRAMBLE, Preprocessing, Scheme, parts_of

ModelT = TypeVar("ModelT", bound=nn.Module)


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
            the normalisation is folded into the BatchNorm behind it, or into the position embedding.
        key: The secret key or its file.
        cipher: One of `timm_encmixer.CIPHERS`. One of `SCRAMBLING_CIPHERS` for models that know a block's position by their
            position embedding alone, as a ViT does.
        mean: Per-channel normalisation that the model was trained with; needed when it has no `pretrained_cfg`.
        std: Likewise.

    Raises:
        AlreadyEncryptedError: `model` is encrypted.
        StemError: Its stem is not a patch convolution that can be encrypted, or not the only reader of the image; or its blocks
            cannot be scrambled.
        SchemeError: Unknown cipher, or no normalisation is known for the stem's channels.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.
    """
    key = find_key(key)
    if scheme_of(model) is not None:
        raise AlreadyEncryptedError("model", "a plain model", "an encrypted one", "decrypt_model or rotate_model it instead")
    name, conv = find_stem(model, _cfg(model).get("first_conv"))
    check_finite(f"{name}.weight", conv.weight)
    plain = preprocessing_of(_cfg(model), conv.in_channels, mean, std)
    scheme, plan = planned(model, conv, name, plain, key, cipher)
    encrypted = _clone(model, plan.encrypted(_reader(model), BlockCipher(key, scheme), plain))
    _attach(encrypted, encrypted_cfg(_cfg(model), scheme), scheme)
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
        NotEncryptedError: `model` is plain.
        KeyMismatchError: It was encrypted with another key.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.
    """
    scheme, plain = _encrypted(model)
    cipher = BlockCipher(key, scheme)
    new = _plan_of(model, scheme, plain).decrypted(_reader(model), cipher, plain)
    decrypted = _clone(model, new)
    _attach(decrypted, plain_cfg(_cfg(model), scheme), None)
    return decrypted


def rotate_model(model: ModelT, key: KeyLike, new_key: KeyLike) -> ModelT:
    """Return the model encrypted with `new_key` instead of `key`, without the plain weights.

    Raises:
        NotEncryptedError: `model` is plain.
        KeyMismatchError: It was encrypted with another key than `key`, or both keys are the same.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.
    """
    key, new_key = find_key(key), find_key(new_key, where="new key")
    scheme, plain = _encrypted(model)
    new_scheme = rotated_scheme(scheme, key, new_key)
    plan = _plan_of(model, scheme, plain)
    rotated = _clone(model, plan.rotated(_reader(model), BlockCipher(key, scheme), BlockCipher(new_key, new_scheme)))
    _attach(rotated, encrypted_cfg(_cfg(model), new_scheme), new_scheme)
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

    Raises:
        SchemeError: There is a record and it is malformed or of an unknown version.
        SchemeMismatchError: The model was built with other patches than were encrypted, so that its weights were resampled.
    """
    while isinstance(inner := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inner
    scheme = getattr(model, "encmixer", None)
    scheme = scheme if isinstance(scheme, Scheme) else scheme_in_cfg(_cfg(model))
    if scheme is not None:
        _check_geometry(model, scheme)
    return scheme


def _check_geometry(model: nn.Module, scheme: Scheme) -> None:
    """Refuse a model that timm built with other patches, or another image size, than were encrypted: weights were resampled."""
    modules = dict(model.named_modules())
    stem: Any = next((module for name, module in modules.items() if f".{name}".endswith(f".{scheme.stem}")), None)
    patch = (scheme.patch_size, scheme.patch_size)
    remedy = "timm resampled the encrypted weights to fit, which destroys them: build it as it was encrypted"
    if isinstance(stem, nn.Conv2d) and tuple(stem.kernel_size) != patch:
        expected = f"patches of {patch[0]} x {patch[1]} px, as its record says"
        raise SchemeMismatchError("model", expected, " x ".join(map(str, stem.kernel_size)), remedy)
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
    scheme = scheme_of(model)
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
    attach_scheme(encrypted, scheme)
    return encrypted


def attach_scheme(model: nn.Module, scheme: Scheme) -> None:
    """Give a model whose weights are encrypted already its record and the configuration that goes with it, in place."""
    _check_geometry(model, scheme)
    _attach(model, encrypted_cfg(_cfg(model), scheme), scheme)


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


def _attach(model: nn.Module, cfg: dict[str, Any], scheme: Scheme | None) -> None:
    """Give a model its configuration and its record, everywhere timm looks for the first convolution."""
    untyped: Any = model
    untyped.pretrained_cfg = untyped.default_cfg = cfg
    if hasattr(model, "_traits"):
        untyped._traits = {**untyped._traits, "first_conv": cfg["first_conv"]}
    if scheme is not None:
        untyped.encmixer = scheme
    elif hasattr(model, "encmixer"):
        del untyped.encmixer
