"""Signed quadratic assignment: put the positions of one symmetric matrix in the order, and with the signs, of another.

Finds a permutation p and signs s that maximise

    sum over i != j of   target[i, j] s[i] s[j] reference[p[i], p[j]]

First scipy's fast approximate method on absolute values, then robust tabu search from there and from random starts. Its
moves are the exchanges of 2-opt, and it does not stop where none of them helps.

Source: Vogelstein et al., Fast Approximate Quadratic Programming for Graph Matching (PLOS ONE 2015); Taillard, Robust taboo
search for the quadratic assignment problem (Parallel Computing 1991), here with a second kind of move, a change of sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import quadratic_assignment

from timm_encmixer.audit.methods.key_space import KeySpace

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Assignment:
    """Position i of the target is position `order[i]` of the reference, times `sign[i]`; `score` is what was maximised."""

    order: NDArray[np.int64]
    sign: NDArray[np.int64]
    score: float


def assign(
    target: Matrix,
    reference: Matrix,
    *,
    keys: KeySpace,
    starts: int,
    iterations: int,
    rng: np.random.Generator,
    first: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Assignment:
    """Match two symmetric matrices of shape (n, n); their diagonals do not count.

    Args:
        target: What is to be put in order.
        reference: What the order is taken from.
        keys: Which p and s there are. Where nothing may move, only signs are sought.
        starts: Starting points of the tabu search.
        iterations: Moves of the tabu search from each.
        rng: For the starting points and the search.
        first: Order and signs of the first starting point; None takes scipy's solution.
        track: Yields the numbers of the starts, and may show how far they are.
    """
    target, reference = (matrix - np.diag(np.diag(matrix)) for matrix in (target, reference))
    n = len(target)
    signed, together = keys.signed, keys.together
    if not keys.moves:
        order = np.arange(n)
        return _finish(target, reference, order, best_signs(target * reference) if signed else np.ones(n, np.int64))
    best: Assignment | None = None
    for start in track(range(starts)):
        if first is not None and start == 0:
            order, sign = first
        else:
            order = _scipy_order(target, reference, keys) if start == 0 else keys.random_order(rng)
            sign = best_signs(target * reference[np.ix_(order, order)]) if signed else np.ones(n, np.int64)
        found = _tabu(target, reference, order, sign, together, signed, iterations, rng)
        if best is None or found.score > best.score:
            best = found
    assert best is not None  # there is a first start
    return best


def _scipy_order(target: Matrix, reference: Matrix, keys: KeySpace) -> NDArray[np.int64]:
    """Return what scipy finds for each group by itself.

    Its 2-opt is left out: the tabu search makes the same exchanges hundreds of times faster.
    """
    order = np.arange(len(target))
    for positions in keys.members:
        inside = np.ix_(positions, positions)
        found = quadratic_assignment(
            np.abs(target[inside]), np.abs(reference[inside]), method="faq", options={"maximize": True}
        )
        order[positions] = positions[found.col_ind]
    return order


def best_signs(product: Matrix) -> NDArray[np.int64]:
    """Maximise s^T product s over signs: the leading eigenvector's signs, then single changes while they help."""
    symmetric = product + product.T - 2 * np.diag(np.diag(product))
    sign = np.where(np.linalg.eigh(symmetric)[1][:, -1] < 0, -1, 1)
    for _ in range(4 * len(sign)):
        gain = -sign * (symmetric @ sign)
        worst = int(gain.argmax())
        if gain[worst] <= 1e-12:
            break
        sign[worst] *= -1
    return sign.astype(np.int64)


