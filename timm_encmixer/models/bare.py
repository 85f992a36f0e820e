"""Architectures without their weights, on the meta device."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from timm_encmixer.errors import SourceError

_LARGEST_ARGUMENT = 1_000_000  # classes, pixels, layers: no model of timm comes near


_MOST_PARAMETERS = 10_000  # tensors; no model of timm has 2,000


_FILLS = {"normal_", "uniform_", "fill_", "zero_", "mul_", "add_", "sub_", "div_", "erfinv_", "clamp_", "copy_"}


_OUR_ARGUMENTS = ("key", "cipher", "base")


def bare_model(architecture: str, config: Mapping[str, Any] | None, *, where: str) -> nn.Module:
    """Build an architecture on the meta device, in evaluation mode: names, shapes and geometry without memory.

    The configuration may come from anybody: it only chooses among timm's architectures and their arguments, and absurd
    sizes are refused before anything is built.

    Raises:
        SourceError: timm has no such architecture, or not with these arguments.
    """
    remedy = "use a timm architecture, or a single .safetensors file with mean=, std= and first_conv="
    config = config or {}
    arguments = config.get("model_args") or {}
    if not timm.is_model(architecture):
        raise SourceError(f"{where}: architecture", "a timm model name", repr(architecture), remedy)
    _check_arguments(arguments, where=f"{where}: model_args")
    if "num_classes" in config:
        _check_arguments({"num_classes": config["num_classes"]}, where=where)
        arguments = {"num_classes": config["num_classes"], **arguments}
    try:
        with torch.device("meta"), _Unfilled(), _few_parameters():
            model: nn.Module = timm.create_model(architecture, pretrained=False, **arguments)
    except Exception as error:  # entrypoints raise whatever their constructors do
        raise SourceError(f"{where}: model_args", f"arguments of {architecture}", str(error), remedy) from error
    return model.eval()  # as it is to be followed, so that it is not copied for that


def _check_arguments(arguments: Any, *, where: str) -> None:
    """Refuse arguments that steer timm.create_model itself (files, other weights) or ask for absurd sizes."""
    reserved = {*inspect.signature(timm.create_model).parameters, *_OUR_ARGUMENTS}
    if not isinstance(arguments, dict) or (forbidden := sorted(reserved & set(arguments))):
        got = forbidden[0] if isinstance(arguments, dict) else type(arguments).__name__
        raise SourceError(where, "an architecture's own arguments", got, "do not use this config")
    waiting: list[Any] = list(arguments.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, (list, dict)):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, (int, float)) and not abs(value) <= _LARGEST_ARGUMENT:
            raise SourceError(where, f"numbers up to {_LARGEST_ARGUMENT}", f"{value}", "do not use this config")


class _Unfilled(TorchFunctionMode):
    """Leaves meta tensors as they are where constructors fill them: there is nothing to fill, and it takes half of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")  # torch.nn.init hands it on by name
        if getattr(func, "__name__", "") in _FILLS and isinstance(filled, torch.Tensor) and filled.is_meta:
            return filled
        return func(*args, **kwargs)


@contextlib.contextmanager
def _few_parameters() -> Iterator[None]:
    """Stop a constructor of this thread that goes on making layers."""
    count, thread = 0, threading.get_ident()

    def seen(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > _MOST_PARAMETERS:
            raise ValueError(f"more than {_MOST_PARAMETERS} tensors")

    handle = register_module_parameter_registration_hook(seen)
    try:
        yield
    finally:
        handle.remove()
