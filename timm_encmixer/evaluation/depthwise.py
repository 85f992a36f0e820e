"""Depthwise convolutions in float64 on the CPU, as multiplications and additions of shifted images.

torch has no kernel of its own for them. It loops over the channels and starts its threads once for each channel. A ConvMixer of
256 channels and 8 blocks starts them 2,048 times for a batch, and waits each time for the slowest thread. On a busy machine
that takes up to a hundred times as long as the arithmetic. Here they are started once for each number of a kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_NUMBERS_AT_A_TIME = 1 << 20  # of the result, 8 MiB: it is read again for each number of the kernel, from the cache


class ShiftedDepthwise(TorchFunctionMode):
    """Computes depthwise convolutions by `conv2d` below; all other operations as torch does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (conv2d if func is torch.conv2d else func)(*args, **(kwargs or {}))


def conv2d(
    input: Tensor,  # torch's own names, by which a model may call it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `torch.conv2d` without gradients, to within the order of the additions.

    Args:
        input: Shape (n, C, H, W). Only float64 on the CPU, with as many groups and kernels as channels, is computed here.
        weight: Shape (C, 1, rows, columns).
        bias: Shape (C,).
        stride: As for torch.
        padding: Likewise.
        dilation: Likewise.
        groups: Likewise.
    """
    is_depthwise = input.dim() == 4 and 1 < groups == input.shape[1] == weight.shape[0]
    if not is_depthwise or input.dtype != torch.float64 or input.device.type != "cpu":
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    (row_step, column_step), (row_gap, column_gap) = _pair(stride), _pair(dilation)
    rows, columns = weight.shape[2:]
    reach = (row_gap * (rows - 1), column_gap * (columns - 1))
    padded = functional.pad(input, _margins(padding, reach))
    height, width = ((side - span) for side, span in zip(padded.shape[2:], reach, strict=True))
    if height < 1 or width < 1:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)  # which says what is wrong
    shape = (len(input), groups, -(-height // row_step), -(-width // column_step))
    result = input.new_zeros(shape) if bias is None else bias[:, None, None].expand(shape).contiguous()
    images = max(1, _NUMBERS_AT_A_TIME * len(input) // max(1, result.numel()))
    for part, sums in zip(torch.split(padded, images), torch.split(result, images), strict=True):
        for row in range(rows):
            for column in range(columns):
                top, left = row * row_gap, column * column_gap
                shifted = part[:, :, top : top + height : row_step, left : left + width : column_step]
                sums.addcmul_(shifted, weight[:, 0, row, column, None, None])
    return result


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """Return an argument for rows and columns."""
    both = (value,) if isinstance(value, int) else tuple(value)
    return both[0], both[-1]


def _margins(padding: int | tuple[int, ...] | str, reach: tuple[int, int]) -> list[int]:
    """Return the zeros to add at the left, right, top and bottom; `reach` is how far a kernel reaches beyond its first row."""
    if padding == "same":
        return [margin for total in reversed(reach) for margin in (total // 2, total - total // 2)]
    rows, columns = (0, 0) if isinstance(padding, str) else _pair(padding)
    return [columns, columns, rows, rows]
