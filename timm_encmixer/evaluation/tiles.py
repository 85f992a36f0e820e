"""Rows of small pictures, each row with its name: what the demo and the audit show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP_PX, _LABEL_PX, _HEADING_PX, _LEAST_PX = 4, 236, 28, 96


def draw_rows(rows: Mapping[str, Tensor], headings: Sequence[str] = ()) -> Image.Image:
    """Draw batches as rows of tiles, small ones enlarged by a whole factor to at least 96 px.

    Args:
        rows: By name: floats of shape (n, C, H, W), C being 1 or 3; values outside [0, 1] are clipped.
        headings: Names of the columns.
    """
    font = ImageFont.load_default(size=16)
    top = _HEADING_PX if headings else _GAP_PX
    scales = {name: max(1, -(-_LEAST_PX // min(batch.shape[-2:]))) for name, batch in rows.items()}
    widths = {name: len(batch) * (batch.shape[-1] * scales[name] + _GAP_PX) for name, batch in rows.items()}
    heights = {name: batch.shape[-2] * scales[name] + _GAP_PX for name, batch in rows.items()}
    canvas = Image.new("RGB", (_LABEL_PX + max(widths.values()), top + sum(heights.values())), "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        step = max(widths.values()) // len(headings)
        draw.text((_LABEL_PX + column * step + (step - _GAP_PX) // 2, top // 2), heading, fill="black", font=font, anchor="mm")
    for name, batch in rows.items():
        draw.text((8, top + (heights[name] - _GAP_PX) // 2), name, fill="black", font=font, anchor="lm")
        left = _LABEL_PX
        for picture in batch:
            tile = _tile(picture, scales[name])
            canvas.paste(tile, (left, top))
            left += tile.width + _GAP_PX
        top += heights[name]
    return canvas


def _tile(picture: Tensor, scale: int) -> Image.Image:
    array = (picture.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    tile = Image.fromarray(array)
    return tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
