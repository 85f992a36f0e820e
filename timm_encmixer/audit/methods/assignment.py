"""Signed quadratic assignment: put the positions of one symmetric matrix in the order, and with the signs, of another.

Finds a permutation p and signs s that maximise

    sum over i != j of   target[i, j] s[i] s[j] reference[p[i], p[j]]

First scipy's fast approximate method on absolute values, then robust tabu search from there and from random starts. Its
moves are the exchanges of 2-opt, and it does not stop where none of them helps.

Source: Vogelstein et al., Fast Approximate Quadratic Programming for Graph Matching (PLOS ONE 2015); Taillard, Robust taboo
search for the quadratic assignment problem (Parallel Computing 1991), here with a second kind of move, a change of sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import quadratic_assignment

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Assignment:
    """Position i of the target is position `order[i]` of the reference, times `sign[i]`; `score` is what was maximised."""

    order: NDArray[np.int64]
    sign: NDArray[np.int64]
    score: float


def assign(
    target: Matrix, reference: Matrix, *, moves: bool, signed: bool, starts: int, iterations: int, rng: np.random.Generator
) -> Assignment:
    """Match two symmetric matrices of shape (n, n); their diagonals do not count.

    Args:
        target: What is to be put in order.
        reference: What the order is taken from.
        moves: PositionEmbedding may move; otherwise p is the identity and only signs are sought.
        signed: Signs may be -1.
        starts: Starting points of the tabu search, the first of them scipy's solution.
        iterations: Moves of the tabu search from each.
        rng: For the starting points and the search.
    """
    target, reference = (matrix - np.diag(np.diag(matrix)) for matrix in (target, reference))
    n = len(target)
    if not moves:
        order = np.arange(n)
        return _finish(target, reference, order, best_signs(target * reference) if signed else np.ones(n, np.int64))
    best: Assignment | None = None
    for start in range(starts):
        order = _scipy_order(target, reference) if start == 0 else rng.permutation(n)
        sign = best_signs(target * reference[np.ix_(order, order)]) if signed else np.ones(n, np.int64)
        found = _tabu(target, reference, order, sign, signed, iterations, rng)
        if best is None or found.score > best.score:
            best = found
    assert best is not None  # there is a first start
    return best


def _scipy_order(target: Matrix, reference: Matrix) -> NDArray[np.int64]:
    """Return what scipy finds; its 2-opt is left out, whose exchanges the tabu search makes hundreds of times faster."""
    found = quadratic_assignment(np.abs(target), np.abs(reference), method="faq", options={"maximize": True})
    return np.asarray(found.col_ind, dtype=np.int64)


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
    signed: bool,
    iterations: int,
    rng: np.random.Generator,
) -> Assignment:
    """Take the best move at each step, even a bad one, but for a while not one that was just made."""
    n = len(order)
    order, sign = order.copy(), sign.copy()
    a, b = target * np.outer(sign, sign), reference[np.ix_(order, order)]
    product = a @ b  # kept up to date: every move changes it by a matrix of rank one
    score = float((a * b).sum())
    best = score, order.copy(), sign.copy()
    free = np.zeros((n, n), np.int64)  # the step from which on a move is free again
    for step in range(iterations):
        diagonal = product.diagonal()
        both = a * b
        swaps = 2 * (product + product.T - diagonal[:, None] - diagonal) + 4 * both
        choices = [swaps]
        if (
            signed
        ):  # a swap may go with a change of sign of the first, the second or both; a change alone stands on the diagonal
            first = swaps - 4 * (product + both)
            choices += [first, first.T, first + first.T - swaps + 8 * both]
        gains = np.max(choices, axis=0)
        np.fill_diagonal(gains, -4 * diagonal if signed else -np.inf)
        gains[(free > step) & (score + gains <= best[0] + 1e-9)] = -np.inf
        r, s = divmod(int(gains.argmax()), n)
        if not np.isfinite(gains[r, s]):
            continue
        score += float(gains[r, s])
        free[r, s] = free[s, r] = step + int(rng.integers(n // 2 + 1, 3 * n // 2 + 2))
        chosen = int(np.argmax([choice[r, s] for choice in choices])) if r != s else 1
        if r != s:
            product += np.outer(a[:, s] - a[:, r], b[r] - b[s])
            product[:, [r, s]] = product[:, [s, r]]
            order[[r, s]] = order[[s, r]]
            b[[r, s]] = b[[s, r]]
            b[:, [r, s]] = b[:, [s, r]]
        for flip in ((), (r,), (s,), (r, s))[chosen]:
            product -= 2 * np.outer(a[:, flip], b[flip])
            product[flip] *= -1
            sign[flip] *= -1
            a[flip] *= -1
            a[:, flip] *= -1
        if score > best[0] + 1e-9:
            best = score, order.copy(), sign.copy()
    return _finish(target, reference, best[1], best[2])


def _finish(target: Matrix, reference: Matrix, order: NDArray[np.int64], sign: NDArray[np.int64]) -> Assignment:
    matched = target * np.outer(sign, sign) * reference[np.ix_(order, order)]
    return Assignment(order.astype(np.int64), sign, float(matched.sum()))
