"""Rows of small pictures, each row with its name and each picture with its words: what the demo and the audit show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

INK, GOOD, BAD = "black", "#11701d", "#b3261e"
_GAP_PX, _LABEL_PX, _HEADING_PX, _LEAST_PX, _LINE_PX, _FONT_PX = 4, 236, 28, 96, 21, 16


@dataclass(frozen=True)
class Caption:
    """A line of text below a picture, and its colour."""

    text: str
    colour: str = INK


def draw_rows(
    rows: Mapping[str, Tensor], headings: Sequence[str] = (), captions: Mapping[str, Sequence[Caption]] | None = None
) -> Image.Image:
    """Draw batches as rows of tiles, small ones enlarged by a whole factor to at least 96 px.

    Args:
        rows: By name: floats of shape (n, C, H, W), C being 1 or 3; values outside [0, 1] are clipped.
        headings: Names of the columns.
        captions: By name of a row: a caption for each of its tiles.
    """
    font = ImageFont.load_default(size=_FONT_PX)
    captions = captions or {}
    top = _HEADING_PX if headings else _GAP_PX
    scales = {name: max(1, -(-_LEAST_PX // min(batch.shape[-2:]))) for name, batch in rows.items()}
    widths = {name: len(batch) * (batch.shape[-1] * scales[name] + _GAP_PX) for name, batch in rows.items()}
    heights = {
        name: batch.shape[-2] * scales[name] + _GAP_PX + (_LINE_PX if name in captions else 0) for name, batch in rows.items()
    }
    canvas = Image.new("RGB", (_LABEL_PX + max(widths.values()), top + sum(heights.values())), "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        step = max(widths.values()) // len(headings)
        draw.text((_LABEL_PX + column * step + (step - _GAP_PX) // 2, top // 2), heading, fill=INK, font=font, anchor="mm")
    for name, batch in rows.items():
        middle = top + batch.shape[-2] * scales[name] // 2
        draw.text((8, middle), name, fill=INK, font=font, anchor="lm")
        left = _LABEL_PX
        for index, picture in enumerate(batch):
            tile = _tile(picture, scales[name])
            canvas.paste(tile, (left, top))
            if name in captions:
                _write(draw, captions[name][index], left + tile.width // 2, top + tile.height, font)
            left += tile.width + _GAP_PX
        top += heights[name]
    return canvas


def draw_panels(panels: Sequence[tuple[Tensor, Sequence[Caption]]]) -> Image.Image:
    """Draw pictures of one size side by side, each with its lines of text below.

    Args:
        panels: Pictures as floats of shape (C, H, W), clipped to [0, 1], each with its captions.
    """
    font = ImageFont.load_default(size=_FONT_PX)
    tiles = [_tile(picture, 1) for picture, _ in panels]
    lines = max(len(captions) for _, captions in panels)
    width, height = tiles[0].size
    step = width + 3 * _GAP_PX
    canvas = Image.new("RGB", (step * len(panels), height + 2 * _GAP_PX + lines * _LINE_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (tile, (_, captions)) in enumerate(zip(tiles, panels, strict=True)):
        left = column * step + (step - width) // 2
        canvas.paste(tile, (left, _GAP_PX))
        for line, caption in enumerate(captions):
            _write(draw, caption, left + width // 2, _GAP_PX + height + line * _LINE_PX, font)
    return canvas


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures one below the other on white."""
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height
    return canvas


def _write(
    draw: ImageDraw.ImageDraw, caption: Caption, middle: int, top: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    draw.text((middle, top + _LINE_PX // 2), caption.text, fill=caption.colour, font=font, anchor="mm")


def _tile(picture: Tensor, scale: int) -> Image.Image:
    array = (picture.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    tile = Image.fromarray(array)
    return tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
