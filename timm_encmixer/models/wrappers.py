"""Wrappers around a model, and networks around a timm model: which module has the record, the configuration and the weights.

A wrapper (DataParallel, DDP, FSDP, torch.compile, EMA, AveragedModel) holds one model, as `.module` or `._orig_mod`, and no
parameters beside it. Calls that read or save look through it. Calls that make a new model want the model itself.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from timm_encmixer.errors import SourceError

_INNER = ("_orig_mod", "module")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside of its wrappers; a model without any is returned as it is.

    Raises:
        SourceError: This is no torch module.
    """
    _check_module(model)
    while (name := _inner(model)) is not None:
        model = getattr(model, name)
    return model


def configured_part(model: nn.Module) -> str | None:
    """Return the name of the timm model inside a network that has no configuration of its own; None where there is none."""
    if _is_configured(model):
        return None
    return next((name for name, module in model.named_modules() if _is_configured(module)), None)


def check_itself(model: nn.Module) -> None:
    """Refuse everything but a model itself: a copy of a wrapper would have its record in one place and its weights in another.

    Raises:
        SourceError: This is no torch module, a wrapper, or a network around a timm model.
    """
    _check_module(model)
    name = _inner(model) or configured_part(model)
    if name is not None:
        got = f"a {type(model).__name__} around it"
        raise SourceError("model", "the model itself", got, f"give the inner model: model.{name}")


def _check_module(model: Any) -> None:
    if not isinstance(model, nn.Module):
        remedy = "load it first: timm.create_model, or timm_encmixer.checkpoints.load_model"
        raise SourceError("model", "a torch.nn.Module", type(model).__name__, remedy)


def _inner(model: nn.Module) -> str | None:
    """Return the attribute under which a wrapper holds its model; None for what is no wrapper."""
    for name in _INNER:
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and inner is not model:
            own = {id(parameter) for parameter in model.parameters()}
            if own <= {id(parameter) for parameter in inner.parameters()}:
                return name
    return None


def _is_configured(module: nn.Module) -> bool:
    return bool(getattr(module, "pretrained_cfg", None) or getattr(module, "encmixer", None))
