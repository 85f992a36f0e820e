"""Architectures without their weights, on the meta device."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from timm.models._hub import _parse_model_cfg
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from timm_encmixer.errors import SourceError
from timm_encmixer.models.model_args import check_arguments

_MOST_PARAMETERS = 5_000  # tensors; no model of timm has 2,000
_FILLS = {"normal_", "uniform_", "fill_", "zero_", "mul_", "add_", "sub_", "div_", "erfinv_", "clamp_", "copy_"}
_CFG_FIELDS = frozenset(field.name for field in dataclasses.fields(PretrainedCfg))


def bare_model(architecture: str, config: Mapping[str, Any] | None, *, where: str) -> nn.Module:
    """Build an architecture on the meta device, in evaluation mode: names, shapes and geometry without memory.

    The configuration may come from anybody: it only chooses among timm's architectures and their arguments, and absurd
    sizes are refused before anything is built.

    Args:
        architecture: timm's name, without a tag.
        config: config.json as `read_config` returns it, or a part of it. What `timm.create_model` takes from its
            `pretrained_cfg`, such as the image size, is taken here too. None takes timm's own.
        where: For messages.

    Raises:
        SourceError: timm has no such architecture, or not with these arguments.
    """
    remedy = "use a timm architecture, or a single .safetensors file with mean=, std= and first_conv="
    if not timm.is_model(architecture):
        raise SourceError(f"{where}: architecture", "a timm model name", repr(architecture), remedy)
    arguments = _arguments(config or {}, where)
    try:
        with torch.device("meta"), _Unfilled(), _few_parameters():
            model: nn.Module = timm.create_model(architecture, pretrained=False, **arguments)
    except Exception as error:  # entrypoints raise whatever their constructors do
        raise SourceError(f"{where}: model_args", f"arguments of {architecture}", str(error), remedy) from error
    return model.eval()  # as it is to be followed, so that it is not copied for that


def _arguments(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what `timm.create_model` passes to an architecture for a config, and its `pretrained_cfg`."""
    check_arguments(config.get("model_args") or {}, where=f"{where}: model_args", error=SourceError)
    classes = {"num_classes": config["num_classes"]} if "num_classes" in config else {}
    check_arguments(classes, where=where, error=SourceError)
    if "pretrained_cfg" not in config:
        return {**classes, **(config.get("model_args") or {})}
    try:
        cfg, _, arguments = _parse_model_cfg(copy.deepcopy(dict(config)), {})
    except Exception as error:  # timm checks no types
        expected, got = "a config that timm builds a model from", f"{type(error).__name__}: {error}"
        raise SourceError(where, expected, got, "take the folder that timm.models.save_for_hf or encmixer wrote") from error
    return {**classes, **arguments, "pretrained_cfg": {name: value for name, value in cfg.items() if name in _CFG_FIELDS}}


def bytes_beside(model: nn.Module) -> int:
    """Return the bytes of a model's tensors that are not in its state dict, and so not in a file of weights: masks, indices."""
    kept = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    found: dict[int, Tensor] = {}
    for module in model.modules():
        for value in (*module._buffers.values(), *vars(module).values()):
            if isinstance(value, Tensor) and id(value) not in kept:
                found[id(value)] = value
    return sum(tensor.nelement() * tensor.element_size() for tensor in found.values())


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
