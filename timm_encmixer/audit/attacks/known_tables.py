"""Somebody who has images both plain and encrypted, and knows only that each number of a block depends on one of ciphertext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.recovery import RecoveredImages
from timm_encmixer.ciphers.blocks import join, split

_LEVELS, _HALF = 256, 16


@dataclass(frozen=True, kw_only=True)
class KnownTables(Attack):
    """For each number of a block the number of ciphertext that tells most about it, and a table of what it stood for.

    That undoes every order of the numbers of a block together with every substitution of their values, also by a real cipher.

    Args:
        points: As for every attack.
        halves: Take the half bytes of ciphertext for its numbers. Tables of 16 entries need fewer blocks than those of 256, and
            ciphers of half bytes fall apart into them.
    """

    halves: bool = False

    name = "known_tables"
    place = 80
    attacker = "somebody who has images both plain and encrypted, whatever was done to the values of pixels"
    material = ("known_blocks",)
    citation = "our own; a code book per position"
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
        source, table = _tables(plain, _codes(encrypted, low, high, halves=self.halves))
        patch, channels = held.scheme.patch_size, held.scheme.in_chans

        def reconstruct(seen: Tensor) -> Tensor:
            blocks = split(seen.double(), patch) - 0.5
            met = _codes(blocks, low, high, halves=self.halves)[..., source]
            return join(table[torch.arange(len(source)), met.clamp(max=table.shape[1] - 1)] + 0.5, channels, patch)

        return RecoveredImages(reconstruct)


def _codes(numbers: Tensor, low: float, high: float, *, halves: bool) -> Tensor:
    """Return numbers (..., D) as bytes, or as their upper and lower half bytes (..., 2 D); int64."""
    codes = ((numbers - low) * ((_LEVELS - 1) / max(high - low, 1e-9))).round().clamp(0, _LEVELS - 1).long()
    return torch.cat([codes // _HALF, codes % _HALF], dim=-1) if halves else codes


def _tables(plain: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each plain number the position of ciphertext that explains it best, and its table.

    Args:
        plain: Numbers, shape (n, D).
        codes: Of ciphertext, 0 to L - 1, int64, shape (n, E).

    Returns:
        Positions, shape (D,), and mean plain numbers by code, shape (D, L).
    """
    count, size = plain.shape
    levels = int(codes.max()) + 1
    mean = plain.mean(dim=0)
    centred = plain - mean
    best = torch.full((size,), -torch.inf, dtype=plain.dtype)
    source, table = torch.zeros(size, dtype=torch.long), torch.zeros(size, levels, dtype=plain.dtype)
    for position in range(codes.shape[1]):
        code = codes[:, position]
        sums = torch.zeros(levels, size, dtype=plain.dtype).index_add_(0, code, centred)
        counts = torch.bincount(code, minlength=levels).to(plain)[:, None]
        # A table of so many entries explains something by chance: that is subtracted.
        chance = float((counts > 0).sum()) / count * centred.square().sum(dim=0)
        explained = (sums.square() / counts.clamp(min=1)).sum(dim=0) - chance
        better = explained > best
        best[better], source[better] = explained[better], position
        table[better] = _filled(sums, counts)[:, better].T
    return source, table + mean[:, None]


def _filled(sums: Tensor, counts: Tensor) -> Tensor:
    """Return means by code; codes that were not met take the nearest one that was, by value."""
    met = torch.nonzero(counts[:, 0]).flatten()
    nearest = met[(torch.arange(len(counts))[:, None] - met).abs().argmin(dim=1)]
    return (sums / counts.clamp(min=1))[nearest]
