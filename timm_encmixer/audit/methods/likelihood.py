"""How likely public photos are to a model under a guessed key, and the orthogonal key that makes them most likely, by gradient.

A BatchNorm layer keeps the mean and the variance that its inputs had in training. Under the right key public photos lead to
nearly the same ones, in all layers, and to sure answers. This is a smooth function of the key's matrix, so that a model on
which no discrete search finds a hold is climbed: M <- M exp(-step) with skew steps of Adam, which keeps M orthogonal.

Source: our own; statistics of BatchNorm layers as what a model remembers of its training: Yin et al., Dreaming to Distill
(CVPR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from timm_encmixer.audit.methods.block_map import unit
from timm_encmixer.ciphers.blocks import join, split

_SURENESS = 0.1  # what the model's answers count for beside statistics
_VARIETY = 0.5  # answers should be sure, and not all the same
_DECAYS = 0.9, 0.99  # of Adam


@contextmanager
def gaps(model: nn.Module, *, share: float = 1.0) -> Iterator[list[Tensor]]:
    """Collect, at each forward pass, how far the inputs of BatchNorm layers are from what these keep from training.

    Args:
        model: In evaluation mode.
        share: Which part of the layers counts, from the first on.

    Yields:
        A list that gets a tensor without dimensions for each layer and pass; 0 is no gap.
    """
    found: list[Tensor] = []

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = module.get_buffer("running_mean"), module.get_buffer("running_var") + module.eps  # type: ignore[operator]
        seen = inputs[0].transpose(0, 1).flatten(1)
        centre = seen.mean(dim=1, keepdim=True)
        spread = (seen - centre).square().sum(dim=1) / (seen.shape[1] - 1)  # `var` takes half of the attack's time
        ratio = spread.clamp(min=1e-9) / variance
        found.append(((centre.squeeze(1) - mean).square() / variance + ratio.log().square()).mean())

    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    hooks = [layer.register_forward_pre_hook(compare) for layer in layers[: math.ceil(share * len(layers))]]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def climb(
    model: nn.Module,
    photos: Tensor,
    patch: int,
    *,
    start: Tensor,
    pull: Callable[[Tensor], Tensor],
    steps: int,
    rate: float,
    batch: int,
    generator: torch.Generator,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Tensor:
    """Return an orthogonal A, shape (D, D), float64, under which public photos are likely.

    Args:
        model: The encrypted model, in evaluation mode; takes ciphertext normalised by mean = std = 1/2.
        photos: uint8, shape (N, C, H, W).
        patch: P in pixels.
        start: Orthogonal, shape (D, D), float64.
        pull: What else is to be made small, a function of A.
        steps: Of Adam.
        rate: Of the first of them, in radians.
        batch: Photos a step.
        generator: For the order of the photos.
        track: Yields the numbers of the steps, and may show how far they are.
    """
    blocks = split(unit(photos), patch) - 0.5
    now, channels = start, photos.shape[1]
    first, second = torch.zeros_like(now), torch.zeros_like(now)
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in frozen:
        parameter.requires_grad_(False)
    try:
        for step in track(range(steps)):
            matrix = now.float().requires_grad_()
            shown = blocks[torch.randperm(len(blocks), generator=generator)[:batch]]
            with torch.enable_grad():
                loss = _misfit(model, join(2 * (shown @ matrix.T), channels, patch)) + pull(matrix)
                gradient = torch.autograd.grad(loss, matrix)[0].double()
            skew = now.T @ gradient
            skew = (skew - skew.T) / 2
            first = _DECAYS[0] * first + (1 - _DECAYS[0]) * skew
            second = _DECAYS[1] * second + (1 - _DECAYS[1]) * skew.square()
            mean, scale = first / (1 - _DECAYS[0] ** (step + 1)), (second / (1 - _DECAYS[1] ** (step + 1))).sqrt()
            length = rate * (1 + math.cos(math.pi * step / steps)) / 2
            now = now @ torch.matrix_exp(-length * mean / (scale + 1e-10))
    finally:
        for parameter, flag in frozen:
            parameter.requires_grad_(flag)
    return now


def random_orthogonal(size: int, generator: torch.Generator) -> Tensor:
    """Return a random orthogonal matrix, shape (size, size), float64."""
    turned: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return turned


def _misfit(model: nn.Module, inputs: Tensor) -> Tensor:
    with gaps(model) as found:
        answers: Tensor = model(inputs).log_softmax(dim=1)
    shares = answers.exp()
    doubt, mean = -(shares * answers).sum(dim=1).mean(), shares.mean(dim=0)
    variety = -torch.sum(mean * mean.clamp(min=1e-9).log())
    gap = torch.stack(found).mean() if found else torch.zeros(())
    return torch.add(gap, doubt - _VARIETY * variety, alpha=_SURENESS)
