"""The image trace: a forward pass that shows who reads the image, and where the stem's output goes.

A model may be encrypted only if it reads the image through its stem and through nothing else. The trace checks this in a
forward pass on the meta device. Such a pass computes shapes only: it takes no memory and reads no weights. A model may
behave otherwise on its own device. So a model in memory is traced once more with torch's fake tensors. These say that they are
on that device, and compute shapes only too. The first pass answers two more questions:

- Where can the constant of the normalisation be folded if the stem has no bias? (output_trace.py)
- May the blocks be permuted, because a position embedding is all that tells their positions apart? (block_trace.py)
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # what torch.compile and torch.export trace with
from torch.utils._python_dispatch import TorchDispatchMode  # torch's documented way to see every operation

from timm_encmixer.errors import StemError
from timm_encmixer.models.block_trace import tensors_in
from timm_encmixer.models.edits import ConstantFold, PositionEmbedding
from timm_encmixer.models.meta_results import MetaResults
from timm_encmixer.models.output_trace import COPIES, OutputTrace
from timm_encmixer.models.patch_stem import module_name

_REMEDY = "only models that read the image through one patch convolution can be encrypted"


@dataclass(frozen=True)
class ImageTrace:
    """What the trace found.

    Args:
        constant_fold: Where a constant can be folded: the stem's bias, or a tensor behind a stem that has none. None where
            there is neither.
        position_embedding: What is permuted with the blocks; None where the blocks cannot be permuted.
        unscrambled_because: Why they cannot be permuted; empty where they can.
    """

    constant_fold: ConstantFold | None
    position_embedding: PositionEmbedding | None
    unscrambled_because: str


def trace_image(model: nn.Module, conv: nn.Conv2d, input_size: tuple[int, int, int]) -> ImageTrace:
    """Trace an image through a model.

    A copy of the image in another dtype or memory format counts as the image. Everything else that is made of it (a resized
    image, a padded one, a crop) counts as a second reading.

    Args:
        model: Any model, also on the meta device.
        conv: Its stem.
        input_size: Channels, height and width in pixels of an image that the model takes.

    Raises:
        StemError: The stem is not the only reader of the image, or its weights serve something else too, or the forward pass
            cannot be followed.
    """
    name = module_name(model, conv)
    trace, answer = _follow(on_meta(model), name, input_size)
    assert trace.output is not None  # the stem has read the image
    if not conv.weight.is_meta:
        with FakeTensorMode(allow_non_fake_inputs=True):  # tensors that are made in it have no numbers
            _follow(_shadow(model), name, input_size)
    into_bias = ConstantFold.into_bias(name, conv.out_channels)
    unscrambled_because = trace.output.unscrambled_because(answer)
    return ImageTrace(
        trace.output.constant_fold() if conv.bias is None else into_bias,
        None if unscrambled_because else trace.output.position_embedding,
        unscrambled_because,
    )


def _follow(shadow: nn.Module, name: str, input_size: tuple[int, int, int]) -> tuple[_Trace, Any]:
    """Follow an image through a model without numbers, whose stem is called `name`; return the trace and the model's answer."""
    with torch.inference_mode(False):  # inference mode hides the operations from the trace
        stem: Any = shadow.get_submodule(name)
        image = torch.empty(1, *input_size, device=stem.weight.device, dtype=stem.weight.dtype)
        with _Trace(shadow, image, stem.weight) as trace, torch.no_grad():
            try:
                answer = shadow(image)
            except Exception as error:  # a model may raise anything
                reason = str(error).strip().splitlines()
                got = f"{type(error).__name__}: {reason[0] if reason else ''}"
                expected = f"a forward pass that can be followed on the {stem.weight.device.type} device"
                raise StemError("model", expected, got, _REMEDY) from error
    if trace.image_readers != ["convolution"]:
        got = f"{len(trace.image_readers)} ({', '.join(trace.image_readers) or 'none'})"
        raise StemError("model", f"one reader of the image, the convolution {name}", got, _REMEDY)
    for tensor in (stem.weight, stem.bias):
        if tensor is not None and trace.uses(tensor) != 1:
            which = "weight" if tensor is stem.weight else "bias"
            got = f"{trace.uses(tensor)}"
            raise StemError(
                f"{name}.{which}", "one use in a forward pass", got, "only a stem that shares nothing can be encrypted"
            )
    return trace, answer


def on_meta(model: nn.Module) -> nn.Module:
    """Return a copy of a model on the meta device in evaluation mode; a model that is there already is returned as it is."""
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.is_meta for tensor in tensors) and not any(module.training for module in model.modules()):
        return model
    return _shadow(model, "meta")


def _shadow(model: nn.Module, device: str | None = None) -> nn.Module:
    """Return a copy of a model in evaluation mode, its tensors replaced by empty ones on this device; None means their own."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device or tensor.device)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo).eval()


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it in part
    """Sees every operation of a forward pass: notes those that read the image, and hands the others to `OutputTrace`.

    Args:
        model: Without numbers.
        image: Its input.
        weight: The stem's kernel, by which the stem's convolution is recognised.
    """

    def __init__(self, model: nn.Module, image: Tensor, weight: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.image_readers: list[str] = []  # names of the operations, in order
        self.output: OutputTrace | None = None  # from the stem's convolution on; on the meta device only
        self._images, self._weight = [image], weight
        named = itertools.chain(model.named_parameters(), model.named_buffers())
        self._names = {id(tensor): name for name, tensor in named}
        self._uses: dict[str, int] = {}  # of parameters and buffers, by name
        self._results = MetaResults()

    def uses(self, tensor: Tensor) -> int:
        """Return how many operations have read a parameter or buffer."""
        return self._uses.get(self._names[id(tensor)], 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = func.name().removeprefix("aten::").partition(".")[0]
        result = self._results(func, operation, args, kwargs)
        operands = tensors_in((*args, *kwargs.values()))
        for operand in operands:
            if (name := self._names.get(id(operand))) is not None:
                self._uses[name] = self._uses.get(name, 0) + 1
        if func.namespace == "prim":  # asks for a tensor's device
            return result
        if any(operand is image for operand in operands for image in self._images):
            if operation in COPIES:
                self._images.append(result)
            else:
                self._read_image(operation, args, result)
        elif self.output is not None:
            self.output.follow(func, operation, args, kwargs, operands, result)
        return result

    def _read_image(self, operation: str, args: Any, result: Any) -> None:
        is_stem = operation == "convolution" and args[1] is self._weight
        self.image_readers.append("another convolution" if operation == "convolution" and not is_stem else operation)
        if is_stem and self.output is None and result.is_meta:  # labels have numbers, which fake tensors would take away
            self.output = OutputTrace(result, self._names, self._uses)
