"""Colours: what second-order statistics leave open among the channels is decided by how common recovered colours are.

Skin, earth and wood are reddish, foliage is dark green, the sky is bright and blue and in the upper half. So the order and the
signs of the channels, or any mixture of them, are judged by the mean likelihood of the blocks' mean colours in photos, beside
the agreement of second-order statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from timm_encmixer.ciphers.blocks import split

Array = NDArray[np.float64]
BUNDLED_COLOURS = Path(__file__).parents[1] / "public-colours.safetensors"
CHANNELS = 3  # of images that have colours
AGREEMENT = 3.0  # what second-order statistics count for beside colours
_BINS = 16  # in each channel
_SMOOTHING = 1.0  # bins
_FLOOR = 0.02  # of all blocks have a colour by chance
_SAMPLE = 4096  # blocks whose colours are looked at
_STEP, _EVALUATIONS, _PRECISE = 0.3, 80, 3e-3  # radians, number, radians


def colour_counts(images: Tensor, patch: int) -> Tensor:
    """Count the mean colours of blocks.

    Args:
        images: uint8, shape (N, 3, H, W).
        patch: Side of a block in pixels.

    Returns:
        How many blocks of the upper and of the lower half have which red, green and blue; int32, shape (2, 16, 16, 16).
    """
    blocks = split(images.float() / 255, patch)
    colours = blocks.reshape(*blocks.shape[:3], CHANNELS, -1).mean(dim=4)
    counts = []
    for half in _halves(colours):
        red, green, blue = (half.reshape(-1, CHANNELS) * _BINS).long().clamp(0, _BINS - 1).T
        counts.append(torch.bincount((red * _BINS + green) * _BINS + blue, minlength=_BINS**3).reshape([_BINS] * 3))
    return torch.stack(counts).int()


class Colours:
    """How much blocks look like those of photos by their mean colours.

    Args:
        seen: Blocks of ciphertexts about mid-grey, shape (N, rows, columns, D).
        patch: Side of a plain block in pixels.
        photos: Public photos, uint8, shape (N, 3, H, W); they count as much as those that come with the package.
    """

    def __init__(self, seen: Tensor, patch: int, photos: Tensor) -> None:
        counts = load_file(BUNDLED_COLOURS)["counts"], colour_counts(photos, patch)
        self._tables = np.log(sum(_density(halves.numpy()) for halves in counts) / len(counts))
        self._blocks = [_sampled(half.flatten(0, 2)) for half in _halves(seen)]

    def likelihood(self, back: Tensor) -> float:
        """Return the mean log-likelihood of the colours of plain blocks; `back` takes seen blocks to these, shape (D, D)."""
        return self._of(self._recovered(back))

    def mixture(self, back: Tensor, target: Tensor, reference: Tensor) -> Tensor:
        """Return how to mix the channels so that colours are likely, and second-order statistics agree.

        Args:
            back: As for `likelihood`.
            target: Second-order statistics of the plain blocks that `back` gives, shape (K, D, D).
            reference: The same of public photos.

        Returns:
            An orthogonal matrix, shape (D, D), that is to be multiplied to `back` from the left.
        """
        recovered, agreement = self._recovered(back), _agreement_of_mixtures(target, reference)

        def worth(mixed: Array) -> float:
            return self._of([colours @ mixed.T for colours in recovered]) + AGREEMENT * agreement(mixed)

        orders = [np.eye(CHANNELS)[list(order)] for order in itertools.permutations(range(CHANNELS))]
        best = max((_climbed(worth, sign * order) for order in orders for sign in (1, -1)), key=worth)
        return torch.kron(torch.from_numpy(best), torch.eye(len(back) // CHANNELS, dtype=torch.float64))

    def _recovered(self, back: Tensor) -> list[Array]:
        means = back.reshape(CHANNELS, -1, back.shape[1]).mean(dim=1)
        return [(blocks @ means.T).numpy() for blocks in self._blocks]

    def _of(self, recovered: list[Array]) -> float:
        found = [
            map_coordinates(table, (colours + 0.5).T * _BINS - 0.5, order=1, mode="nearest")
            for table, colours in zip(self._tables, recovered, strict=True)
        ]
        return float(np.concatenate(found).mean())


def _halves(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower blocks of images (N, rows, columns, d); a row in the middle is of the upper half."""
    rows = (blocks.shape[1] + 1) // 2
    return blocks[:, :rows], blocks[:, rows:]


def _sampled(blocks: Tensor) -> Tensor:
    chosen = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0))[: _SAMPLE // 2]
    return blocks[chosen].double()


def _density(counts: NDArray[np.int32]) -> Array:
    """Return the share of blocks by half and colour, smoothed; nothing is impossible."""
    smooth = np.stack([gaussian_filter(half.astype(np.float64), _SMOOTHING, mode="nearest") for half in counts])
    shares = smooth / np.maximum(smooth.sum(axis=(1, 2, 3), keepdims=True), 1)
    density: Array = (1 - _FLOOR) * shares + _FLOOR / _BINS**3
    return density


def _agreement_of_mixtures(target: Tensor, reference: Tensor) -> Callable[[Array], float]:
    """Return how well statistics agree after channels are mixed, as a function of the mixture (3, 3); 1 is perfect."""
    size = reference.shape[1] // CHANNELS
    apart = [matrices.reshape(-1, CHANNELS, size, CHANNELS, size) for matrices in (reference, target)]
    products = torch.einsum("kaibj,kcidj->abcd", *apart).numpy() / float(reference.square().sum())

    def agreement(mixed: Array) -> float:
        return float(np.einsum("ac,bd,abcd->", mixed, mixed, products))

    return agreement


def _climbed(worth: Callable[[Array], float], start: Array) -> Array:
    """Return the mixture near a starting point that is worth most."""

    def turned(vector: Array) -> Array:
        mixed: Array = Rotation.from_rotvec(vector).as_matrix() @ start
        return mixed

    simplex = np.vstack([np.zeros(3), _STEP * np.eye(3)])
    options = {"initial_simplex": simplex, "maxfev": _EVALUATIONS, "xatol": _PRECISE, "fatol": 1e-5}
    return turned(minimize(lambda vector: -worth(turned(vector)), np.zeros(3), method="Nelder-Mead", options=options).x)
