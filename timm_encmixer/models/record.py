"""The record of a model in memory: reading it, attaching it, and whether the weights are those that it describes.

An encrypted model is an ordinary timm model. Its record (`model.encmixer`) also rides in `pretrained_cfg["notes"]`, a field
that timm saves and loads unread, so it survives `timm.models.save_for_hf` and stock `timm.create_model` (docs/adr/0003).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from timm_encmixer.errors import SchemeError, SchemeMismatchError, SourceError
from timm_encmixer.models.patch_stem import image_size, modules_named
from timm_encmixer.models.plan import changed_names
from timm_encmixer.models.pretrained_cfg import bare_cfg, check_ciphertext, encrypted_cfg, scheme_in_cfg
from timm_encmixer.models.stem_sketch import StemSketch, sketch_in, with_sketch
from timm_encmixer.models.wrappers import configured_part, unwrapped
from timm_encmixer.scheme import Scheme

_ENCRYPTED_TENSORS = "_encmixer_tensors"  # the kernel, and the position embedding that was permuted, as they got their record


def scheme_of(model: nn.Module) -> Scheme | None:
    """Return an encrypted model's record, None for a plain one. Also for models that stock timm loaded.

    It looks through wrappers: DataParallel, DistributedDataParallel, FSDP, torch.compile, EMA, AveragedModel. The record has
    the image size that the model was built for, where timm was asked for another one since.

    Raises:
        SourceError: This is not a model in memory. `find_scheme` reads the record of a folder, a file or a repository.
        SchemeError: There is a record and it is malformed or of an unknown version. Or the encrypted model is a part of a
            network of your own.
        SchemeMismatchError: The model was built with other patches or channels than were encrypted, so that its weights were
            resampled. Or its configuration asks for another normalisation or a crop, which ciphertext does not survive.

    Examples:
        >>> model = timm.create_model("local-dir:encrypted", pretrained=True)
        >>> te.scheme_of(model).patch_size
        4
    """
    if isinstance(model, (str, os.PathLike)):
        remedy = "use te.find_scheme for a folder, a file or hf-hub:ID"
        raise SourceError("model", "a model in memory", f"the name {os.fspath(model)!r}", remedy)
    model = unwrapped(model)
    scheme = _record_of(model)
    if scheme is None:
        part = configured_part(model)
        if part is not None and _record_of(model.get_submodule(part)) is not None:
            got = f"a {type(model).__name__} around it"
            raise SchemeError("model", "the encrypted model itself", got, f"give the inner model: model.{part}")
        return None
    check_geometry(model, scheme)
    check_ciphertext(cfg_of(model), scheme)
    return _followed(scheme, model)


def _record_of(model: nn.Module) -> Scheme | None:
    scheme = getattr(model, "encmixer", None)
    return scheme if isinstance(scheme, Scheme) else scheme_in_cfg(cfg_of(model))


def _followed(scheme: Scheme, model: nn.Module) -> Scheme:
    """Return a record with the image size that the model has now; where blocks are scrambled it cannot change."""
    if scheme.plain is None or scheme.scrambles:
        return scheme
    size = image_size(model, scheme.plain.input_size)
    return scheme if size == scheme.plain.input_size else scheme.replace(plain=scheme.plain.resized(size))


def check_geometry(model: nn.Module, scheme: Scheme) -> None:
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


def attach_scheme(model: nn.Module, scheme: Scheme, sketch: StemSketch | None = None) -> None:
    """Give a model whose weights are encrypted already its record and the configuration that goes with it, in place.

    Args:
        model: The model.
        scheme: Its record.
        sketch: Of the weights; None keeps what its configuration notes.

    Raises:
        SchemeMismatchError: It was built with other patches, channels or, where blocks are scrambled, another image size.
    """
    check_geometry(model, scheme)
    scheme = _followed(scheme, model)
    cfg = encrypted_cfg(cfg_of(model), scheme)
    attach(model, cfg if sketch is None else with_sketch(cfg, sketch), scheme)


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
    sketch, found = sketch_in(cfg_of(model)), _encrypted_tensors(model, scheme, tensors)
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
    tensors = named_tensors(model) if tensors is None else tensors
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
    """Make a bare model ask for ciphertext (mean = std = 1/2, no resizing), in place. Weights and record are still to come."""
    attach(model, bare_cfg(cfg_of(model)), None)


def cfg_of(model: nn.Module) -> dict[str, Any]:
    """Return a model's `pretrained_cfg`, empty where it has none."""
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return cfg


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers by name."""
    return dict(itertools.chain(model.named_parameters(), model.named_buffers()))


def attach_to_encrypted(model: nn.Module, scheme: Scheme) -> None:
    """Give a model that was just encrypted its record, and the sketch of its new tensors."""
    attach(model, with_sketch(encrypted_cfg(cfg_of(model), scheme), sketch_of(model, scheme)), scheme)


def attach(model: nn.Module, cfg: dict[str, Any], scheme: Scheme | None) -> None:
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
