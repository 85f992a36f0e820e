"""Somebody who has scrambled ciphertext images and no key at all: blocks that belong together vary together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.assignment import assign
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.audit.recovery import RecoveredOrder
from timm_encmixer.ciphers.blocks import split

Array = NDArray[np.float64]
_SMALLEST = 1e-5  # of the largest variance; below it there is rounding
_OUTLYING = 4.0  # standard deviations at which numbers are cut off
_STRONGEST = 0.995  # quantile at which links are cut off
_REACH = 1.5  # blocks within which the expected link falls by a factor e


@dataclass(frozen=True, kw_only=True)
class BlindJigsaw(Attack):
    """The covariance of two whitened blocks over many images is the larger the nearer they are.

    Its norm is the same under every orthogonal map of the blocks, so no key of theirs is needed. The norms of all pairs are
    matched to distances on the grid by quadratic assignment. That gives the order up to a turn or a mirror image, which shows
    all that the picture shows.

    Args:
        points: As for every attack.
        starts: Starting points of the search.
    """

    starts: int = budgeted(8, 32)

    name = "blind_jigsaw"
    place = 170
    recover_rank = 1
    attacker = "a collector of ciphertext images who has no key"
    material = ("scrambled",)
    citation = "our own; matching by assignment.py"
    curve = Curve("scrambled", "ciphertext images", (50, 100, 250), (10, 25, 50, 100, 250, 1000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Finds the order of the blocks in ciphertext alone: scrambling adds nothing.",
        PARTLY: "Finds part of the order of the blocks in ciphertext alone.",
        HOLDS: "Does not find the order of the blocks in this many images.",
    }
    advice = "Count scrambling as nothing where many images go out under one key."

    def attack(self, held: Held, effort: Effort) -> RecoveredOrder:
        """Match links to distances."""
        patch = held.scheme.patch_size
        blocks = split(held.scrambled.double(), patch)
        grid = (blocks.shape[1], blocks.shape[2])
        nearness, links = _nearness(grid), _balanced(_links(blocks.flatten(1, 2)))
        found = assign(
            nearness,
            links,
            keys=KeySpace.whole(len(nearness), signed=False),
            starts=self.starts,
            iterations=3000,
            rng=effort.rng,
            track=effort.track,
        )
        return RecoveredOrder(torch.from_numpy(found.order))


def _links(blocks: Tensor) -> Array:
    """Return the squared norm of the covariance of every two whitened blocks, from blocks (n, N, D); shape (N, N)."""
    n, count, _ = blocks.shape
    centred = blocks - blocks.mean(dim=0, keepdim=True)
    variances, axes = torch.linalg.eigh(torch.einsum("nid,nie->de", centred, centred) / (n * count))
    white = (centred @ axes) / variances.clamp(min=_SMALLEST * float(variances[-1])).sqrt()
    white = (white / white.std()).clamp(-_OUTLYING, _OUTLYING)
    links = torch.stack([torch.einsum("nd,nje->jde", white[:, i], white).square().sum(dim=(1, 2)) for i in range(count)])
    found: Array = (links / n**2).numpy()
    return found


def _balanced(links: Array) -> Array:
    """Return links with each block's usual link divided out, outliers cut off, and a mean of zero."""
    other = ~np.eye(len(links), dtype=bool)
    usual = np.array([np.median(row[own]) for row, own in zip(links, other, strict=True)])
    links = links / np.sqrt(np.outer(usual, usual))
    links = np.clip(links, 0, np.quantile(links[other], _STRONGEST))
    found: Array = np.where(other, links - links[other].mean(), 0.0)
    return found


def _nearness(grid: tuple[int, int]) -> Array:
    """Return how near each two positions of a grid are, falling with distance, and about zero; shape (N, N)."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    near = np.exp(-np.hypot(row[:, None] - row, column[:, None] - column) / _REACH)
    other = ~np.eye(len(near), dtype=bool)
    found: Array = np.where(other, near - near[other].mean(), 0.0)
    return found
