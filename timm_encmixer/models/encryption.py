"""Encrypting, decrypting and rotating a timm model: find its patch stem, rewrite it, record what was done."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import AlreadyEncryptedError, KeyMismatchError, NotEncryptedError
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.edits import ConstantFold, PositionEmbedding
from timm_encmixer.models.patch_stem import (
    check_finite,
    check_weights_are_own,
    find_stem,
    image_size,
    module_name,
)
from timm_encmixer.models.plan import EncryptionPlan, Read, changed_names, plan_encryption
from timm_encmixer.models.pretrained_cfg import (
    plain_cfg,
    preprocessing_of,
)
from timm_encmixer.models.record import (
    attach,
    attach_to_encrypted,
    cfg_of,
    check_geometry,
    check_stem,
    named_tensors,
    scheme_of,
)
from timm_encmixer.models.stem_sketch import with_sketch
from timm_encmixer.models.wrappers import part_to_change, unwrapped
from timm_encmixer.scheme import DEFAULT_CIPHER, Preprocessing, Scheme, facts_of

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
    new model's `pretrained_cfg` asks for mean = std = 1/2 and no resizing. With `shuffle-planes` the plain mean and std stay.
    It does not say where the plain weights came from.

    What it does not do: hide the weights. Anyone with the plain stem computes the key at once (docs/security.md).

    Args:
        model: A plain timm model that reads the image through one patch convolution. If that has no bias, the constant of
            the normalisation is folded into the BatchNorm behind it, or into the position embedding. Not a wrapper
            (DataParallel, torch.compile, EMA) and not a network of your own around it: give the model inside. A PEFT model
            is taken: its base model is encrypted, and adapters on other layers than the stem stay as they are.
        key: The secret key or its file.
        cipher: One of `timm_encmixer.CIPHERS`. Those of `SCRAMBLING_CIPHERS` are for models that know a block's position by
            their position embedding alone, as a ViT does. Those of `JPEG_CIPHERS` need a stem whose side is a multiple of 8 px.
        mean: Per-channel normalisation that the model was trained with; needed when it has no `pretrained_cfg`.
        std: Likewise.

    Raises:
        AlreadyEncryptedError: `model` is encrypted.
        StemError: Its stem is not a patch convolution that can be encrypted, or not the only reader of the image, or shares its
            weights; or its blocks cannot be scrambled.
        SourceError: `model` is no model, something around one, or a traced copy of one.
        SchemeError: Unknown cipher, or no normalisation is known for the stem's channels.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.

    Examples:
        >>> plain = timm.create_model("convmixer_256_8_ks5_p4.cifar10", pretrained=True)
        >>> encrypted = te.encrypt_model(plain, "owner.key")
        >>> encrypted.encmixer.cipher
        'shuffle+negpos'
    """
    key = find_key(key)
    if scheme_of(model) is not None:
        raise AlreadyEncryptedError("model", "a plain model", "an encrypted one", "decrypt_model or rotate_model it instead")
    part = part_to_change(model)
    base = model.get_submodule(part)
    check_weights_are_own(base)
    name, conv = find_stem(base, cfg_of(base).get("first_conv"))
    check_finite(f"{name}.weight", conv.weight)
    plain = preprocessing_of(cfg_of(base), conv.in_channels, mean, std)
    scheme, plan = planned(base, conv, name, plain, key, cipher)
    encrypted = _clone(model, base, plan.encrypted(_reader(base), BlockCipher(key, scheme), plain))
    attach_to_encrypted(encrypted.get_submodule(part), scheme)
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
    plan = plan_encryption(model, conv, plain, cipher=facts_of(cipher))
    scheme = Scheme(
        cipher=cipher,
        patch_size=conv.kernel_size[0],
        in_chans=conv.in_channels,
        fingerprint=key.fingerprint,
        base_architecture=cfg_of(model).get("architecture"),
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

    Examples:
        >>> encrypted = te.load_model("encrypted")
        >>> plain = te.decrypt_model(encrypted, "owner.key")
        >>> te.scheme_of(plain) is None
        True
    """
    part, scheme, plain = _encrypted(model)
    base, cipher = model.get_submodule(part), BlockCipher(key, scheme)
    decrypted = _clone(model, base, _plan_of(base, scheme, plain).decrypted(_reader(base), cipher, plain))
    attach(decrypted.get_submodule(part), with_sketch(plain_cfg(cfg_of(base), scheme), None), None)
    return decrypted


def rotate_model(model: ModelT, key: KeyLike, new_key: KeyLike) -> ModelT:
    """Return the model encrypted with `new_key` instead of `key`, without the plain weights.

    Raises:
        NotEncryptedError: `model` is plain, or its weights are, whatever its record says.
        SourceError: `model` is no model, or a wrapper around one.
        KeyMismatchError: It was encrypted with another key than `key`, or both keys are the same.
        MissingKeyError, KeyFormatError, FileAccessError: There is no key.

    Examples:
        >>> new_key = te.SecretKey.generate()
        >>> rotated = te.rotate_model(te.load_model("encrypted"), "owner.key", new_key)
        >>> rotated.encmixer.fingerprint == new_key.fingerprint
        True
    """
    key, new_key = find_key(key), find_key(new_key, where="new key")
    part, scheme, plain = _encrypted(model)
    base, new_scheme = model.get_submodule(part), rotated_scheme(scheme, key, new_key)
    plan = _plan_of(base, scheme, plain)
    rotated = _clone(model, base, plan.rotated(_reader(base), BlockCipher(key, scheme), BlockCipher(new_key, new_scheme)))
    attach_to_encrypted(rotated.get_submodule(part), new_scheme)
    return rotated


def rotated_scheme(scheme: Scheme, key: SecretKey, new_key: SecretKey) -> Scheme:
    """Return the record under `new_key`; refuses the same key twice.

    Raises:
        KeyMismatchError: Both keys are the same.
    """
    if key == new_key:
        raise KeyMismatchError("new key", "another key than the old one", "the same", "make one: encmixer key new PATH")
    return scheme.replace(fingerprint=new_key.fingerprint)


def stem_of(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the kernel and the bias, None where there is none, of a model's patch stem.

    Raises:
        StemError: It has none that can be encrypted.
    """
    scheme, model = scheme_of(model), unwrapped(model)
    name, conv = find_stem(model, scheme.stem if scheme is not None else cfg_of(model).get("first_conv"))
    return _weight(name, conv), None if conv.bias is None else conv.bias.detach()


def changed_by_encryption(model: nn.Module, scheme: Scheme) -> dict[str, Tensor]:
    """Return those tensors of a model, plain or encrypted, that differ between the two, by name."""
    _, conv = find_stem(model, scheme.stem)
    tensors = named_tensors(model)
    names = changed_names(module_name(model, conv), scheme, bias=conv.bias is not None)
    return {name: tensors[name].detach() for name in names}


def position_embedding_of(model: nn.Module, scheme: Scheme) -> PositionEmbedding:
    """Return the position embedding of a model that was permuted with the blocks.

    Raises:
        StemError: There is none.
    """
    assert scheme.plain is not None  # the record of a model
    embedding = plan_encryption(model, find_stem(model, scheme.stem)[1], scheme.plain, cipher=scheme.facts).position_embedding
    assert embedding is not None  # or plan_encryption had raised
    return embedding


def with_encrypted_stem(model: ModelT, changed: Mapping[str, Tensor], scheme: Scheme) -> ModelT:
    """Return the plain `model` with what `changed_by_encryption` gave of an encrypted one elsewhere, and with its record."""
    encrypted = _clone(model, model, changed)
    check_geometry(encrypted, scheme)
    attach_to_encrypted(encrypted, scheme)
    return encrypted


def _encrypted(model: nn.Module) -> tuple[str, Scheme, Preprocessing]:
    """Return the name of the part that is encrypted, as for `part_to_change`, its record and the plain preprocessing."""
    scheme = scheme_of(model)
    if scheme is None or scheme.plain is None:
        raise NotEncryptedError("model", "an encrypted model with its record", "a plain one", "encrypt_model it first")
    part = part_to_change(model)
    check_weights_are_own(model.get_submodule(part))
    check_stem(model.get_submodule(part), scheme)
    return part, scheme, scheme.plain


def _plan_of(model: nn.Module, scheme: Scheme, plain: Preprocessing) -> EncryptionPlan:
    """Return the plan by which a model was encrypted."""
    _, conv = find_stem(model, scheme.stem)
    if conv.bias is not None and not scheme.scrambles:  # then the trace was made when the model was encrypted
        own = module_name(model, conv)
        return EncryptionPlan(own, ConstantFold.into_bias(own, conv.out_channels))
    return plan_encryption(model, conv, plain, cipher=scheme.facts)


def _weight(name: str, conv: nn.Conv2d) -> Tensor:
    """Return the stem's kernel, checked to be usable numbers."""
    check_finite(f"{name}.weight", conv.weight)
    return conv.weight.detach()


def _reader(model: nn.Module) -> Read:
    tensors = named_tensors(model)

    def read(name: str) -> Tensor:
        check_finite(name, tensors[name])
        return tensors[name].detach()

    return read


def _clone(model: ModelT, base: nn.Module, new: Mapping[str, Tensor]) -> ModelT:
    """Copy the module tree with new tensors by their names in `base`, the model or a part of it.

    Every other tensor is shared, because deepcopy finds it in the memo.
    """
    tensors = named_tensors(base)
    memo: dict[int, Any] = {id(tensor): tensor for tensor in named_tensors(model).values()}
    for name, tensor in new.items():
        old = tensors[name]
        memo[id(old)] = nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    return copy.deepcopy(model, memo)
