"""Somebody who has a few images both plain and encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Curve, Effort
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.stem_matching import match_rows
from timm_encmixer.audit.recovery import RecoveredKey


@dataclass(frozen=True, kw_only=True)
class KnownPlaintext(Attack):
    """Blocks before and after, matched as stems are."""

    name = "known_plaintext"
    place = 70
    attacker = "somebody who has images both plain and encrypted"
    material = ("known_blocks",)
    citation = "our own"
    curve = Curve("known_blocks", "known blocks", (4, 8, 16, 32, 64, 128, 256), (4, 8, 16, 32, 64, 128, 256, 1024, 4096))
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Has the key, or a map that decrypts like it, from a few blocks: a small piece of one image.",
        PARTLY: "Gets part of the key.",
        HOLDS: "Does not get the key from this many blocks.",
    }
    advice = "Never let an image be seen both plain and encrypted; where it has been, rotate the key."

    def attack(self, held: Held, effort: Effort) -> RecoveredKey:
        """Match positions by what they held in each block."""
        plain, encrypted = held.known_blocks
        return RecoveredKey(match_rows(plain, encrypted, held.scheme))
