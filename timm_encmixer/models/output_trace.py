"""Following the stem's output to the operations that read it.

Each number of the stem's output belongs to one channel and to one block. `Labels` say to which, and they are moved exactly as
the output is moved: through reshapes, transpositions and concatenations with other tokens. The first operation that computes
something is a reader. If it is the only one, and if it is a BatchNorm or the addition of a parameter, then the constant of the
normalisation can be folded into that tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from timm_encmixer.models.block_trace import BlockAxes, OrderError
from timm_encmixer.models.edits import ConstantFold, PositionEmbedding

COPIES = frozenset(("clone", "_to_copy", "detach", "alias"))
_RESHAPES = frozenset(("view", "_unsafe_view", "reshape", "flatten"))
_VIEWS = COPIES | _RESHAPES | {"permute", "transpose", "t", "unsqueeze", "squeeze", "expand"}
_BATCH_NORMS = frozenset(("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm"))
NOT_STEM = -1  # the label of a number that does not come from the stem


@dataclass(frozen=True)
class Labels:
    """Where each number of a tensor comes from.

    Args:
        channel: Output channel of the stem, NOT_STEM for none; int64, in the tensor's shape, on the CPU.
        block: Block of the image, counted by rows, NOT_STEM for none; likewise.
    """

    channel: Tensor
    block: Tensor

    @classmethod
    def of_output(cls, shape: torch.Size) -> Labels:
        """Label the stem's output, of shape (1, channels, rows, columns)."""
        channels, rows, columns = shape[1:]
        channel = torch.arange(channels)[None, :, None, None]
        block = torch.arange(rows * columns).reshape(1, 1, rows, columns)
        return cls(channel.expand(shape).contiguous(), block.expand(shape).contiguous())

    @classmethod
    def of_other(cls, shape: torch.Size) -> Labels:
        """Label a tensor that does not come from the stem."""
        return cls(torch.full(shape, NOT_STEM), torch.full(shape, NOT_STEM))

    def moved(self, move: Callable[[Tensor], Tensor]) -> Labels:
        """Return the labels after the tensor was moved by `move`."""
        return Labels(move(self.channel), move(self.block))


