"""Squares of 8 x 8 px put together by their borders: neighbouring pixels of a photo are alike, on both sides of a border.

All that is looked at are second moments of ciphertext blocks and of their neighbours. Every side of every square lies at one
border, however the squares are arranged. So the squared differences over all borders are least where the products are largest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.ciphers.parts.etc import TURNS, turned
from timm_encmixer.scheme import SUB_BLOCK_PX

Array = NDArray[np.float64]
_RIGHT, _LEFT, _BOTTOM, _TOP = np.s_[:, :, -1], np.s_[:, :, 0], np.s_[:, -1, :], np.s_[:, 0, :]
_LEAST = 1e-12  # that a change has to bring


@dataclass(frozen=True)
class Arrangement:
    """Where each number of a plain block stands in the ciphertext block.

    Args:
        index: Shape (D,), int64: position in the ciphertext block.
        sign: Shape (D,), 1 or -1.
        score: Mean product over all borders.
    """

    index: NDArray[np.int64]
    sign: NDArray[np.int64]
    score: float


class Borders:
    """How well any two squares of a block, each in any of its views, fit at each border of the grid of squares.

    Args:
        moments: Second moments about mid-grey, each of shape (D, D): of a block; of it and its right neighbour; of it and the
            block below.
        channels: C.
        patch: P in pixels, a multiple of 8.
    """

    def __init__(self, moments: tuple[Array, Array, Array], channels: int, patch: int) -> None:
        self.side = patch // SUB_BLOCK_PX
        views = _views(channels, patch)
        self.count, self.each = views.shape[:2]
        self.views = views.reshape(-1, *views.shape[2:])  # squares times views, C, 8, 8
        within, right, below = moments
        across = [self._products(moment, _RIGHT, _LEFT) for moment in (within, right)]
        down = [self._products(moment, _BOTTOM, _TOP) for moment in (within, below)]
        self.pairs: list[tuple[int, int, Array]] = []  # places on both sides of a border, and the products there
        self.around: list[list[tuple[int, Array]]] = [[] for _ in range(self.count)]  # of each place: the other one, likewise
        for row, column in itertools.product(range(self.side), repeat=2):
            is_last_column, is_last_row = column == self.side - 1, row == self.side - 1  # then the border is one between blocks
            here = row * self.side + column
            self._add(here, row * self.side + (column + 1) % self.side, across[is_last_column])
            self._add(here, (row + 1) % self.side * self.side + column, down[is_last_row])

    def _add(self, one: int, other: int, fits: Array) -> None:
        self.pairs.append((one, other, fits))
        self.around[one].append((other, fits))
        if other != one:
            self.around[other].append((one, fits.T))

    def _products(self, moment: Array, near: Any, far: Any) -> Array:
        """Return the mean product of the pixels along one side of each view and another side of each view."""
        one, other = (np.stack([view[side].reshape(-1) for view in self.views], axis=1) for side in (near, far))
        total = np.zeros((len(self.views), len(self.views)))
        for left, right in zip(one, other, strict=True):
            total += moment[left][:, right]
        return total / len(one)


@dataclass
class _State:
    """Which square lies at each place, in which view, and with which sign."""

    squares: list[int]
    views: list[int]
    signs: list[int]

    def copy(self) -> _State:
        return _State(list(self.squares), list(self.views), list(self.signs))


def arrange(borders: Borders, *, starts: int, rng: np.random.Generator) -> Arrangement:
    """Return the best arrangement that is found from random starts, by taking the best view of a square and swapping squares.

    Args:
        borders: Of a block's squares.
        starts: How many; one is enough for a block of one square.
        rng: For the starts.
    """
    found = [_climb(borders, rng) for _ in range(starts if borders.count > 1 else 1)]
    score, state = max(found, key=lambda one: one[0])
    shown = [borders.views[square * borders.each + view] for square, view in zip(state.squares, state.views, strict=True)]
    index = np.stack(shown).reshape(borders.side, borders.side, -1, SUB_BLOCK_PX, SUB_BLOCK_PX).transpose(2, 0, 3, 1, 4)
    signs = np.array(state.signs).reshape(1, borders.side, 1, borders.side, 1)
    return Arrangement(index.reshape(-1), np.broadcast_to(signs, index.shape).reshape(-1), score / len(borders.pairs))


def _climb(borders: Borders, rng: np.random.Generator) -> tuple[float, _State]:
    squares = [int(square) for square in rng.permutation(borders.count)]
    views = [int(rng.integers(borders.each)) for _ in squares]
    state = _State(squares, views, [1] * borders.count)
    score = _settle(borders, state)
    improved = True
    while improved:
        improved = False
        for one, other in itertools.combinations(range(borders.count), 2):
            trial = state.copy()
            trial.squares[one], trial.squares[other] = trial.squares[other], trial.squares[one]
            for place in (one, other, one):
                _turn(borders, trial, place)
            if _sum(borders, trial) > score + _LEAST:
                score, state, improved = _settle(borders, trial), trial, True
    return score, state


def _settle(borders: Borders, state: _State) -> float:
    """Give each square in turn its best view and sign until nothing changes; returns the sum over all borders."""
    score = -np.inf
    while (now := _sum(borders, state)) > score + _LEAST:
        score = now
        for place in range(borders.count):
            _turn(borders, state, place)
    return now


def _turn(borders: Borders, state: _State, place: int) -> None:
    """Give the square at a place its best view and sign."""
    own = slice(state.squares[place] * borders.each, (state.squares[place] + 1) * borders.each)
    total = np.zeros(borders.each)
    for other, fits in borders.around[place]:
        if other == place:  # a block of one square: the next block has the same one, and so the same sign
            total += np.diagonal(fits[own, own])
        else:
            total += state.signs[other] * fits[own, state.squares[other] * borders.each + state.views[other]]
    best, worst = int(np.argmax(total)), int(np.argmin(total))
    inverted = -total[worst] > total[best] and borders.count > 1
    state.views[place], state.signs[place] = (worst, -1) if inverted else (best, 1)


def _sum(borders: Borders, state: _State) -> float:
    at = [square * borders.each + view for square, view in zip(state.squares, state.views, strict=True)]
    return sum(state.signs[a] * state.signs[b] * float(fits[at[a], at[b]]) for a, b, fits in borders.pairs)


def _views(channels: int, patch: int) -> NDArray[np.int64]:
    """Return for each square of a ciphertext block and each way of looking at it the positions that it shows.

    Shape (squares, views, C, 8, 8).
    """
    side, px = patch // SUB_BLOCK_PX, SUB_BLOCK_PX
    place = np.arange(channels * patch**2).reshape(channels, side, px, side, px)
    orders = list(itertools.permutations(range(channels))) if channels == 3 else [tuple(range(channels))]
    squares = (place[:, row, :, column] for row, column in itertools.product(range(side), repeat=2))
    return np.stack([np.stack([turned(square, t)[list(o)] for t in range(TURNS) for o in orders]) for square in squares])
