"""Somebody who has nothing but the encrypted model."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.assignment import assign
from timm_encmixer.audit.methods.block_map import apply, signed_permutation, symmetries
from timm_encmixer.audit.methods.statistics import correlation
from timm_encmixer.audit.pipeline import classify, stem_rows
from timm_encmixer.audit.recovery import RecoveredKey

POWERS = (0.35, 0.5)
_SEARCH = 0.3  # of a run; the rest is the choice among what that leaves open


@dataclass(frozen=True, kw_only=True)
class WeightsOnly(Attack):
    """The stem's own second-order statistics, matched with those that natural images lead to.

    Filters that were trained on photos are smooth, so their correlations between positions resemble a power of the
    covariance of photo blocks, with the mean brightness held back. A tabu search matches the two. What that leaves open
    (mirrors, channel orders, signs) is decided by the model: it is surest of its answers under the right key.

    Args:
        points: As for every attack.
        starts: Starting points of the search; None takes 24 or 96.
    """

    starts: int | None = None

    name = "weights_only"
    attacker = "somebody who has nothing but the encrypted model"
    material = ("encrypted_model", "public_statistics", "photos")
    source = "our own"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has the whole key from the encrypted weights alone: keeping the plain weights private does not help.",
        PARTLY: "Gets part of the key from the encrypted weights alone.",
        HOLDS: "Does not get the key from the encrypted weights.",
    }
    advice = "Do not count on private weights alone; a stem that photos did not shape gives this attack nothing."
    work = 35.0

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match, then let the model's confidence choose."""
        rows = stem_rows(held.encrypted_model)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
        seen = rows.T @ rows
        parts = held.scheme.parts
        found = []
        for power in POWERS:
            prior = smooth_filters(held.public_statistics.within, power)
            if "orthogonal" in parts:
                found.append(torch.linalg.eigh(seen)[1] @ torch.linalg.eigh(prior)[1].T)
                continue
            order = assign(
                correlation(seen).numpy(),
                correlation(prior).numpy(),
                moves=held.scheme.moves,
                signed=held.scheme.inverts,
                starts=self.starts or effort.pick(24, 96),
                iterations=2500,
                rng=effort.rng,
                track=functools.partial(effort.track, share=_SEARCH / len(POWERS)),
            )
            found.append(signed_permutation(torch.from_numpy(order.order), torch.from_numpy(order.sign)))
        global_signs = (1,) if held.scheme.cipher == "shuffle" else (1, -1)
        variants = [sign * matrix @ turn for matrix in found for turn in symmetries(held.scheme) for sign in global_signs]
        different = {(matrix + 0.0).numpy().tobytes(): matrix for matrix in variants}  # + 0.0: no negative zeros
        return RecoveredKey(surest(held, list(different.values()), effort))


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


def surest(held: Held, variants: Sequence[Tensor], effort: Effort) -> Tensor:
    """Return the key under which public photos look to the model most like what it was trained on; in three rounds."""
    remaining = list(variants)
    for photos, keep, share in ((12, 96, 0.45), (48, 12, 0.45), (96, 1, 0.1)):
        shown = held.photos[:: max(1, len(held.photos) // photos)]
        tried = effort.track(remaining, share=(1 - _SEARCH) * share)
        likeness = [_likeness(held, matrix, shown) for matrix in tried]
        order = sorted(range(len(remaining)), key=lambda index: -likeness[index])
        remaining = [remaining[index] for index in order[:keep]]
    return remaining[0]


def _likeness(held: Held, matrix: Tensor, photos: Tensor) -> float:
    """Return how near the inputs of BatchNorm layers are to the statistics that these keep from training.

    The first half of them counts, which sees texture; the rest sees what photos are of. How sure the model is of its answers
    is added; without such layers it is all there is.
    """
    gaps: list[Tensor] = []

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = module.get_buffer("running_mean"), module.get_buffer("running_var") + module.eps  # type: ignore[operator]
        seen = inputs[0].transpose(0, 1).flatten(1)
        centre = seen.mean(dim=1, keepdim=True)
        spread = (seen - centre).square().sum(dim=1) / (seen.shape[1] - 1)  # `var` takes half of the attack's time
        gaps.append(((centre.squeeze(1) - mean).square() / variance + (spread / variance).log().square()).mean())

    layers = [m for m in held.encrypted_model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    hooks = [layer.register_forward_pre_hook(compare) for layer in layers[: (len(layers) + 1) // 2]]
    try:
        logits = classify(held.encrypted_model, apply(matrix, photos, held.scheme.patch_size))
    finally:
        for hook in hooks:
            hook.remove()
    sureness = float(logits.log_softmax(dim=1).amax(dim=1).mean())
    return sureness - float(torch.stack(gaps).mean()) if gaps else sureness
