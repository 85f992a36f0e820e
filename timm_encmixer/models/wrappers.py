"""Wrappers around a model, and networks around a timm model: which module has the record, the configuration and the weights.

A wrapper (DataParallel, DDP, FSDP, torch.compile, EMA, AveragedModel) holds one model, as `.module` or `._orig_mod`, and no
parameters beside it. So does any module that passes on to its only child whatever attribute it has not itself. Calls that read
or save look through a wrapper. Calls that make a new model want the model itself; PEFT's models alone they take, and work on
the base model inside. Copies that torch traced have lost the record, and are refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from timm_encmixer.errors import SourceError

_INNER = ("_orig_mod", "module")
_OURS = ("pretrained_cfg", "encmixer")  # attributes by which a model is known
MERGE = "merge first: model = peft_model.merge_and_unload()"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside of its wrappers; a model without any is returned as it is.

    Raises:
        SourceError: This is no torch module, or a traced copy of one.
    """
    _check_module(model)
    while (name := _inner(model)) is not None:
        model = _at(model, name)
    return model


def configured_part(model: nn.Module) -> str | None:
    """Return the name of the timm model inside a network that has no configuration of its own; None where there is none."""
    if _is_configured(model):
        return None
    return next((name for name, module in model.named_modules() if _is_configured(module)), None)


def check_itself(model: nn.Module) -> None:
    """Refuse everything but a model itself: a copy of a wrapper would have its record in one place and its weights in another.

    Raises:
        SourceError: This is no torch module, a wrapper, a network around a timm model, or a traced copy.
    """
    _check_module(model)
    name = _inner(model) or configured_part(model)
    if name is not None:
        got = f"a {type(model).__name__} around it"
        raise SourceError("model", "the model itself", got, f"give the inner model: model.{name}")


def part_to_change(model: nn.Module) -> str:
    """Return the name of the part that a verb works on: the base model of a PEFT model, else "", the model itself.

    Raises:
        SourceError: As for `check_itself`; also of the base model.
    """
    _check_module(model)
    name = _peft_base(model)
    if name is None:
        check_itself(model)
        return ""
    check_itself(model.get_submodule(name))
    return name


def adapter_in(module: nn.Module) -> str | None:
    """Return the kind of the first layer of PEFT's in a module, None where there is none."""
    return next((type(part).__name__ for part in module.modules() if is_of_peft(part)), None)


def is_of_peft(module: nn.Module) -> bool:
    """Whether a module's class, or one that it is derived from, is PEFT's."""
    return any(kind.__module__.partition(".")[0] == "peft" for kind in type(module).__mro__)


def _check_module(model: Any) -> None:
    if not isinstance(model, nn.Module):
        remedy = "load it first: timm.create_model, or timm_encmixer.checkpoints.load_model"
        raise SourceError("model", "a torch.nn.Module", type(model).__name__, remedy)
    if isinstance(model, (torch.fx.GraphModule, torch.jit.ScriptModule)):
        got = f"a traced copy without its record ({type(model).__name__})"
        raise SourceError("model", "the model itself", got, "give the model that was traced, and trace the result")


def _inner(model: nn.Module) -> str | None:
    """Return the name under which a wrapper holds its model; None for what is no wrapper."""
    base = _peft_base(model)
    if base is not None:
        return base
    children: list[str] = list(model._modules)
    for name in [*_INNER, *(children if len(children) == 1 and _forwards(model) else [])]:
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and inner is not model:
            own = {id(parameter) for parameter in model.parameters()}
            if own <= {id(parameter) for parameter in inner.parameters()}:
                return name
    return None


def _at(model: nn.Module, name: str) -> nn.Module:
    """Return a part by its name; that of FSDP's wrapper is a property and no child."""
    return model.get_submodule(name) if "." in name else getattr(model, name)


def _peft_base(model: nn.Module) -> str | None:
    """Return the name of the model inside a PEFT model, or inside one of its tuners; None for all others."""
    if not is_of_peft(model):
        return None
    untyped: Any = model
    base: Any = untyped.get_base_model() if hasattr(type(model), "get_base_model") else model._modules.get("model")
    found: str | None = next((name for name, module in model.named_modules() if name and module is base), None)
    return found


def _forwards(model: nn.Module) -> bool:
    """Whether a module has a `__getattr__` of its own, by which it may answer for another one."""
    return getattr(type(model), "__getattr__", None) is not nn.Module.__getattr__


def _is_configured(module: nn.Module) -> bool:
    """Whether a module has a configuration or a record that is its own, and not a part's that it answers for."""
    if not _forwards(module):
        return any(getattr(module, name, None) for name in _OURS)
    return any(vars(module).get(name) or getattr(type(module), name, None) for name in _OURS)
