"""Finding the public record of anything that has one. For what is no model in memory it needs no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from timm_encmixer.checkpoints.sources import Source, SourceLike, find_source
from timm_encmixer.errors import NotEncryptedError
from timm_encmixer.scheme import Scheme

if TYPE_CHECKING:
    from torch import nn


def find_scheme(target: nn.Module | SourceLike | Scheme) -> Scheme:
    """Return the record of an encrypted model, Hub repository, folder or .safetensors file.

    Raises:
        NotEncryptedError: There is none.
        SourceError: No such source.

    Examples:
        >>> te.find_scheme("encrypted").cipher
        'shuffle+negpos'
    """
    if isinstance(target, Scheme):
        return target
    if isinstance(target, (str, os.PathLike, Source)):
        source = find_source(target)
        scheme, where = source.record, source.name
    else:
        scheme, where = _scheme_of_model(target), "model"
    if scheme is None:
        raise NotEncryptedError(where, "an encrypted model with its record", "a plain one", "encrypt it first")
    return scheme


def _scheme_of_model(model: nn.Module) -> Scheme | None:
    from torch import nn

    from timm_encmixer.models.record import check_stem, scheme_of
    from timm_encmixer.models.wrappers import unwrapped

    if not isinstance(model, nn.Module):
        find_source(model)  # says what it takes
    scheme = scheme_of(model)
    if scheme is not None:
        check_stem(unwrapped(model), scheme)
    return scheme
