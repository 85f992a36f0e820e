"""Finding a model's patch stem by its position and geometry, not by the model's class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from timm_encmixer.errors import StemError
from timm_encmixer.models.wrappers import MERGE, is_of_peft
from timm_encmixer.scheme import PATCH_PX

_COMPUTABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # torch only stores other floating-point types


def find_stem(model: nn.Module, first: str | Sequence[str] | None) -> tuple[str, nn.Conv2d]:
    """Return the name and the module of a model's patch stem; inside timm's feature wrappers too, under its plain name.

    Its geometry is checked, not the model's class.

    Args:
        model: Any timm model.
        first: What timm's `pretrained_cfg["first_conv"]`, or the record of an encrypted model, names; None takes the
            model's first convolution.

    Raises:
        StemError: There is none, there are several, or it is not a patch convolution.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    if not isinstance(first, (str, list, tuple, type(None))):
        raise StemError("first_conv", "a module's name", repr(first)[:100], "give it as in model.named_modules(): 'stem.0'")
    if first is None:
        names = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)][:1]
    elif isinstance(first, str):
        names = modules_named(model, first)
    else:
        names = [name for name in first if isinstance(name, str) and name in modules]
    for name in names or ([first] if isinstance(first, str) else []):
        _refuse_adapter(name, modules)
    remedy = "only models that read the image through one patch convolution can be encrypted"
    if len(names) != 1:
        raise StemError("model", "one first convolution", f"{len(names)} ({', '.join(names) or 'none'})", remedy)
    name = names[0]
    check_stem(name, modules[name])
    own = {id(parameter) for parameter in modules[name].parameters()}
    for other, module in modules.items():
        if module is not modules[name] and own & {id(parameter) for parameter in module._parameters.values()}:
            expected, got = "weights that no other module has", f"weights that {other or 'the model'} shares"
            raise StemError(name, expected, got, "only a stem that shares nothing can be encrypted")
    if any(getattr(module, "dynamic_img_pad", False) for module in modules.values()):
        raise StemError("model", "a model that takes images as they are", "dynamic_img_pad=True", "build it without padding")
    return first if isinstance(first, str) else name, modules[name]


def _refuse_adapter(name: str, modules: Mapping[str, nn.Module]) -> None:
    """Refuse a stem that PEFT has put a layer of its own around: what the adapter has learnt is not in the kernel."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        around = ".".join(parts[:end])
        if around in modules and is_of_peft(modules[around]):
            got = f"one with an adapter ({type(modules[around]).__name__} of PEFT)"
            raise StemError(around, "a stem as timm builds it", got, MERGE)


def modules_named(model: nn.Module, first: str) -> list[str]:
    """Return the names of the modules called so in the plain model, which inside timm's feature wrappers are others."""
    modules = dict(model.named_modules())
    names = [first] if first in modules else [name for name in modules if name.endswith(f".{first}")]
    return names or [name for name in modules if name == first.replace(".", "_")]  # as timm's FeatureListNet flattens it


def check_stem(name: str, module: Any) -> None:
    """Raise `StemError` unless `module` is a patch convolution with weights of its own."""
    remedy = "only stems with kernel = stride and no padding can be encrypted"
    if type(module) is not nn.Conv2d:
        if isinstance(module, nn.Conv2d):  # torch.nn.utils.parametrizations
            remedy = "make the weights permanent: torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')"
        raise StemError(name, "a torch.nn.Conv2d", type(module).__name__, remedy)
    kernel, stride = tuple(module.kernel_size), tuple(module.stride)
    if kernel != stride or kernel[0] != kernel[1] or kernel[0] not in PATCH_PX:
        expected = f"a square kernel equal to the stride, {PATCH_PX.start} to {PATCH_PX.stop - 1} px"
        raise StemError(name, expected, f"kernel {kernel}, stride {stride}", remedy)
    if module.padding not in ("valid", 0, (0, 0)) or tuple(module.dilation) != (1, 1) or module.groups != 1:
        got = f"padding {module.padding}, dilation {module.dilation}, groups {module.groups}"
        raise StemError(name, "no padding, no dilation and one group", got, remedy)


def check_weights_are_own(model: nn.Module) -> None:
    """Refuse a model in which a tensor is computed from others before each forward pass: torch.nn.utils.prune, weight_norm.

    Raises:
        StemError: There is one.
    """
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor) and {f"{attribute}_orig", f"{attribute}_g"} & set(module._parameters):
                where = f"{name}.{attribute}" if name else attribute
                remedy = f"make it permanent: torch.nn.utils.prune.remove(module, {attribute!r}), or remove_weight_norm(module)"
                raise StemError(where, "a parameter", "a tensor that is computed from others", remedy)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise `StemError` unless a stem tensor holds finite numbers in memory."""
    if tensor.dtype not in _COMPUTABLE:
        expected = f"floating-point weights ({', '.join(map(str, _COMPUTABLE))})"
        raise StemError(name, expected, str(tensor.dtype), "encrypt before quantising")
    if tensor.is_meta:
        raise StemError(name, "weights in memory", "the meta device", "load the weights first")
    if not bool(torch.isfinite(tensor).all()):
        raise StemError(name, "finite weights", "NaN or infinity", "the checkpoint is damaged: take another copy")


def module_name(model: nn.Module, wanted: nn.Module) -> str:
    """Return the name that a module has in a model, which inside timm's feature wrappers is not the plain model's."""
    name: str = next(name for name, module in model.named_modules() if module is wanted)
    return name


def image_size(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the size of image that a model was built for, where its modules say so, else `input_size`."""
    size = built_size(model)
    return input_size if size is None else (input_size[0], *size)


def built_size(model: nn.Module) -> tuple[int, int] | None:
    """Return the height and width in pixels that a model was built for; None where its modules do not say."""
    for module in model.modules():
        size = getattr(module, "img_size", None)
        if isinstance(size, tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            return size
    return None
