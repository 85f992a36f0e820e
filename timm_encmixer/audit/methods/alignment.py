"""Alignment of second-order statistics by an orthogonal matrix: Procrustes iterations from many starting points.

Given C[k] = A S[k] A^T for several k (within a block, and between neighbours), finds A: the eigenvectors of a random mixture
of the symmetric parts give A up to signs, the other matrices give the signs, and the iterations
A <- polar(sum_k C[k] A S[k]^T + C[k]^T A S[k]) the rest. For a signed permutation the same iterations go on with the nearest
signed permutation instead of the polar factor.

Source: our own; the polar factor is the solution of the orthogonal Procrustes problem (Schoenemann, Psychometrika 1966), and
linear assignment on the gradient is the step of the fast approximate method (Vogelstein et al., PLOS ONE 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from timm_encmixer.audit.methods.assignment import best_signs
from timm_encmixer.audit.methods.block_map import signed_permutation
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.evaluation.threads import one_thread

_ROUNDS = 50


def polar(matrix: Tensor) -> Tensor:
    """Return the orthogonal matrix nearest to a square matrix."""
    left, _, right = torch.linalg.svd(matrix)
    nearest: Tensor = left @ right
    return nearest


def inverse_root(covariance: Tensor, ridge: float = 0.0) -> Tensor:
    """Return (covariance + ridge)^(-1/2) for a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * (values.clamp(min=1e-12) + ridge).rsqrt()) @ vectors.T
    return root


def whitened(covariances: Tensor, ridge: float) -> Tensor:
    """Return covariances (K, D, D) after whitening by the first of them, in part: small variances would be mostly noise.

    Args:
        covariances: Within a block first.
        ridge: Added to each variance, in mean variances.
    """
    root = inverse_root(covariances[0], ridge * float(covariances[0].diagonal().mean()))
    return root @ covariances @ root


def agreement(found: Tensor, target: Tensor, reference: Tensor) -> float:
    """Return how well A reference[k] A^T agree with target[k], both of shape (K, D, D); the larger the better."""
    return float(((found @ reference @ found.T) * target).sum())


def nearest_signed_permutation(likeness: Tensor, keys: KeySpace) -> Tensor:
    """Return the signed permutation among the keys with the largest inner product with a matrix (D, D)."""
    worth = likeness.abs() if keys.signed else likeness
    order = torch.arange(len(likeness))
    for positions in keys.members if keys.moves else ():
        inside = torch.from_numpy(positions)
        _, columns = linear_sum_assignment(worth[inside][:, inside].numpy(), maximize=True)
        order[inside] = inside[torch.from_numpy(columns)]
    sign = likeness.gather(1, order[:, None]).squeeze(1).sign() if keys.signed else torch.ones(len(order))
    return signed_permutation(order, torch.where(sign == 0, 1, sign))


def settle(found: Tensor, target: Tensor, reference: Tensor, keys: KeySpace) -> Tensor:
    """Return a signed permutation near an orthogonal A of either sign, and refined like it."""
    best: tuple[float, Tensor] | None = None
    for sign in (1, -1):
        now = nearest_signed_permutation(sign * found, keys)
        for _ in range(_ROUNDS):
            score = agreement(now, target, reference)
            if best is None or score > best[0]:
                best = score, now
            then = nearest_signed_permutation(_pull(now, target, reference), keys)
            if torch.equal(then, now):
                break
            now = then
    assert best is not None  # there are rounds
    return best[1]


def align(
    target: Tensor,
    reference: Tensor,
    *,
    starts: int,
    iterations: int,
    generator: torch.Generator,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Tensor:
    """Return the orthogonal A, shape (D, D), for which target[k] is nearest to A reference[k] A^T; both (K, D, D).

    A is determined up to its sign at best. `track` yields the numbers of the starts, and may show how far they are.
    """
    best: tuple[float, Tensor] | None = None
    with one_thread():
        for start in track(range(starts)):
            weights = torch.rand(len(target), generator=generator, dtype=torch.float64) * 2 - 0.5
            if start == 0:
                weights = torch.zeros(len(target), dtype=torch.float64)
                weights[0] = 1
            found = _refine(_start(target, reference, weights), target, reference, iterations)
            score = agreement(found, target, reference)
            if best is None or score > best[0]:
                best = score, found
    assert best is not None  # there is a first start
    return best[1]


def _start(target: Tensor, reference: Tensor, weights: Tensor) -> Tensor:
    bases = []
    for matrices in (target, reference):
        mixture = (weights[:, None, None] * matrices).sum(dim=0)
        bases.append(torch.linalg.eigh(mixture + mixture.T)[1])
    turned = [basis.T @ matrices @ basis for basis, matrices in zip(bases, (target, reference), strict=True)]
    signs = best_signs((turned[0] * turned[1]).sum(dim=0).numpy())
    start: Tensor = (bases[0] * torch.from_numpy(signs)) @ bases[1].T
    return start


def _refine(found: Tensor, target: Tensor, reference: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        nearer = polar(_pull(found, target, reference))
        if float((nearer - found).norm()) < 1e-7:
            break
        found = nearer
    return found


def _pull(found: Tensor, target: Tensor, reference: Tensor) -> Tensor:
    gradient: Tensor = (target @ found @ reference.mT + target.mT @ found @ reference).sum(dim=0)
    return gradient
