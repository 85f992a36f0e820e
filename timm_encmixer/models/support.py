"""What is known of timm's models without importing timm: the table that `make models` wrote, beside this file."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from timm_encmixer.scheme import JPEG_CIPHERS, facts_of

TABLE = "families.json"


@dataclass(frozen=True, kw_only=True)
class Support:
    """What becomes of one of timm's models.

    Args:
        name: timm's name of the architecture.
        family: The model's class.
        refused: Why it cannot be encrypted; empty where it can, and then the fields below are filled.
        patch_size: Side of a block in pixels.
        input_size: Channels, height and width of the images that it takes.
        constant: Where the constant of the normalisation goes: "bias", a tensor's name, or "none needed".
        unscrambled: Why its blocks cannot be scrambled; empty where they can.
    """

    name: str
    family: str
    refused: str = ""
    patch_size: int = 0
    input_size: tuple[int, int, int] = (0, 0, 0)
    constant: str = ""
    unscrambled: str = ""

    @property
    def supported(self) -> bool:
        """Whether it can be encrypted."""
        return not self.refused

    @property
    def takes_jpeg(self) -> bool:
        """Whether its blocks fit the ciphers whose ciphertext may travel as JPEG."""
        return self.supported and any(facts_of(cipher).fits(self.patch_size) for cipher in JPEG_CIPHERS)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; empty fields are left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value and value != (0, 0, 0)}

    def contains(self, text: str) -> bool:
        """Whether name, class, patch side, constant or reason contain a text, in small or capital letters."""
        values = {**self.to_dict(), "patch_size": f"{self.patch_size} px"}
        return text.lower() in " ".join(map(str, values.values())).lower()


@dataclass(frozen=True)
class Table:
    """What `make models` found.

    Args:
        timm: The version of timm that it examined.
        models: timm's own architectures, by name.
        own: The plain architectures that this package adds to them, by name.
        aliases: Names that timm takes and does not list.
    """

    timm: str
    models: Mapping[str, Support]
    own: Mapping[str, Support]
    aliases: frozenset[str]

    @classmethod
    @functools.cache
    def read(cls) -> Table:
        """Return the table that comes with the package."""
        fields = json.loads((files("timm_encmixer.models") / TABLE).read_text(encoding="utf-8"))
        return cls(fields["timm"], _by_name(fields["models"]), _by_name(fields["own"]), frozenset(fields["aliases"]))

    def to_json(self) -> str:
        """Return the table's text, one row a line."""
        parts = {"timm": json.dumps(self.timm), "models": _rows(self.models.values()), "own": _rows(self.own.values())}
        parts["aliases"] = json.dumps(sorted(self.aliases))
        return "{\n" + ",\n".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}\n"

    @property
    def is_of_this_timm(self) -> bool:
        """Whether the timm that is installed, if any is, is the one that was examined. Nothing is imported."""
        try:
            return importlib.metadata.version("timm") == self.timm
        except importlib.metadata.PackageNotFoundError:  # a client's installation: the table is all that is known
            return True

    def listed(self) -> dict[str, Support]:
        """Return everything that can be listed, by name, in timm's order."""
        return {**self.models, **self.own}

    def knows(self, name: str) -> bool:
        """Whether a name, with or without a tag, is one of an architecture here."""
        plain = name.partition(".")[0]
        return plain in self.models or plain in self.own or plain in self.aliases


def _by_name(rows: Iterable[Mapping[str, Any]]) -> dict[str, Support]:
    found = [Support(**{**row, "input_size": tuple(row.get("input_size", (0, 0, 0)))}) for row in rows]
    return {support.name: support for support in found}


def _rows(supports: Iterable[Support]) -> str:
    rows = (json.dumps(support.to_dict()) for support in sorted(supports, key=lambda support: support.name))
    return "[\n" + ",\n".join(rows) + "\n]"
