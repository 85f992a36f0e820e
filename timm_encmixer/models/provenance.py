"""Where the plain weights of an encrypted model came from, as a note in its `pretrained_cfg` (docs/format.md).

It decides the warning about public weights and the model card's `base_model`, long after the source is out of sight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm_encmixer.limits import MORE

PROVENANCE_PREFIX = "encmixer-source:"
PUBLIC_WEIGHTS = (
    "the plain weights are public, so anyone who compares the two stems computes the key at once; "
    f"train weights of your own, fine-tuning is not enough, before you rely on a key; {MORE}"
)
PRIVATE_WEIGHTS = f"anyone with them, or with weights that they were fine-tuned from, computes the key at once; {MORE}"


@dataclass(frozen=True)
class Provenance:
    """The source of plain weights.

    Args:
        base_model: Hub id of the repository that they came from; None if they came from elsewhere.
        public: Anybody can download them.
    """

    base_model: str | None = None
    public: bool = False

    @property
    def warning(self) -> str:
        """What to tell the model's owner about its plain weights."""
        return PUBLIC_WEIGHTS if self.public else f"keep the plain weights secret: {PRIVATE_WEIGHTS}"

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Provenance:
        """Read the note in a `pretrained_cfg`; without one, nothing is known."""
        for note in cfg.get("notes") or ():
            if isinstance(note, str) and note.startswith(PROVENANCE_PREFIX):
                try:
                    fields = json.loads(note.removeprefix(PROVENANCE_PREFIX))
                    base = fields.get("base_model")
                    return cls(base if isinstance(base, str) else None, fields.get("public") is True)
                except (ValueError, AttributeError, RecursionError):
                    return cls()  # only a note: not worth refusing a model for
        return cls()

    def noted_in(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `pretrained_cfg` with this note instead of an older one; without a note where nothing is known."""
        notes = tuple(note for note in cfg.get("notes") or () if not str(note).startswith(PROVENANCE_PREFIX))
        if self != Provenance():
            fields = {"base_model": self.base_model, "public": self.public}
            notes += (PROVENANCE_PREFIX + json.dumps({name: value for name, value in fields.items() if value}),)
        return {**cfg, "notes": notes} if notes else {name: value for name, value in cfg.items() if name != "notes"}
