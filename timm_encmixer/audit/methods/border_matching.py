"""Square jigsaw puzzles: put blocks in the order in which their borders fit.

How well two blocks fit is how well each border is foretold by the last two lines of the other (Pomeranz et al., A fully
automated greedy square jigsaw puzzle solver, CVPR 2011), here averaged over all images that share one order. The blocks are
placed greedily, best fit first, from several starts, and then exchanged while that helps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]
Grid = tuple[int, int]
_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))  # to the right, left, below, above
_LEAST = 1e-12  # misfit that is worth an exchange; less is rounding


def misfits(blocks: Tensor) -> tuple[Matrix, Matrix]:
    """Return how badly block j fits to the right of block i, and below it.

    Args:
        blocks: Plain pixels of any number of images, shape (n, N, C, P, P); block i has the same position in all of them.

    Returns:
        Two matrices (N, N), with infinity on the diagonal.
    """
    across = _misfit(blocks.double())
    down = _misfit(blocks.double().transpose(3, 4))
    return across, down


def arrange(across: Matrix, down: Matrix, grid: Grid, *, starts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the block for each position, by rows, shape (N,): the arrangement of least misfit that was found.

    Args:
        across: As `misfits` returns it.
        down: Likewise.
        grid: Rows and columns, N positions.
        starts: Greedy placements, each from another block.
        rng: Chooses the blocks to start from.
    """
    first = np.argsort(np.minimum(across.min(axis=1), down.min(axis=1)))[: max(1, starts // 2)]
    others = rng.permutation(len(across))[: starts - len(first)]
    found = [_exchanged(_greedy(across, down, grid, int(block)), across, down, grid) for block in (*first, *others)]
    return min(found, key=lambda order: _cost(order.reshape(grid), across, down))


def _misfit(blocks: Tensor) -> Matrix:
    """Return the misfit of left-to-right neighbours: the mean error of predicting the border of one from the other."""
    n, count = blocks.shape[:2]
    right, left = blocks[..., -1].reshape(n, count, -1), blocks[..., 0].reshape(n, count, -1)
    told_right = 2 * right - blocks[..., -2].reshape(n, count, -1)
    told_left = 2 * left - blocks[..., 1].reshape(n, count, -1)
    total = torch.zeros(count, count, dtype=torch.float64)
    for image in range(n):
        total += torch.cdist(told_right[image], left[image], p=1) + torch.cdist(right[image], told_left[image], p=1)
    found: Matrix = (total / (2 * n * right.shape[2])).fill_diagonal_(float("inf")).numpy()
    return found


def _greedy(across: Matrix, down: Matrix, grid: Grid, first: int) -> NDArray[np.int64]:
    """Place blocks, beginning with one: each time the block that fits best to the placed ones, where the grid has room."""
    rows, columns = grid
    place = {(0, 0): first}
    left_over = set(range(len(across))) - {first}
    while left_over:
        free = np.array(sorted(left_over))
        best = (np.inf, (0, 0), -1)
        for spot in _border(place, rows, columns):
            misfit, neighbours = np.zeros(len(free)), 0
            for (row, column), cost in (((0, -1), across), ((0, 1), across.T), ((-1, 0), down), ((1, 0), down.T)):
                block = place.get((spot[0] + row, spot[1] + column))
                if block is not None:
                    misfit, neighbours = misfit + cost[block, free], neighbours + 1
            mean = misfit / neighbours
            chosen = int(mean.argmin())
            if mean[chosen] < best[0]:
                best = (mean[chosen], spot, int(free[chosen]))
        place[best[1]] = best[2]
        left_over.remove(best[2])
    top, left = min(row for row, _ in place), min(column for _, column in place)
    order = np.empty(len(across), dtype=np.int64)
    for (row, column), block in place.items():
        order[(row - top) * columns + column - left] = block
    return order


def _border(place: dict[tuple[int, int], int], rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the empty positions beside blocks that a grid over all of them can still reach."""
    every = np.array(list(place))
    low, high = every.min(axis=0), every.max(axis=0)
    spots = {(row + down, column + right) for row, column in place for down, right in _SIDES} - place.keys()
    for row, column in sorted(spots):
        if max(high[0], row) - min(low[0], row) < rows and max(high[1], column) - min(low[1], column) < columns:
            yield row, column


def _exchanged(order: NDArray[np.int64], across: Matrix, down: Matrix, grid: Grid) -> NDArray[np.int64]:
    """Exchange two blocks where that helps, while there are such."""
    order, beside = order.copy(), _beside(across, down, grid)
    improved = True
    while improved:
        improved = False
        for one in range(len(order) - 1):
            other = one
            while (better := np.flatnonzero(_gains(order, one, beside)[other + 1 :] > _LEAST)).size:
                other += 1 + int(better[0])
                order[[one, other]] = order[[other, one]]
                improved = True
    return order


def _beside(across: Matrix, down: Matrix, grid: Grid) -> list[tuple[NDArray[np.int64], Matrix]]:
    """Return for each side the neighbour's position, -1 without a neighbour, and the misfits of block and neighbour."""
    places = np.pad(np.arange(grid[0] * grid[1]).reshape(grid), 1, constant_values=-1)
    costs = (across, across.T, down, down.T)
    shifted = (np.roll(places, (-row, -column), (0, 1))[1:-1, 1:-1].ravel() for row, column in _SIDES)
    return list(zip(shifted, costs, strict=True))


def _gains(order: NDArray[np.int64], one: int, beside: list[tuple[NDArray[np.int64], Matrix]]) -> NDArray[np.float64]:
    """Return how much misfit goes away if the block at position `one` is exchanged with that at each position, shape (N,)."""
    gains = np.zeros(len(order))
    for places, cost in beside:
        own, others = places[one], np.flatnonzero(places >= 0)
        if own >= 0:
            change = cost[order[one], order[own]] - cost[order, order[own]]
            change[own] = 0.0  # the misfit between the two is counted once, below
            gains += change
        theirs = order[places[others]]
        then = np.where(places[others] == one, order[others], theirs)
        gains[others] += cost[order[others], theirs] - cost[order[one], then]
    return gains


def _cost(placed: NDArray[np.int64], across: Matrix, down: Matrix) -> float:
    return float(across[placed[:, :-1], placed[:, 1:]].sum() + down[placed[:-1], placed[1:]].sum())
