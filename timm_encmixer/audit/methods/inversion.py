"""Inverse transformation networks: from ciphertext to plain images, block by block, trained on pairs.

Source: networks of the kind that Sirichotedumrong and Kiya (arXiv 2010.06198) evaluate; for scrambled blocks Madono et al.
(arXiv 2001.07761).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

_BATCH = 50
_ALIKE = 0.8  # mean correlation from which on variances are taken to be of the same blocks
Reconstruct = Callable[[Tensor], Tensor]


def train_inverse(
    pairs: Callable[[int], tuple[Tensor, Tensor]],
    patch: int,
    *,
    steps: int,
    local: bool = False,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Reconstruct:
    """Train a network, and return what it makes of ciphertexts (n, c, h, w): images (n, C, H, W).

    Args:
        pairs: Takes the number of a step; returns plain and encrypted images of it, floats about 0, shapes (n, C, H, W) and
            (n, c, h, w).
        patch: Side of a block of the plain image in px.
        steps: Of training.
        local: Give each position of the image weights of its own beside the common ones.
        track: Yields the numbers of the steps, and may show how far they are.
    """
    plain, encrypted = pairs(0)
    network = _network(plain, encrypted, patch, local=local)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for step in track(range(steps)):
        plain, encrypted = pairs(step)
        loss = nn.functional.mse_loss(network(encrypted), plain)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()

    @torch.inference_mode()
    def reconstruct(seen: Tensor) -> Tensor:
        return torch.cat([network(batch) for batch in torch.split(seen, _BATCH)])

    return reconstruct


def block_order(plain: Tensor, encrypted: Tensor, patch: int) -> Tensor | None:
    """Return for each block of the plain image the block of the ciphertext whose variance goes with its own; int64, (N,).

    The variance of a block is the same under every permutation of its numbers, and under its negative. None says that the
    variances do not go together, or that they do where the blocks are.

    Args:
        plain: Shape (n, C, H, W).
        encrypted: Shape (n, c, h, w), of as many blocks.
        patch: Side of a block of the plain image in px.
    """
    one, other = (
        _variances(images, side) for images, side in ((plain, patch), (encrypted, side_of_block(plain, encrypted, patch)))
    )
    likeness = one.T @ other
    order = torch.from_numpy(linear_sum_assignment(likeness.numpy(), maximize=True)[1])
    moved = not torch.equal(order, torch.arange(len(order)))
    return order if moved and float(likeness.gather(1, order[:, None]).mean()) > _ALIKE else None


def reordered(images: Tensor, order: Tensor, side: int) -> Tensor:
    """Return images (n, c, h, w) whose blocks, of a side in px, are in an order (N,)."""
    n, channels, height, width = images.shape
    cells = nn.functional.unfold(images, side, stride=side)[:, :, order]
    return nn.functional.fold(cells, (height, width), side, stride=side).reshape(n, channels, height, width)


def _variances(images: Tensor, side: int) -> Tensor:
    """Return the standard deviation of each block, standardised over the images; shape (n, N)."""
    spread = nn.functional.unfold(images.double(), side, stride=side).std(dim=1)
    centred = spread - spread.mean(dim=0)
    standard: Tensor = centred / centred.norm(dim=0).clamp(min=1e-12)
    return standard


def side_of_block(plain: Tensor, encrypted: Tensor, patch: int) -> int:
    """Return the side of a ciphertext block in px, at least 1; arguments are those of `block_order`."""
    return max(1, patch * encrypted.shape[-1] // plain.shape[-1])


def _network(plain: Tensor, encrypted: Tensor, patch: int, *, local: bool) -> nn.Sequential:
    side, channels, size = side_of_block(plain, encrypted, patch), encrypted.shape[1], plain.shape[1] * patch**2
    ways: list[nn.Module] = [nn.Conv2d(channels, size, side, stride=side), _Blocks(channels, size, side)]
    if local:
        ways.append(_Local(channels, size, side, encrypted.shape[-2] // side, encrypted.shape[-1] // side))
    return nn.Sequential(_Sum(ways), nn.PixelShuffle(patch))


class _Sum(nn.Module):
    """The sum of several ways from ciphertext to blocks."""

    def __init__(self, ways: Iterable[nn.Module]) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([way(images) for way in self.ways]).sum(dim=0)


class _Blocks(nn.Sequential):
    """A non-linear way, common to all positions; it begins with nothing."""

    def __init__(self, channels: int, size: int, side: int) -> None:
        last = nn.Conv2d(2 * size, size, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        super().__init__(nn.Conv2d(channels, 2 * size, side, stride=side), nn.GELU(), last)


class _Local(nn.Module):
    """A linear way with weights of its own at each position; it begins with nothing."""

    def __init__(self, channels: int, size: int, side: int, rows: int, columns: int) -> None:
        super().__init__()
        self.side, self.grid = side, (rows, columns)
        self.weight = nn.Parameter(torch.zeros(rows * columns, channels * side**2, size))
        self.bias = nn.Parameter(torch.zeros(rows * columns, size))

    def forward(self, images: Tensor) -> Tensor:
        cells = nn.functional.unfold(images, self.side, stride=self.side)
        made = torch.einsum("ndp,pde->nep", cells, self.weight) + self.bias.T
        return made.unflatten(2, self.grid)  # type: ignore[no-any-return, no-untyped-call]
