"""Training for minutes on a CPU: what thieves and learned attacks use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

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
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
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
        track: Yields the numbers of the steps, and may show how far they are; in another thread.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    trained = {id(parameter) for parameter in parameters}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in trained)
    model.to(memory_format=torch.channels_last).train()
    batches = _batches(inputs, targets, epochs, batch_size, torch.Generator().manual_seed(seed), mirror=mirror)
    count = epochs * -(-len(inputs) // batch_size)
    steps = _steps(model, parameters, batches, count, learning_rate)
    _without_denormals(step for _, step in zip(track(range(count)), steps, strict=False))
    model.eval()
    for parameter, flag in before:
        parameter.requires_grad_(flag)


def _batches(
    inputs: Tensor, targets: Tensor, epochs: int, batch_size: int, generator: torch.Generator, *, mirror: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(inputs), generator=generator), batch_size):
            batch = inputs[chosen]
            if mirror:
                turned = torch.rand(len(batch), generator=generator) < 0.5
                batch = torch.where(turned[:, None, None, None], batch.flip(-1), batch)
            yield batch.contiguous(memory_format=torch.channels_last), targets[chosen]


def _steps(
    model: nn.Module, parameters: Sequence[Tensor], batches: Iterable[tuple[Tensor, Tensor]], count: int, learning_rate: float
) -> Iterator[None]:
    """Update the parameters, one batch a step."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=count)
    for batch, targets in batches:
        loss = nn.functional.cross_entropy(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        yield


def _without_denormals(steps: Iterable[None]) -> None:
    """Run training steps with denormal numbers taken for zero.

    Denormal numbers are those near the smallest that a float can hold. Trained weights lead to denormal gradients, on which
    CPUs are many times slower. `torch.set_flush_denormal` sets a flag of the thread that calls it, and of the threads that this
    thread starts later. torch's worker threads may run already, and they belong to the caller, whose results must not change.
    So the steps run in a new thread, which sets the flag first and then gets worker threads of its own.

    Args:
        steps: Takes one training step each time it is asked for the next element.
    """
    interrupted = threading.Event()

    def work() -> None:
        for _ in steps:
            if interrupted.is_set():
                return

    with ThreadPoolExecutor(max_workers=1) as executor:
        # This starts the thread: were `work` to start it, an interruption of the start could leave a thread that nobody joins.
        executor.submit(torch.set_flush_denormal, True).result()
        try:
            training = executor.submit(work)
            while not training.done():  # a signal from just before a wait is seen only after it, so no wait lasts for ever
                wait([training], timeout=1)
            training.result()
        except BaseException:  # also KeyboardInterrupt, which is the caller's
            interrupted.set()
            raise
