"""Somebody who has images both plain and encrypted, and knows only that each number of a block depends on one of ciphertext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack, Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import RecoveredImages
from timm_encmixer.ciphers.blocks import join, split

_LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class KnownTables(Attack):
    """For each number of a block the number of ciphertext that tells most about it, and a table of what it stood for.

    That undoes every order of the numbers of a block together with every substitution of their values, also by a real cipher.
    """

    name = "known_tables"
    attacker = "somebody who has images both plain and encrypted, whatever was done to the values of pixels"
    material = ("known_blocks",)
    source = "our own; a code book per position"
    curve = Curve("known_blocks", "known blocks", (64, 1024, 16000), (64, 256, 1024, 4096, 16000, 64000))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image with a code book per position of a block.",
        PARTLY: "Sees what images show with a code book per position of a block.",
        HOLDS: "Does not get a code book from this many blocks.",
    }
    advice = "Never let an image be seen both plain and encrypted; where it has been, rotate the key."
    work = 0.5

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Choose the positions, and fill the tables in."""
        plain, encrypted = held.known_blocks
        low, high = float(encrypted.min()), float(encrypted.max())
        codes = _codes(encrypted, low, high)
        source, table = _tables(plain, codes)
        patch, channels = held.scheme.patch_size, held.scheme.in_chans

        def reconstruct(seen: Tensor) -> Tensor:
            blocks = split(seen.double(), patch) - 0.5
            met = _codes(blocks, low, high)[..., source]
            return join(table[torch.arange(len(source)), met] + 0.5, channels, patch)

        return RecoveredImages(reconstruct)


def _codes(numbers: Tensor, low: float, high: float) -> Tensor:
    return ((numbers - low) * ((_LEVELS - 1) / max(high - low, 1e-9))).round().clamp(0, _LEVELS - 1).long()


def _tables(plain: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each plain number the position of ciphertext that explains it best, and its table.

    Args:
        plain: Numbers, shape (n, D).
        codes: Of ciphertext, 0 to 255, int64, shape (n, D).

    Returns:
        Positions, shape (D,), and mean plain numbers by code, shape (D, 256).
    """
    count, size = plain.shape
    mean = plain.mean(dim=0)
    centred = plain - mean
    best = torch.full((size,), -torch.inf, dtype=plain.dtype)
    source, table = torch.arange(size), torch.zeros(size, _LEVELS, dtype=plain.dtype)
    for position in range(codes.shape[1]):
        code = codes[:, position]
        sums = torch.zeros(_LEVELS, size, dtype=plain.dtype).index_add_(0, code, centred)
        counts = torch.bincount(code, minlength=_LEVELS).to(plain)[:, None]
        # What a table of so many entries explains by chance is taken off.
        chance = float((counts > 0).sum()) / count * centred.square().sum(dim=0)
        explained = (sums.square() / counts.clamp(min=1)).sum(dim=0) - chance
        better = explained > best
        best[better], source[better] = explained[better], position
        table[better] = _filled(sums, counts)[:, better].T
    return source, table + mean[:, None]


def _filled(sums: Tensor, counts: Tensor) -> Tensor:
    """Return means by code; codes that were not met take the nearest one that was, by value."""
    met = torch.nonzero(counts[:, 0]).flatten()
    nearest = met[(torch.arange(_LEVELS)[:, None] - met).abs().argmin(dim=1)]
    return (sums / counts.clamp(min=1))[nearest]
