"""Training for minutes on a CPU: what thieves and learned attacks use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def fit(
    model: nn.Module,
    parameters: Sequence[Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    batch_size: int = 50,
    mirror: bool = True,
) -> None:
    """Train some of a model's parameters in place: AdamW, one cycle, cross entropy; leaves it in evaluation mode.

    Args:
        model: Any classifier.
        parameters: Those to train.
        inputs: Shape (N, C, H, W), normalised.
        targets: Labels, shape (N,).
        epochs: Passes over the images.
        learning_rate: At its peak.
        seed: For the order of the images.
        batch_size: Images at a time.
        mirror: Show half of the images mirrored.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in trained)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    steps = epochs * -(-len(inputs) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    model.to(memory_format=torch.channels_last).train()
    torch.set_flush_denormal(True)  # trained weights lead to denormal gradients, which are five times slower
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(inputs), generator=generator), batch_size):
            batch = inputs[chosen]
            if mirror:
                turned = torch.rand(len(batch), generator=generator) < 0.5
                batch = torch.where(turned[:, None, None, None], batch.flip(-1), batch)
            loss = nn.functional.cross_entropy(model(batch.contiguous(memory_format=torch.channels_last)), targets[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    torch.set_flush_denormal(False)
    model.eval()
    for parameter, flag in before:
        parameter.requires_grad_(flag)
