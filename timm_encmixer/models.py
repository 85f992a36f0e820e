"""Encrypting, decrypting and rotating a timm model: find its patch stem, rewrite it, record what was done.

The result is an ordinary timm model. Its record (`model.encmixer`) also rides in `pretrained_cfg["notes"]`, a field that
timm saves and loads unread, so it survives `timm.models.save_for_hf` and stock `timm.create_model` (docs/adr/0003).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import AlreadyEncryptedError, KeyMismatchError, NotEncryptedError
from timm_encmixer.keys import SecretKey
from timm_encmixer.patch_stem import check_finite, find_stem
from timm_encmixer.pretrained_cfg import bare_cfg, encrypted_cfg, plain_cfg, preprocessing_of, scheme_in_cfg
from timm_encmixer.scheme import DEFAULT_CIPHER, Preprocessing, Scheme
from timm_encmixer.stem import decrypt_stem, encrypt_stem, rotate_stem

ModelT = TypeVar("ModelT", bound=nn.Module)


def encrypt_model(
    model: ModelT,
    key: SecretKey,
    *,
    cipher: str = DEFAULT_CIPHER,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ModelT:
    """Return a model that computes on encrypted images what `model` computes on plain ones.

    All tensors but the stem's kernel and bias are shared with `model`, which is left as it is. Dtype, device, mode,
    requires_grad and memory format are kept. The new model's `pretrained_cfg` asks for mean = std = 1/2 and no resizing,
    and forgets where the plain weights came from.

    What it does not do: hide the weights. Whoever has the plain stem computes the key at once (docs/security.md).

    Args:
        model: A plain timm model whose stem is a patch convolution with a bias.
        key: The secret key.
        cipher: One of `timm_encmixer.CIPHERS`.
        mean: Per-channel normalisation the model was trained with; needed when it has no `pretrained_cfg`.
        std: Likewise.

    Raises:
        AlreadyEncryptedError: `model` is encrypted.
        StemError: Its stem is no patch convolution that can be encrypted.
        SchemeError: Unknown cipher, or no normalisation is known for the stem's channels.
    """
    if scheme_of(model) is not None:
        raise AlreadyEncryptedError("model", "a plain model", "an encrypted one", "decrypt_model or rotate_model it instead")
    name, conv = find_stem(model, _cfg(model).get("first_conv"))
    tensors = _tensors(name, conv)
    plain = preprocessing_of(_cfg(model), conv.in_channels, mean, std)
    scheme = Scheme(
        cipher=cipher,
        patch_size=conv.kernel_size[0],
        in_chans=conv.in_channels,
        fingerprint=key.fingerprint,
        stem=name,
        base_architecture=_cfg(model).get("architecture"),
        plain=plain,
    )
    block_cipher = BlockCipher(key, scheme)
    weight, bias = encrypt_stem(*tensors, block_cipher, plain.mean, plain.std)
    encrypted = _clone(model, conv, weight, bias)
    _attach(encrypted, encrypted_cfg(_cfg(model), scheme), scheme)
    return encrypted


def decrypt_model(model: ModelT, key: SecretKey) -> ModelT:
    """Return the plain model, with its original normalisation and crop; undoes `encrypt_model` to within rounding.

    Raises:
        NotEncryptedError: `model` is plain.
        KeyMismatchError: It was encrypted with another key.
    """
    scheme, plain = _encrypted(model)
    cipher = BlockCipher(key, scheme)
    name, conv = find_stem(model, scheme.stem)
    weight, bias = decrypt_stem(*_tensors(name, conv), cipher, plain.mean, plain.std)
    decrypted = _clone(model, conv, weight, bias)
    _attach(decrypted, plain_cfg(_cfg(model), scheme), None)
    return decrypted


def rotate_model(model: ModelT, key: SecretKey, new_key: SecretKey) -> ModelT:
    """Return the model encrypted with `new_key` instead of `key`, without the plain weights.

    Raises:
        NotEncryptedError: `model` is plain.
        KeyMismatchError: It was encrypted with another key than `key`, or both keys are the same.
    """
    scheme, _ = _encrypted(model)
    new_scheme = rotated_scheme(scheme, key, new_key)
    name, conv = find_stem(model, scheme.stem)
    weight, bias = _tensors(name, conv)
    rotated = _clone(model, conv, rotate_stem(weight, BlockCipher(key, scheme), BlockCipher(new_key, new_scheme)), bias.clone())
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
    """
    while isinstance(inner := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inner
    scheme = getattr(model, "encmixer", None)
    return scheme if isinstance(scheme, Scheme) else scheme_in_cfg(_cfg(model))


def stem_of(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the kernel and the bias of a model's patch stem.

    Raises:
        StemError: It has none that can be encrypted.
    """
    scheme = scheme_of(model)
    return _tensors(*find_stem(model, scheme.stem if scheme is not None else _cfg(model).get("first_conv")))


def with_encrypted_stem(model: ModelT, weight: Tensor, bias: Tensor, scheme: Scheme) -> ModelT:
    """Return the plain `model` with a stem that `encrypt_model` made elsewhere, and with its record."""
    _, conv = find_stem(model, scheme.stem)
    encrypted = _clone(model, conv, weight, bias)
    attach_scheme(encrypted, scheme)
    return encrypted


def attach_scheme(model: nn.Module, scheme: Scheme) -> None:
    """Give a model whose weights are encrypted already its record and the configuration that goes with it, in place."""
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


def _tensors(name: str, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return the stem's kernel and bias, checked to be usable numbers."""
    weight, bias = (tensor.detach() for tensor in conv.parameters())
    check_finite(f"{name}.weight", weight)
    check_finite(f"{name}.bias", bias)
    return weight, bias


def _clone(model: ModelT, conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> ModelT:
    """Copy the module tree with a new stem; every other tensor is shared, because deepcopy finds it in the memo."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    for old, new in ((conv.weight, weight), (conv.bias, bias)):
        memo[id(old)] = nn.Parameter(new, requires_grad=bool(old is not None and old.requires_grad))
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
