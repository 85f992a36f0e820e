"""Encrypting, decrypting and rotating a timm model: find its patch stem, rewrite it, record what was done.

The result is an ordinary timm model. Its record (`model.encmixer`) also rides in `pretrained_cfg["notes"]`, a field that
timm saves and loads unread, so it survives `timm.models.save_for_hf` and stock `timm.create_model` (docs/adr/0003).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import AlreadyEncryptedError, KeyMismatchError, NotEncryptedError, StemError
from timm_encmixer.keys import SecretKey
from timm_encmixer.patch_stem import check_finite, find_stem
from timm_encmixer.pretrained_cfg import bare_cfg, encrypted_cfg, plain_cfg, preprocessing_of, scheme_in_cfg
from timm_encmixer.probe import Home, bias_home, image_size, module_name, probe
from timm_encmixer.scheme import DEFAULT_CIPHER, Preprocessing, Scheme
from timm_encmixer.stem import MID_GREY, decrypt_stem, encrypt_stem, rotate_stem

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

    All tensors but the stem's kernel and bias (or what takes the bias's place) are shared with `model`, which is left as it
    is. Dtype, device, mode, requires_grad and memory format are kept. The new model's `pretrained_cfg` asks for mean = std =
    1/2 and no resizing, and forgets where the plain weights came from.

    What it does not do: hide the weights. Whoever has the plain stem computes the key at once (docs/security.md).

    Args:
        model: A plain timm model that reads the image through one patch convolution. Where that has no bias, the constant
            of the normalisation goes into the BatchNorm behind it, or into the position embedding.
        key: The secret key.
        cipher: One of `timm_encmixer.CIPHERS`.
        mean: Per-channel normalisation the model was trained with; needed when it has no `pretrained_cfg`.
        std: Likewise.

    Raises:
        AlreadyEncryptedError: `model` is encrypted.
        StemError: Its stem is no patch convolution that can be encrypted, or not the only reader of the image.
        SchemeError: Unknown cipher, or no normalisation is known for the stem's channels.
    """
    if scheme_of(model) is not None:
        raise AlreadyEncryptedError("model", "a plain model", "an encrypted one", "decrypt_model or rotate_model it instead")
    name, conv = find_stem(model, _cfg(model).get("first_conv"))
    weight = _weight(name, conv)
    plain = preprocessing_of(_cfg(model), conv.in_channels, mean, std)
    home = home_of_constant(model, name, conv, plain)
    scheme = Scheme(
        cipher=cipher,
        patch_size=conv.kernel_size[0],
        in_chans=conv.in_channels,
        fingerprint=key.fingerprint,
        stem=name,
        constant=named_constant(model, name, conv, home),
        base_architecture=_cfg(model).get("architecture"),
        plain=plain,
    )
    new_weight, constant = encrypt_stem(weight, no_bias(weight), BlockCipher(key, scheme), plain.mean, plain.std)
    encrypted = _clone(model, [(conv.weight, new_weight), *_moved(model, home, constant)])
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
    weight = _weight(name, conv)
    bias = conv.bias is not None  # then encryption has followed the image already
    home = bias_home(module_name(model, conv), len(weight)) if bias else home_of_constant(model, name, conv, plain)
    new_weight, constant = decrypt_stem(weight, no_bias(weight), cipher, plain.mean, plain.std)
    decrypted = _clone(model, [(conv.weight, new_weight), *_moved(model, home, constant)])
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
    new_weight = rotate_stem(_weight(name, conv), BlockCipher(key, scheme), BlockCipher(new_key, new_scheme))
    rotated = _clone(model, [(conv.weight, new_weight)])
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
    prefix = _prefix(model, scheme.stem or "", conv)
    name = f"{prefix}{scheme.stem}"
    names = [f"{name}.weight", *([f"{name}.bias"] if conv.bias is not None else [])]
    names += [f"{prefix}{scheme.constant}"] if scheme.constant is not None else []
    tensors = _named_tensors(model)
    return {name: tensors[name].detach() for name in names}


def with_encrypted_stem(model: ModelT, changed: Mapping[str, Tensor], scheme: Scheme) -> ModelT:
    """Return the plain `model` with what `changed_by_encryption` gave of an encrypted one elsewhere, and with its record."""
    tensors = _named_tensors(model)
    encrypted = _clone(model, [(tensors[name], tensor) for name, tensor in changed.items()])
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


def home_of_constant(model: nn.Module, name: str, conv: nn.Conv2d, plain: Preprocessing) -> Home | None:
    """Return where the constant of a normalisation goes in a model; None where it is zero and the stem has no bias.

    Raises:
        StemError: The stem is not the only reader of the image, or has no bias and nothing that can take its place.
    """
    home = probe(model, conv, image_size(model, plain.input_size))
    if conv.bias is None and all(mean == MID_GREY for mean in plain.mean):
        return None
    if home is None:
        remedy = "a constant comes of the normalisation, and this model has no place for it"
        raise StemError(name, "a bias, or a BatchNorm or position embedding that follows at once", "none of these", remedy)
    return home


def named_constant(model: nn.Module, name: str, conv: nn.Conv2d, home: Home | None) -> str | None:
    """Return what a record says of the constant's home: a tensor's name in the plain model, None for a stem's own bias."""
    return None if home is None or conv.bias is not None else home.tensor.removeprefix(_prefix(model, name, conv))


def no_bias(weight: Tensor) -> Tensor:
    """Return zeros in the place of a bias, float64, so that what comes of them is the constant alone."""
    return torch.zeros(len(weight), dtype=torch.float64, device=weight.device)


def _prefix(model: nn.Module, name: str, conv: nn.Conv2d) -> str:
    """Return what a wrapper puts before the names of the plain model's modules."""
    return module_name(model, conv).removesuffix(name)


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(itertools.chain(model.named_parameters(), model.named_buffers()))


def _weight(name: str, conv: nn.Conv2d) -> Tensor:
    """Return the stem's kernel, checked to be usable numbers."""
    check_finite(f"{name}.weight", conv.weight)
    return conv.weight.detach()


def _moved(model: nn.Module, home: Home | None, constant: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the tensor that takes the constant, and what it becomes."""
    if home is None:
        return []
    tensor = _named_tensors(model)[home.tensor]
    check_finite(home.tensor, tensor)
    return [(tensor, home.add(tensor.detach(), constant))]


def _clone(model: ModelT, changes: Sequence[tuple[Tensor, Tensor]]) -> ModelT:
    """Copy the module tree with new tensors for old; every other tensor is shared, because deepcopy finds it in the memo."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    for old, new in changes:
        memo[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
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
