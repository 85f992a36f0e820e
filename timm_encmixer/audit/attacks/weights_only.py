"""Somebody who has nothing but the encrypted model."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.alignment import nearest_signed_permutation
from timm_encmixer.audit.methods.assignment import assign
from timm_encmixer.audit.methods.block_map import apply, signed_permutation, symmetries
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.audit.methods.likelihood import climb, gaps, random_orthogonal
from timm_encmixer.audit.methods.statistics import correlation
from timm_encmixer.audit.pipeline import classify, stem_rows
from timm_encmixer.audit.recovery import RecoveredKey

POWERS = (0.35, 0.5)
ENOUGH = 0.15  # gap of BatchNorm statistics (`Candidate`) at which a search ends; a random key has ten times that
FREEDOM = 0.1  # by which the gap of any orthogonal matrix is smaller than that of a key, as it has more to fit the photos with
SMOOTH = (2.0, 0.0)  # weights of the filters' smoothness: of a trained stem, and of one that was not trained
RATE = 7.5  # of the gradient, in radians a step, divided by the size of a block
BATCH = 48  # photos a step of the gradient
COARSE = (4, 5, 6, 8)  # directions of largest variance, which the gradient finds first
_USUAL_SIZE = 48
_MATCHING = 0.4  # of a run; the rest is the gradient's
_SEARCH = 0.3  # of the matching; the rest is the choice among what that leaves open


@dataclass(frozen=True, kw_only=True)
class WeightsOnly(Attack):
    """The stem's own second-order statistics, matched with those that natural images lead to.

    Filters that were trained on photos are smooth, so their correlations between positions resemble a power of the
    covariance of photo blocks, with the mean brightness held back. A tabu search matches the two. What that leaves open
    (mirrors, channel orders, signs) is decided by the model: under the right key photos lead to the statistics that its
    BatchNorm layers keep from training, and to sure answers. Where photos stay unlikely to it, the gradient of their likelihood
    leads to an orthogonal matrix, and this to a new start of the search. Where a block is one sub-block of `etc`, all keys are
    tried.

    Args:
        points: As for every attack.
        starts: Starting points of the search for blocks of 48 numbers; larger ones get fewer, as a step costs the size squared.
        steps: Of the gradient, from each of its starts.
    """

    starts: int = budgeted(24, 96)
    steps: int = budgeted(150, 600)

    name = "weights_only"
    place = 10
    attacker = "somebody who has nothing but the encrypted model"
    material = ("encrypted_model", "public_statistics", "photos")
    citation = "our own; statistics of BatchNorm layers as in Yin et al. (CVPR 2020)"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has the whole key from the encrypted weights alone: keeping the plain weights private does not help.",
        PARTLY: "Gets part of the key from the encrypted weights alone.",
        HOLDS: "Does not get the key from the encrypted weights.",
    }
    advice = "Do not count on private weights alone."
    work = 35.0

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match, let the model choose, and where photos stay unlikely to it, climb."""
        keys: list[Candidate] = []  # of the cipher
        climbed: list[Candidate] = []  # any orthogonal matrices
        if held.scheme.exact:
            matched, settled = self._matched(held, effort)
            keys.append(surest(held, matched, effort))
            if settled or keys[0].gap <= ENOUGH:
                return RecoveredKey(keys[0].matrix)
        generator = effort.generator
        matrix = torch.empty(0)
        for smooth, inverted in itertools.product(SMOOTH, (False, True)):
            matrix = -matrix if inverted else random_orthogonal(held.scheme.block_size, generator)
            matrix = self._climbed(held, effort, matrix, smooth, generator)
            climbed.append(_judge(held, matrix, held.photos))
            near = [_judge(held, one, held.photos) for one in _near(held, effort, matrix)]
            keys += [surest(held, _look_alikes(held, _by_gap(near).matrix), effort)] if near else []
            if min(candidate.gap for candidate in keys or climbed) <= ENOUGH:
                break
        return RecoveredKey(_likeliest(keys, climbed).matrix)

    def _matched(self, held: Held, effort: Effort) -> tuple[list[Tensor], bool]:
        """Return keys by second-order statistics, with all that these leave open; and whether all searches found the same."""
        seen, found = _seen(held), []
        starts = max(1, round(self.starts * min(1, (_USUAL_SIZE / len(seen)) ** 2)))
        for power in POWERS:
            order = assign(
                correlation(seen).numpy(),
                correlation(smooth_filters(held.public_statistics.within, power)).numpy(),
                keys=KeySpace.of(held.scheme),
                starts=starts,
                iterations=2500,
                rng=effort.rng,
                track=functools.partial(effort.track, share=_MATCHING * _SEARCH / len(POWERS)),
            )
            found.append(signed_permutation(torch.from_numpy(order.order), torch.from_numpy(order.sign)))
        if held.scheme.facts.moves_sub_blocks:  # the look-alikes of nothing changed are all keys of one sub-block
            found.append(torch.eye(len(seen), dtype=torch.float64))
        variants = [alike for matrix in found for alike in _look_alikes(held, matrix)]
        different = {(matrix + 0.0).numpy().tobytes(): matrix for matrix in variants}  # + 0.0: no negative zeros
        return list(different.values()), len(different) * len(found) == len(variants)

    def _climbed(self, held: Held, effort: Effort, start: Tensor, smooth: float, generator: torch.Generator) -> Tensor:
        """Return the orthogonal matrix that the gradient finds; `smooth` is the weight of the stem filters' smoothness."""
        seen, within = _seen(held), held.public_statistics.within
        prior = smooth_filters(within, POWERS[-1])
        filters, photos = (seen / seen.norm()).float(), (prior / prior.norm()).float()

        def pull(matrix: Tensor) -> Tensor:
            alike: Tensor = matrix.T @ filters @ matrix * photos
            return -smooth * alike.sum()

        return climb(
            held.encrypted_model,
            held.photos,
            held.scheme.patch_size,
            start=start,
            pull=pull,
            steps=self.steps,
            rate=RATE / len(seen),
            batch=BATCH,
            generator=generator,
            track=functools.partial(effort.track, share=(1 - _MATCHING) / len(SMOOTH) / 2),
        )


