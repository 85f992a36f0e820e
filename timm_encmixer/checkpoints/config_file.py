"""config.json as timm writes it, and whether a weights file belongs to it."""

from __future__ import annotations

import contextlib
import inspect
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.errors import CheckpointError, SourceError
from timm_encmixer.files import file_error
from timm_encmixer.models.pretrained_cfg import scheme_in_cfg
from timm_encmixer.scheme import Scheme

CONFIG_NAME, WEIGHTS_NAME, RECORD_NAME = "config.json", "model.safetensors", "encmixer"
LOCAL_PREFIX = "local-dir:"
_LONGEST_CONFIG_BYTES = 10_000_000
_LARGEST_ARGUMENT = 1_000_000  # classes, pixels, layers: no model of timm comes near
_MOST_PARAMETERS = 100_000  # tensors; the largest of timm's have some thousands
_FILLS = {"normal_", "uniform_", "fill_", "zero_", "mul_", "add_", "sub_", "div_", "erfinv_", "clamp_", "copy_"}
_OUR_ARGUMENTS = ("key", "cipher", "base")


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.json as timm understands it, in its present form.

    Raises:
        FileAccessError: It is missing or unreadable.
        CheckpointError: It is no JSON object with an architecture.
    """
    path = folder / CONFIG_NAME
    remedy = "take the folder that timm.models.save_for_hf or encmixer wrote"
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_CONFIG_BYTES + 1)
        config = json.loads(text)
    except OSError as error:
        raise file_error(path, "a timm config to read", error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(path), "JSON", "text that is none", remedy) from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise CheckpointError(str(path), "a JSON object with an architecture", "something else", remedy)
    if "pretrained_cfg" not in config:  # timm's first form had everything on one level
        fields = {name: config.pop(name) for name in ("architecture", "num_classes", "num_features") if name in config}
        config = {**fields, "pretrained_cfg": config}
    if not isinstance(config["pretrained_cfg"], dict):
        raise CheckpointError(str(path), "a pretrained_cfg object", type(config["pretrained_cfg"]).__name__, remedy)
    return config


def without_repeats(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the number of classes among the arguments, where it stands at the top level already.

    timm reads it there; transformers' timm wrapper passes both on, and fails.
    """
    arguments = config.get("model_args")
    if not isinstance(arguments, dict) or "num_classes" not in arguments:
        return dict(config)
    if arguments["num_classes"] != config.get("num_classes"):
        return dict(config)
    rest = {name: value for name, value in arguments.items() if name != "num_classes"}
    return {name: rest if name == "model_args" else value for name, value in config.items() if name != "model_args" or rest}


def scheme_in_config(config: Mapping[str, Any], *, where: str) -> Scheme | None:
    """Return the record in a config.json, None when there is none."""
    if RECORD_NAME in config:
        return Scheme.from_dict(config[RECORD_NAME], where=where)
    return scheme_in_cfg(config["pretrained_cfg"])


def bare_model(architecture: str, config: Mapping[str, Any] | None, *, where: str) -> nn.Module:
    """Build an architecture on the meta device: names, shapes and geometry without memory.

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
            return timm.create_model(architecture, pretrained=False, **arguments)
    except Exception as error:  # entrypoints raise whatever their constructors do
        raise SourceError(f"{where}: model_args", f"arguments of {architecture}", str(error), remedy) from error


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


def check_weights(weights: TensorFile, config: Mapping[str, Any], *, where: str) -> None:
    """Compare a file with the whole model that its config.json describes, without memory for it.

    Raises:
        SourceError: The config describes no model.
        CheckpointError: A tensor is missing, has another shape, or is not the architecture's.
    """
    check_tensors(weights, bare_model(config["architecture"], config, where=where))


def check_tensors(weights: TensorFile, model: nn.Module, *, only: Sequence[str] | None = None) -> None:
    """Compare a file's tensor names and shapes with an architecture's, by the header alone.

    Args:
        weights: The file.
        model: The architecture, for example on the meta device.
        only: Names to compare; None means all, and none else in the file.

    Raises:
        CheckpointError: A tensor is missing, has another shape, or is not the architecture's.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    remedy = "take the weights that belong to this config"
    for name in expected if only is None else only:
        if weights.shape(name) != expected[name]:
            got = f"{weights.shape(name)}"
            raise CheckpointError(f"{weights.path}: {name}", f"shape {expected[name]}", got, remedy)
    unknown = sorted(set(weights.entries) - set(expected))
    if only is None and unknown:
        raise CheckpointError(str(weights.path), "the architecture's tensors and no others", unknown[0], remedy)