class OutputTrace:
    """The stem's output on its way through the model.

    Args:
        output: The stem's output on the meta device, shape (1, channels, rows, columns).
        names: Names of the model's parameters and buffers by the id of the tensor.
        uses: How often each of them has been read, by name; kept up to date by the caller.
    """

    def __init__(self, output: Tensor, names: Mapping[int, str], uses: Mapping[str, int]) -> None:
        self.readers: list[ConstantFold | None] = []  # None for a reader into which nothing can be folded
        self.position_embedding: PositionEmbedding | None = None
        self._grid = (output.shape[2], output.shape[3])
        self._names, self._uses = names, uses
        self._labelled = [(output, Labels.of_output(output.shape))]
        self._blocks: BlockAxes | None = None  # from the position embedding on
        self._reason = "no position embedding is directly added to the blocks"

    def constant_fold(self) -> ConstantFold | None:
        """Return where the constant can be folded: into the only reader's tensor, if nothing else reads that tensor."""
        fold = self.readers[0] if len(self.readers) == 1 else None
        return fold if fold is not None and self._uses[fold.tensor] == 1 else None

    def unscrambled_because(self, answer: Any) -> str:
        """Return why the blocks cannot be permuted, empty if they can; `answer` is what the model returned."""
        if self._reason or self._blocks is None or self.position_embedding is None:
            return self._reason
        if len(self.readers) != 1 or self._uses[self.position_embedding.tensor] != 1:
            return "the position embedding, or the blocks without it, serve something else too"
        if any(self._blocks.of(leaf) for leaf in tree_leaves(answer)):
            return "the model answers block by block, and would do so in the permuted order"
        return ""

    def follow(
        self, func: Any, operation: str, args: Sequence[Any], kwargs: Any, operands: Sequence[Tensor], result: Any
    ) -> None:
        """Follow one operation.

        Args:
            func: The operation.
            operation: Its name, without namespace and overload.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            operands: The tensors among both.
            result: What it returned.
        """
        self._follow_blocks(operation, args, kwargs, result)
        if not any(self._labels(operand) is not None for operand in operands):
            return
        if operation in _VIEWS:
            self._move(func, operation, args, kwargs, result)
        elif operation == "cat":
            parts = [self._labels(part) or Labels.of_other(part.shape) for part in args[0]]
            channel, block = ([getattr(part, name) for part in parts] for name in ("channel", "block"))
            self._labelled.append((result, Labels(torch.cat(channel, *args[1:]), torch.cat(block, *args[1:]))))
        elif operation in _BATCH_NORMS:
            self.readers.append(self._read_by_batch_norm(args))
        elif operation in ("add", "add_") and len(operands) == 2 and not kwargs:
            self.readers.append(self._read_by_addition(operands, result))
        else:
            self.readers.append(None)

    def _labels(self, tensor: Any) -> Labels | None:
        return next((labels for known, labels in self._labelled if known is tensor), None)

    def _move(self, func: Any, operation: str, args: Sequence[Any], kwargs: Any, result: Any) -> None:
        labels = self._labels(args[0])
        assert labels is not None  # a view takes one tensor
        if operation in _RESHAPES:  # whether a reshape is a view depends on strides, which the labels do not share
            labels = labels.moved(lambda label: label.reshape(result.shape))
        elif operation not in COPIES:
            labels = labels.moved(lambda label: func(label, *args[1:], **kwargs))
        self._labelled.append((result, labels))

    def _read_by_batch_norm(self, args: Sequence[Any]) -> ConstantFold | None:
        """Return the fold into the running mean of a BatchNorm whose channels are the stem's."""
        labels = self._labels(args[0])
        names = [name for arg in args if isinstance(arg, Tensor) and (name := self._names.get(id(arg)))]
        means = [name for name in names if name.endswith("running_mean")]
        if labels is None or len(means) != 1:
            return None
        by_channel = labels.channel.transpose(0, 1).flatten(1)
        channel = by_channel[:, 0]
        return (
            ConstantFold(means[0], -1, channel.clone())
            if torch.equal(by_channel, channel[:, None].expand_as(by_channel))
            else None
        )

    def _read_by_addition(self, operands: Sequence[Tensor], result: Tensor) -> ConstantFold | None:
        """Return the fold into a parameter of the output's own shape that is added to it: a position embedding, mostly."""
        output, added = operands if self._labels(operands[0]) is not None else (operands[1], operands[0])
        labels, name = self._labels(output), self._names.get(id(added))
        if labels is None or name is None or labels.channel.shape != result.shape:
            return None
        if added.numel() != result.numel():  # one number serves several blocks or channels
            return None
        self._begin_blocks(name, labels.block, added.ndim, result)
        return ConstantFold(name, 1, labels.channel.reshape(added.shape))

    def _begin_blocks(self, name: str, block: Tensor, ndim: int, result: Tensor) -> None:
        """Note the position embedding, and trace the blocks from here on, if the blocks lie in order along one axis."""
        count = self._grid[0] * self._grid[1]
        found = _block_axis(block, count)
        if found is None or found[0] < result.ndim - ndim:  # the embedding lacks the axis
            self._reason = "the blocks do not lie in order along one axis of the position embedding"
            return
        dim, first = found
        self.position_embedding = PositionEmbedding(name, dim - result.ndim + ndim, first, self._grid)
        self._reason = ""
        self._blocks = BlockAxes(count)
        self._blocks.begin(result, {dim: first})

    def _follow_blocks(self, operation: str, args: Sequence[Any], kwargs: Any, result: Any) -> None:
        if self._blocks is None or self._reason:
            return
        try:
            self._blocks.follow(operation, args, kwargs, result)
        except OrderError as error:
            self._reason = str(error)


def _block_axis(block: Tensor, count: int) -> tuple[int, int] | None:
    """Return the axis along which all `count` blocks lie in order, and the index of the first one; None if there is none.

    Args:
        block: The block labels of a tensor.
        count: Number of blocks of an image, at least 2 for an axis to exist.
    """
    for dim in range(block.ndim if count > 1 else 0):
        lines = block.transpose(0, dim).flatten(1)  # one line for each index on the axis
        along = lines[:, 0] if lines.shape[1] else lines.new_empty(0)
        first = int((along != NOT_STEM).int().argmax()) if len(along) else 0
        in_order = torch.equal(along[first : first + count], torch.arange(count))
        if in_order and int((along != NOT_STEM).sum()) == count and torch.equal(lines, along[:, None].expand_as(lines)):
            return dim, first
    return None