def _tabu(
    target: Matrix,
    reference: Matrix,
    order: NDArray[np.int64],
    sign: NDArray[np.int64],
    together: NDArray[np.bool_],
    signed: bool,
    iterations: int,
    rng: np.random.Generator,
) -> Assignment:
    """Take the best move at each step, even one that lowers the score, but for a while not one that was just made.

    A move exchanges two positions, and may change their signs; without an exchange it changes one sign. A move that was made
    is forbidden (tabu) for a random number of steps, unless it leads to the best score so far.
    """
    n = len(order)
    state = _State(target, reference, order, sign)
    score = float((state.a * state.b).sum())
    best = score, order.copy(), sign.copy()
    free = np.zeros((n, n), np.int64)  # by move, the step from which on it is free again
    for step in range(iterations):
        choices = state.gains(signed=signed)
        gains = np.max(choices, axis=0)
        gains[~together] = -np.inf
        np.fill_diagonal(gains, state.gains_of_signs() if signed else -np.inf)
        gains[(free > step) & (score + gains <= best[0] + 1e-9)] = -np.inf
        r, s = divmod(int(gains.argmax()), n)
        if not np.isfinite(gains[r, s]):
            continue
        score += float(gains[r, s])
        free[r, s] = free[s, r] = step + int(rng.integers(n // 2 + 1, 3 * n // 2 + 2))
        if r == s:
            state.change_sign(r)
        else:
            state.exchange(r, s)
            for flipped in ((), (r,), (s,), (r, s))[int(np.argmax([choice[r, s] for choice in choices]))]:
                state.change_sign(flipped)
        if score > best[0] + 1e-9:
            best = score, state.order.copy(), state.sign.copy()
    return _finish(target, reference, best[1], best[2])


class _State:
    """An assignment under way, with what the gains of all moves follow from.

    With a[i, j] = s[i] s[j] target[i, j] and b[i, j] = reference[p[i], p[j]] the score is the sum of a * b. Both are symmetric
    and have zeros on the diagonal. `product` is a @ b. A move changes it by matrices of rank one, so it is kept up to date
    instead of multiplied again: a step costs n^2 operations instead of n^3.
    """

    def __init__(self, target: Matrix, reference: Matrix, order: NDArray[np.int64], sign: NDArray[np.int64]) -> None:
        self.order, self.sign = order.copy(), sign.copy()
        self.a = target * np.outer(sign, sign)
        self.b = reference[np.ix_(order, order)]
        self.product = self.a @ self.b

    def gains(self, *, signed: bool) -> list[Matrix]:
        """Return what exchanging r and s would add to the score, for all r, s, shape (n, n).

        One matrix without a change of sign; where `signed`, one more for a change of the first sign, of the second, of both.
        """
        diagonal = self.product.diagonal()
        both = self.a * self.b
        swaps: Matrix = 2 * (self.product + self.product.T - diagonal[:, None] - diagonal) + 4 * both
        if not signed:
            return [swaps]
        first: Matrix = swaps - 4 * (self.product + both)
        return [swaps, first, first.T, first + first.T - swaps + 8 * both]

    def gains_of_signs(self) -> Matrix:
        """Return what a change of each sign alone would add to the score, shape (n,)."""
        gains: Matrix = -4 * self.product.diagonal()
        return gains

    def exchange(self, r: int, s: int) -> None:
        """Exchange the positions r and s of the reference."""
        self.product += np.outer(self.a[:, s] - self.a[:, r], self.b[r] - self.b[s])
        self.product[:, [r, s]] = self.product[:, [s, r]]
        self.order[[r, s]] = self.order[[s, r]]
        self.b[[r, s]] = self.b[[s, r]]
        self.b[:, [r, s]] = self.b[:, [s, r]]

    def change_sign(self, position: int) -> None:
        """Change the sign of one position."""
        self.product -= 2 * np.outer(self.a[:, position], self.b[position])
        self.product[position] *= -1
        self.sign[position] *= -1
        self.a[position] *= -1
        self.a[:, position] *= -1


def _finish(target: Matrix, reference: Matrix, order: NDArray[np.int64], sign: NDArray[np.int64]) -> Assignment:
    matched = target * np.outer(sign, sign) * reference[np.ix_(order, order)]
    return Assignment(order.astype(np.int64), sign, float(matched.sum()))
