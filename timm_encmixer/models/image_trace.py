"""Following the image through a model: who reads it, and where the stem's output goes.

That a model depends on the image only through its stem is not believed but followed, in a forward pass on the meta device,
which takes no memory and touches no weights. The same pass finds the place where a stem without a bias can leave the constant
that comes of the normalisation: the BatchNorm that directly follows, or a position embedding that is directly added. And it
finds whether the blocks may be permuted: whether that embedding is all that tells one block's place from another's.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode  # torch's documented way to see every operation
from torch.utils._pytree import tree_leaves

from timm_encmixer.errors import StemError
from timm_encmixer.models.block_trace import BlockAxes, OrderError, tensors_in
from timm_encmixer.models.edits import Home, Positions, bias_home
from timm_encmixer.models.patch_stem import module_name

_REMEDY = "only models that read the image through one patch convolution can be encrypted"
_COPIES = {"clone", "_to_copy", "detach", "alias"}
_RESHAPES = {"view", "_unsafe_view", "reshape", "flatten"}
_VIEWS = _COPIES | _RESHAPES | {"permute", "transpose", "t", "unsqueeze", "squeeze", "expand"}


@dataclass(frozen=True)
class Finding:
    """What following the image found.

    Args:
        home: Where a constant can go; None where the stem has no bias and nothing can take its place.
        positions: What is permuted with the blocks; None where they cannot be.
        ordered: Why they cannot be; empty where they can.
    """

    home: Home | None
    positions: Positions | None
    ordered: str


def probe(model: nn.Module, conv: nn.Conv2d, input_size: tuple[int, int, int]) -> Finding:
    """Follow the image through a model.

    Copies of the image, to another dtype or memory format, are the image still; anything else that is made of it (a resized or
    padded one, a crop) is another reading.

    Args:
        model: Any model, also on the meta device.
        conv: Its stem.
        input_size: Channels, height and width of an image that the model takes.

    Raises:
        StemError: The stem is not the one reader of the image, or the pass cannot be followed.
    """
    with torch.inference_mode(False):  # in which operations are not taken apart
        return _probe(model, conv, input_size)


def _probe(model: nn.Module, conv: nn.Conv2d, input_size: tuple[int, int, int]) -> Finding:
    name = module_name(model, conv)
    shadow = on_meta(model)
    stem: Any = shadow.get_submodule(name)
    image = torch.empty(1, *input_size, device="meta", dtype=stem.weight.dtype)
    with _Follower(shadow, image, stem.weight) as follower, torch.no_grad():
        try:
            answer = shadow(image)
        except Exception as error:  # a model may raise anything
            reason = str(error).strip().splitlines()
            got = f"{type(error).__name__}: {reason[0] if reason else ''}"
            raise StemError("model", "a forward pass that can be followed on the meta device", got, _REMEDY) from error
    if follower.readers != ["convolution"] or follower.output is None:
        got = ", ".join(follower.readers) or "none"
        raise StemError(
            "model", f"one reader of the image, the convolution {name}", f"{len(follower.readers)} ({got})", _REMEDY
        )
    home = bias_home(name, conv.out_channels) if stem.bias is not None else follower.home
    positions, ordered = follower.order_of_blocks(answer)
    return Finding(home, positions, ordered)


def on_meta(model: nn.Module) -> nn.Module:
    """Return a model of the same modules on the meta device, in evaluation mode; one that is all that is returned as it is."""
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.is_meta for tensor in tensors) and not any(module.training for module in model.modules()):
        return model
    memo: dict[int, Any] = {}
    for tensor in tensors:
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo).eval()


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it in part
    """Watches every operation of a pass for the image, the stem's output, and what is done with it first.

    The output is followed through views, and through being joined with other tokens, by a companion of the same shape that says
    which channel of the stem each number is, and of which block.
    """

    def __init__(self, model: nn.Module, image: Tensor, weight: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.readers: list[str] = []
        self.output: Tensor | None = None
        self._images, self._weight = [image], weight
        self._companions: list[tuple[Tensor, Tensor]] = []  # tensors that are the stem's output still, and their channels
        self._takers: list[Home | None] = []  # what took the output, in order
        self._grid = (0, 0)
        self._positions: Positions | None = None
        self._blocks: BlockAxes | None = None  # from the position embedding on
        self._ordered = "no position embedding is directly added to the blocks"
        self._named = {id(tensor): name for name, tensor in _tensors(model)}
        self._uses: dict[str, int] = {}

    @property
    def home(self) -> Home | None:
        """The one taker of the stem's output, if it can take a constant too, and serves nothing else."""
        if len(self._takers) != 1 or self._takers[0] is None or self._uses[self._takers[0].tensor] != 1:
            return None
        return self._takers[0]

    def order_of_blocks(self, answer: Any) -> tuple[Positions | None, str]:
        """Return what is permuted with the blocks, or why they cannot be; `answer` is what the pass returned."""
        positions, blocks = self._positions, self._blocks
        if self._ordered or positions is None or blocks is None:
            return None, self._ordered
        if len(self._takers) != 1 or self._uses[positions.tensor] != 1:
            return None, "the position embedding, or the blocks without it, serve something else too"
        if any(blocks.of(leaf) for leaf in tree_leaves(answer)):
            return None, "the model answers block by block, and would do so in the permuted order"
        return positions, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        kind = func.name().removeprefix("aten::").partition(".")[0]
        leaves = tensors_in((*args, *kwargs.values()))
        for leaf in leaves:
            if (name := self._named.get(id(leaf))) is not None:
                self._uses[name] = self._uses.get(name, 0) + 1
        if any(leaf is image for leaf in leaves for image in self._images):
            if kind in _COPIES:
                self._images.append(result)
            else:
                self.readers.append(kind if kind != "convolution" or args[1] is self._weight else "another convolution")
                if self.readers[-1] == "convolution" and self.output is None:
                    self._begin(result)
        else:
            self._follow_blocks(kind, args, kwargs, result)
            self._follow(func, kind, args, kwargs, leaves, result)
        return result

    def _follow_blocks(self, kind: str, args: Any, kwargs: Any, result: Any) -> None:
        if self._blocks is None or self._ordered:
            return
        try:
            self._blocks.follow(kind, args, kwargs, result)
        except OrderError as error:
            self._ordered = str(error)

    def _begin(self, output: Tensor) -> None:
        """Number the channels, and the blocks, in one companion: channel + channels * block."""
        self.output = output
        channels, rows, columns = output.shape[1:]
        self._grid = (rows, columns)
        numbers = torch.arange(channels)[:, None, None] + channels * torch.arange(rows * columns).reshape(rows, columns)
        self._companions.append((output, numbers[None]))

    def _companion(self, tensor: Any) -> Tensor | None:
        return next((companion for known, companion in self._companions if known is tensor), None)

    def _follow(self, func: Any, kind: str, args: Any, kwargs: Any, leaves: list[Tensor], result: Any) -> None:
        if not any(self._companion(leaf) is not None for leaf in leaves):
            return
        if kind in _VIEWS:
            companion = self._companion(args[0])
            assert companion is not None  # a view takes one tensor
            if kind in _COPIES:
                moved = companion
            elif kind in _RESHAPES:  # whether it is a view depends on strides, which the companion does not share
                moved = companion.reshape(result.shape)
            else:
                moved = func(companion, *args[1:], **kwargs)
            self._companions.append((result, moved))
        elif kind == "cat":
            parts = [self._companion(part) for part in args[0]]
            filled = [
                torch.full(part.shape, -1) if known is None else known for part, known in zip(args[0], parts, strict=True)
            ]
            self._companions.append((result, torch.cat(filled, *args[1:])))
        elif kind in ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm"):
            self._takers.append(self._batch_norm(args))
        elif kind in ("add", "add_") and len(leaves) == 2 and not kwargs:
            self._takers.append(self._added(leaves[0], leaves[1], result))
        else:
            self._takers.append(None)

    def _batch_norm(self, args: Any) -> Home | None:
        channels = self._companion(args[0])
        names = [name for arg in args if isinstance(arg, Tensor) and (name := self._named.get(id(arg)))]
        means = [name for name in names if name.endswith("running_mean")]
        if channels is None or len(means) != 1:
            return None
        assert self.output is not None  # companions begin with it
        per_channel = _channel(channels, self.output.shape[1]).transpose(0, 1).flatten(1)
        index = per_channel[:, 0]
        return Home(means[0], -1, index.clone()) if bool((per_channel == index[:, None]).all()) else None

    def _added(self, one: Tensor, other: Tensor, result: Tensor) -> Home | None:
        numbers = self._companion(one)
        if numbers is None:
            one, other = other, one
            numbers = self._companion(one)
        name = self._named.get(id(other))
        if numbers is None or name is None or numbers.shape != result.shape:
            return None
        if other.numel() != numbers.numel():  # one number for several places
            return None
        assert self.output is not None  # companions begin with it
        self._order(name, numbers, other.ndim, self.output.shape[1], result)
        return Home(name, 1, _channel(numbers, self.output.shape[1]).reshape(other.shape))

    def _order(self, name: str, numbers: Tensor, ndim: int, channels: int, result: Tensor) -> None:
        """Note the axis that numbers the blocks where the position embedding is added, if they lie along one."""
        blocks = torch.where(numbers < 0, -1, numbers // channels)
        count = self._grid[0] * self._grid[1]
        self._ordered = "the blocks do not lie in order along one axis of the position embedding"
        for dim in range(blocks.ndim):
            line = blocks.transpose(0, dim).flatten(1)
            own = dim - blocks.ndim + ndim
            if own < 0 or line.shape[1] == 0 or count < 2 or not bool((line == line[:, :1]).all()):
                continue
            first = int((line[:, 0] >= 0).int().argmax())
            if torch.equal(line[first : first + count, 0], torch.arange(count)) and int((line[:, 0] >= 0).sum()) == count:
                self._positions, self._ordered = Positions(name, own, first, self._grid), ""
                self._blocks = BlockAxes(count)
                self._blocks.begin(result, {dim: first})


def _channel(numbers: Tensor, channels: int) -> Tensor:
    """Return the stem's channel that each number is, -1 for what is not the stem's."""
    return torch.where(numbers < 0, -1, numbers % channels)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(model.named_parameters(), model.named_buffers())
