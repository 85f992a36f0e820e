"""The block trace: does a model treat all blocks of an image alike, whatever their order?

The blocks may be permuted if nothing that the model does depends on their order, once the position embedding is added. The
trace checks this in every operation of a forward pass on the meta device. It follows the axes that number the blocks. An
operation must keep such an axis, sum over all of it, or cut off what is not a block. If an operation is not known to do so,
the blocks cannot be permuted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

Axes = dict[int, int]  # dimension that numbers the blocks -> index of the first block on it, behind other tokens

_ELEMENTWISE = {
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "neg",
    "abs",
    "exp",
    "pow",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sigmoid",
    "tanh",
    "relu",
    "gelu",
    "silu",
    "hardswish",
    "hardsigmoid",
    "clamp",
    "maximum",
    "minimum",
    "erf",
    "where",
    "clone",
    "_to_copy",
    "detach",
    "alias",
}
_REDUCTIONS = {"mean", "sum", "amax", "amin"}


class OrderError(Exception):
    """What an operation does depends on the order of the blocks, or is not known not to."""


def tensors_in(arguments: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among the arguments of an operation, which may stand in lists too."""
    found: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found += tensors_in(argument)
    return found


class BlockAxes:
    """The tensors of a pass that number the blocks along some of their axes.

    Args:
        count: Blocks in the image, 2 or more.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._known: dict[int, tuple[Tensor, Axes]] = {}  # by id; the tensor is kept, so that the id stays its own

    def begin(self, tensor: Tensor, axes: Axes) -> None:
        """Note the axes of a tensor."""
        self._known[id(tensor)] = (tensor, axes)

    def of(self, tensor: Any) -> Axes:
        """Return the axes of a tensor that number the blocks; none for anything else."""
        known = self._known.get(id(tensor))
        return known[1] if known is not None else {}

    def follow(self, kind: str, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        """Note what an operation made of tensors that number blocks.

        Args:
            kind: The operation's name in ATen, without its overload.
            args: Its positional arguments.
            kwargs: The others.
            result: What it returned: a tensor, or several.

        Raises:
            OrderError: It may depend on the order of the blocks.
        """
        operands = tensors_in((*args, *kwargs.values()))
        if not any(self.of(operand) for operand in operands):
            return
        base = kind if kind.startswith("_") else kind.rstrip("_")
        found: Axes | list[Axes]
        if base in _ELEMENTWISE:
            found = self._broadcast(operands, result)
        elif base in _REDUCTIONS:
            found = self._reduced(args, kwargs, result)
        else:
            rule = _RULES.get(base)
            if rule is None:
                raise OrderError(f"{kind} may depend on the order of the blocks")
            found = rule(self, args, kwargs, result)
        results = [result] if isinstance(result, Tensor) else list(result)
        for tensor, axes in zip(results, found if isinstance(found, list) else [found] * len(results), strict=True):
            if isinstance(tensor, Tensor):
                self.begin(tensor, axes)

    def _broadcast(self, operands: Sequence[Tensor], result: Any) -> Axes:
        """Return the axes of what is computed number by number: operands agree on them, or have one number for all blocks."""
        ndim = max(operand.ndim for operand in operands)
        axes: Axes = {}
        for operand in operands:
            for dim, start in self.of(operand).items():
                if axes.setdefault(dim - operand.ndim + ndim, start) != start:
                    raise OrderError("blocks are joined with other blocks")
        for operand in operands:
            for dim in axes:
                own = dim - ndim + operand.ndim
                if own >= 0 and operand.shape[own] > 1 and own not in self.of(operand):
                    raise OrderError("each block is treated by its position")
        return axes

    def _reduced(self, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
        tensor = args[0]
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
        given = [dims] if isinstance(dims, int) else list(dims or range(tensor.ndim))
        gone = {dim % tensor.ndim for dim in given}
        axes = {dim: start for dim, start in self.of(tensor).items() if dim not in gone}
        return axes if keep else {dim - sum(other < dim for other in gone): start for dim, start in axes.items()}

    def _product(self, left: Tensor, right: Tensor) -> Axes:
        """Return the axes of a product of matrices, or of batches of them."""
        one, other, ndim = self.of(left), self.of(right), left.ndim
        if one.get(ndim - 1) != other.get(ndim - 2):
            raise OrderError("weights mix the blocks by their positions")
        axes = {ndim - 2: one[ndim - 2]} if ndim - 2 in one else {}
        axes |= {ndim - 1: other[ndim - 1]} if ndim - 1 in other else {}
        if ndim == 3 and one.get(0) != other.get(0):
            raise OrderError("weights mix the blocks by their positions")
        return axes | ({0: one[0]} if ndim == 3 and 0 in one else {})


_Rule = Callable[[BlockAxes, Sequence[Any], dict[str, Any], Any], "Axes | list[Axes]"]


def _matrix_product(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    return axes._product(args[0], args[1])


def _product_and_bias(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    bias, found = args[0], axes._product(args[1], args[2])
    for dim in found:
        own = dim - result.ndim + bias.ndim
        if own >= 0 and bias.shape[own] > 1:
            raise OrderError("each block is treated by its position")
    if axes.of(bias):
        raise OrderError("blocks are joined with other blocks")
    return found


def _reshaped(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    """An axis survives as one of the same length with as many numbers behind it."""
    tensor, found = args[0], {}
    for dim, start in axes.of(tensor).items():
        behind = math.prod(tensor.shape[dim + 1 :])
        places = [
            new
            for new, side in enumerate(result.shape)
            if side == tensor.shape[dim] and math.prod(result.shape[new + 1 :]) == behind
        ]
        if len(places) != 1:
            raise OrderError("blocks are rearranged, as in windows or a grid")
        found[places[0]] = start
    return found


def _permuted(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    order = [dim % args[0].ndim for dim in args[1]]
    return {order.index(dim): start for dim, start in axes.of(args[0]).items()}


def _transposed(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    ndim = args[0].ndim
    one, other = (dim % ndim for dim in args[1:3]) if len(args) > 1 else (0, ndim - 1)
    swap = {one: other, other: one}
    return {swap.get(dim, dim): start for dim, start in axes.of(args[0]).items()}


def _unsqueezed(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    place = args[1] % result.ndim
    return {dim + (dim >= place): start for dim, start in axes.of(args[0]).items()}


def _squeezed(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    return _reshaped(axes, args, kwargs, result)


def _expanded(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    return {dim + result.ndim - args[0].ndim: start for dim, start in axes.of(args[0]).items()}


def _cut(axes: BlockAxes, tensor: Tensor, dim: int, start: int, stop: int) -> Axes:
    """Return the axes of tensor[..., start:stop, ...]: all the blocks, or none of them."""
    found = dict(axes.of(tensor))
    if dim in found:
        first = found.pop(dim)
        if start <= first and first + axes.count <= stop:
            found[dim] = first - start
        elif start < first + axes.count and first < stop:
            raise OrderError("some blocks are taken by their positions")
    return found


def _sliced(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    given: list[Any] = [*args, *(0, None, None, 1)[len(args) - 1 :]]
    tensor, dim, start, stop, step = given
    dim, side = dim % tensor.ndim, tensor.shape[dim % tensor.ndim]
    if dim in axes.of(tensor) and step != 1:
        raise OrderError("some blocks are taken by their positions")
    start, stop, _ = slice(start, stop).indices(side)
    return _cut(axes, tensor, dim, start, stop)


def _selected(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    tensor, dim, place = args
    dim, place = dim % tensor.ndim, place % tensor.shape[dim % tensor.ndim]
    found = _cut(axes, tensor, dim, place, place + 1)
    if dim in found:
        raise OrderError("some blocks are taken by their positions")
    return {other - (other > dim): start for other, start in found.items()}


def _split(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> list[Axes]:
    tensor = args[0]
    dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % tensor.ndim
    found, start = [], 0
    for part in result:
        found.append(_cut(axes, tensor, dim, start, start + part.shape[dim]))
        start += part.shape[dim]
    return found


def _unbound(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> list[Axes]:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    return [_selected(axes, (args[0], dim, place), {}, part) for place, part in enumerate(result)]


def _joined(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    parts = args[0]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % result.ndim
    found: Axes = {}
    start = 0
    for part in parts:
        own = axes.of(part)
        if dim in own:
            if dim in found:
                raise OrderError("blocks are joined with other blocks")
            found[dim] = start + own[dim]
        start += part.shape[dim]
    across = {place: first for part in parts for place, first in axes.of(part).items() if place != dim}
    if any({place: first for place, first in axes.of(part).items() if place != dim} != across for part in parts):
        raise OrderError("each block is treated by its position")
    return found | across


def _stacked(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    parts, dim = args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0) % result.ndim
    return {place + (place >= dim): start for place, start in axes._broadcast(parts, result).items()}


def _layer_norm(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    tensor, over = args[0], len(args[1])
    if any(dim >= tensor.ndim - over for dim in axes.of(tensor)):
        raise OrderError("blocks are normalised together by their positions")
    return dict(axes.of(tensor))


def _softmax(axes: BlockAxes, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Axes:
    return dict(axes.of(args[0]))


_RULES: dict[str, _Rule] = {
    "mm": _matrix_product,
    "bmm": _matrix_product,
    "addmm": _product_and_bias,
    "baddbmm": _product_and_bias,
    "view": _reshaped,
    "_unsafe_view": _reshaped,
    "reshape": _reshaped,
    "flatten": _reshaped,
    "permute": _permuted,
    "transpose": _transposed,
    "t": _transposed,
    "unsqueeze": _unsqueezed,
    "squeeze": _squeezed,
    "expand": _expanded,
    "slice": _sliced,
    "select": _selected,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbound,
    "cat": _joined,
    "stack": _stacked,
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _layer_norm,
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
}
