"""On what a cipher's blocks depend: asked by chosen images, before anybody concludes from a block side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

ALONE, WITH_OTHERS, UNKNOWN = "alone", "with others", "unknown"
_BLOCKS, _VARIANTS = 6, 3  # blocks that are changed, and how often each
_MOVED = 1e-4  # of a number in [0, 1]: less is rounding

Encrypt = Callable[[Tensor], Tensor]  # uint8 images (N, C, H, W) to floats


@dataclass(frozen=True)
class Dependence:
    """How ciphertext depends on plain blocks of one side.

    Args:
        kind: ALONE: a block of ciphertext depends on its own plain block, and all blocks are treated alike. WITH_OTHERS: not
            so. UNKNOWN: two ciphertexts of one image differ, or have another shape than it.
        words: The same, for reports.
    """

    kind: str
    words: str


def dependence(encrypt: Encrypt, image: Tensor, side: int, *, seed: int = 0) -> Dependence:
    """Ask on what blocks of a side depend.

    Args:
        encrypt: The cipher.
        image: Any plain image, uint8, shape (C, H, W); its sides are multiples of `side`.
        side: Of a block in px.
        seed: Of the changes.
    """
    random = torch.Generator().manual_seed(seed)
    if image[0].numel() == side**2:
        return Dependence(ALONE, "the whole image is one block")
    first = encrypt(image[None])
    if first.shape[1:] != image.shape:
        return Dependence(UNKNOWN, "ciphertexts have another shape than their images")
    second = encrypt(image[None])
    if first.shape != second.shape or (first - second).abs().max() > _MOVED:
        return Dependence(UNKNOWN, "one image has a new ciphertext at each call")
    for index in _chosen_blocks(image, side, random):
        touched = _touched(encrypt, image, first[0], side, index, random)
        if len(touched) > 1:
            return Dependence(WITH_OTHERS, f"one changed block of {side} px changes {len(touched)} blocks of ciphertext")
        if touched and touched != [index]:
            return Dependence(WITH_OTHERS, f"a changed block of {side} px changes the ciphertext at another place")
    if not _alike(encrypt, image, side, random):
        return Dependence(WITH_OTHERS, f"equal blocks of {side} px at different places have different ciphertexts")
    return Dependence(
        ALONE, f"each block of {side} px of ciphertext depends on its own plain block alone, and all are treated alike"
    )


def find_side(encrypt: Encrypt, image: Tensor, sides: Iterable[int], *, seed: int = 0) -> int | None:
    """Return the first side whose blocks depend on their own plain block alone; None where there is none.

    Sides that make one block of the whole image are passed over: such a block always depends on itself alone.
    """
    several = (side for side in sides if image[0].numel() > side**2)
    return next((side for side in several if dependence(encrypt, image, side, seed=seed).kind == ALONE), None)


def _chosen_blocks(image: Tensor, side: int, random: torch.Generator) -> list[tuple[int, int]]:
    rows, columns = (size // side for size in image.shape[1:])
    chosen = torch.randperm(rows * columns, generator=random)[:_BLOCKS].tolist()
    return [divmod(index, columns) for index in chosen]


def _touched(
    encrypt: Encrypt, image: Tensor, before: Tensor, side: int, index: tuple[int, int], random: torch.Generator
) -> list[tuple[int, int]]:
    """Return the rows and columns of the blocks of ciphertext that change with one plain block."""
    row, column = (place * side for place in index)
    changed = image.repeat(_VARIANTS, 1, 1, 1)
    noise = torch.randint(0, 256, (_VARIANTS, len(image), side, side), dtype=torch.uint8, generator=random)
    changed[:, :, row : row + side, column : column + side] = noise
    moved = ((encrypt(changed) - before).abs() > _MOVED).flatten(0, 1).any(dim=0)
    blocks = moved.unfold(0, side, side).unfold(1, side, side).flatten(2).any(dim=-1)
    return [(int(row), int(column)) for row, column in torch.nonzero(blocks)]


def _alike(encrypt: Encrypt, image: Tensor, side: int, random: torch.Generator) -> bool:
    """Whether an image of equal blocks has a ciphertext of equal blocks."""
    channels, height, width = image.shape
    block = torch.randint(0, 256, (channels, side, side), dtype=torch.uint8, generator=random)
    seen = encrypt(block.repeat(1, height // side, width // side)[None])[0]
    blocks = seen.unfold(1, side, side).unfold(2, side, side)  # (C, rows, columns, side, side)
    return bool((blocks - blocks[:, :1, :1]).abs().max() <= _MOVED)