def _seen(held: Held) -> Tensor:
    """Return the second-order statistics of the encrypted stem's filters, each of length 1; shape (D, D)."""
    rows = stem_rows(held.encrypted_model, held.scheme)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    products: Tensor = rows.T @ rows
    return products


def _near(held: Held, effort: Effort, matrix: Tensor) -> list[Tensor]:
    """Return signed permutations that are near an orthogonal matrix, and what the search finds from there."""
    scheme, seen, within = held.scheme, _seen(held), held.public_statistics.within
    if not scheme.exact:
        return []
    found: list[Tensor] = []
    keys = KeySpace.of(scheme)
    values, vectors = torch.linalg.eigh(within)
    for count, power in itertools.product(COARSE, POWERS):
        coarse = (vectors[:, -count:] * values[-count:].clamp(max=float(values[-2]))) @ vectors[:, -count:].T
        start = nearest_signed_permutation(matrix @ (coarse * coarse.diagonal().rsqrt()), keys)
        places = start.abs().argmax(dim=1)
        order = assign(
            correlation(seen).numpy(),
            correlation(smooth_filters(within, power)).numpy(),
            keys=keys,
            starts=1,
            iterations=2500,
            rng=effort.rng,
            first=(places.numpy(), start.gather(1, places[:, None]).squeeze(1).sign().long().numpy()),
        )
        found += [start, signed_permutation(torch.from_numpy(order.order), torch.from_numpy(order.sign))]
    return found


def _look_alikes(held: Held, matrix: Tensor) -> list[Tensor]:
    """Return a key, and all keys that second-order statistics hardly tell from it."""
    signs = (1,) if held.scheme.facts.keeps_means else (1, -1)
    return [sign * matrix @ turn for turn in symmetries(held.scheme) for sign in signs]


def smooth_filters(covariance: Tensor, power: float) -> Tensor:
    """Return what trained filters' second-order statistics look like: the covariance of blocks, cut off and flattened.

    Args:
        covariance: Of photo blocks, shape (D, D).
        power: Between 0 (white) and 1 (as images are).

    Returns:
        The covariance with its largest eigenvalue lowered to the second largest, to that power.
    """
    values, vectors = torch.linalg.eigh(covariance)
    prior: Tensor = (vectors * values.clamp(min=1e-12, max=float(values[-2])) ** power) @ vectors.T
    return prior


@dataclass(frozen=True)
class Candidate:
    """A matrix, and how likely public photos are under it.

    Args:
        matrix: Shape (D, D).
        gap: How far the inputs of BatchNorm layers are from the statistics that these keep from training, 0 at best; infinite
            where there are no such layers. The first half of them counts: it sees texture. The rest sees what photos show.
        sureness: Of the model's answers; 0 at best.
    """

    matrix: Tensor
    gap: float
    sureness: float

    @property
    def likeness(self) -> float:
        """Sureness less the gap."""
        return self.sureness - self.gap if math.isfinite(self.gap) else self.sureness


def _judge(held: Held, matrix: Tensor, photos: Tensor) -> Candidate:
    with gaps(held.encrypted_model, share=0.5) as found:
        logits = classify(held.encrypted_model, apply(matrix, photos, held.scheme.patch_size))
    gap = float(torch.stack(found).mean()) if found else math.inf
    return Candidate(matrix, gap, float(logits.log_softmax(dim=1).amax(dim=1).mean()))


def surest(held: Held, variants: Sequence[Tensor], effort: Effort) -> Candidate:
    """Return the key under which public photos look to the model most like what it was trained on; in three rounds.

    Few photos tell most keys apart by gap and sureness together. Between the last few the gap of all photos decides.
    """
    remaining = list(variants)
    for photos, keep, share in ((12, 96, 0.45), (48, 12, 0.45)):
        tried = effort.track(remaining, share=_MATCHING * (1 - _SEARCH) * share)
        judged = [_judge(held, matrix, held.photos[:: max(1, len(held.photos) // photos)]) for matrix in tried]
        remaining = [candidate.matrix for candidate in sorted(judged, key=lambda candidate: -candidate.likeness)[:keep]]
    tried = effort.track(remaining, share=_MATCHING * (1 - _SEARCH) * 0.1)
    return _by_gap([_judge(held, matrix, held.photos) for matrix in tried])


def _by_gap(candidates: Sequence[Candidate]) -> Candidate:
    return min(candidates, key=lambda candidate: (candidate.gap, -candidate.sureness))


def _likeliest(keys: Sequence[Candidate], turns: Sequence[Candidate]) -> Candidate:
    """Return the best key of the cipher, unless an orthogonal matrix is better by more than its freedom explains."""
    turn = _by_gap(turns)
    key = _by_gap(keys) if keys else turn
    return key if key.gap <= turn.gap + FREEDOM else turn
