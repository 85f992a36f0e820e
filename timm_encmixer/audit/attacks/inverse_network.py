"""Somebody who trains a network to undo the encryption, from a few images both plain and encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack, Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import RecoveredImages


@dataclass(frozen=True, kw_only=True)
class InverseNetwork(Attack):
    """An inverse transformation network that knows of the cipher only that it works on blocks.

    Args:
        points: As for every attack.
        steps: Steps of training; None takes 600 or 3,000.
    """

    steps: int | None = None

    name = "inverse_network"
    attacker = "somebody who has images both plain and encrypted and trains a network on them"
    material = ("image_pairs",)
    source = (
        "inverse transformation network attacks as evaluated by Sirichotedumrong and Kiya (arXiv 2010.06198), on networks for "
        "scrambled blocks as in Madono et al. (arXiv 2001.07761)"
    )
    curve = Curve("image_pairs", "images both plain and encrypted", (1, 10, 100), (1, 10, 100, 1000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image, without knowing the method.",
        PARTLY: "Sees what images show, without knowing the method.",
        HOLDS: "Does not learn to read images from this many pairs.",
    }
    advice = "Never let an image be seen both plain and encrypted; where it has been, rotate the key."
    work = 2.0

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Train on random blocks of the pairs."""
        plain, encrypted = held.image_pairs
        patch, channels = held.scheme.patch_size, held.scheme.in_chans
        size = held.scheme.block_size
        network = nn.Sequential(
            _Split(nn.Conv2d(channels, size, patch, stride=patch), _Blocks(channels, size, patch)),
            nn.PixelShuffle(patch),
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
        steps = self.steps or effort.pick(600, 3000)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        generator = effort.generator
        for _ in effort.track(range(steps)):
            chosen = torch.randint(len(plain), (16,), generator=generator)
            loss = nn.functional.mse_loss(network(encrypted[chosen].float() - 0.5), plain[chosen] - 0.5)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()

        @torch.inference_mode()
        def reconstruct(seen: Tensor) -> Tensor:
            return torch.cat([network(batch.float() - 0.5) + 0.5 for batch in torch.split(seen, 50)])

        return RecoveredImages(reconstruct)


class _Split(nn.Module):
    """The sum of a linear and a non-linear way from ciphertext to blocks."""

    def __init__(self, linear: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.linear, self.other = linear, other

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images) + self.other(images)  # type: ignore[no-any-return]


class _Blocks(nn.Sequential):
    def __init__(self, channels: int, size: int, patch: int) -> None:
        last = nn.Conv2d(2 * size, size, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        super().__init__(nn.Conv2d(channels, 2 * size, patch, stride=patch), nn.GELU(), last)
