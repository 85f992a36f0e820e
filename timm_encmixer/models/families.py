"""Which of timm's models can be encrypted, and why the others cannot: found by following the image, model by model."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import timm

from timm_encmixer.errors import EncMixerError, SourceError, StemError
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.patch_stem import find_stem, image_size
from timm_encmixer.models.plan import plan_encryption
from timm_encmixer.models.pretrained_cfg import preprocessing_of
from timm_encmixer.scheme import SCRAMBLE, parts_of

TABLE = "families.json"  # beside this file; written by `make models`


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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; empty fields are left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value and value != (0, 0, 0)}


def examine(name: str) -> Support:
    """Build one of timm's architectures without memory for it, and follow the image through it.

    Args:
        name: timm's name, without a tag.

    Raises:
        SourceError: timm has no such architecture.
    """
    model = bare_model(name, None, where=name)
    cfg: Any = model.pretrained_cfg
    family = type(model).__name__
    try:
        stem, conv = find_stem(model, cfg.get("first_conv"))
        plain = preprocessing_of(cfg, conv.in_channels)
        plan = plan_encryption(model, conv, plain, scrambles=False)
    except EncMixerError as error:
        return Support(name=name, family=family, refused=f"expected {error.expected}, got {error.got}")
    constant = plan.record_fields(stem, bias=conv.bias is not None)["constant"]
    return Support(
        name=name,
        family=family,
        patch_size=conv.kernel_size[0],
        input_size=image_size(model, plain.input_size),
        constant="bias" if conv.bias is not None else "none needed" if constant is None else str(constant),
        unscrambled=plan.unscrambled_because,
    )


def all_names() -> list[str]:
    """Return the names of timm's own architectures, without those of this package."""
    return [name for name in timm.list_models() if is_timms_own(name)]


def is_timms_own(name: str) -> bool:
    """Whether stock timm has an architecture of this name, without this package or another plugin."""
    return bool(timm.is_model(name)) and timm.model_entrypoint(name).__module__.startswith("timm.")


def check_name(timm_name: str, cipher: str) -> None:
    """Refuse one of timm's architectures that cannot be encrypted; for use before its weights are fetched.

    Args:
        timm_name: With or without a tag; names that are not timm's own are left to the encryption.
        cipher: The cipher's name.

    Raises:
        StemError: timm's architecture cannot be encrypted, or not by this cipher.
    """
    name = timm_name.partition(".")[0]
    if not is_timms_own(name):
        return
    support = examine(name)
    reason = support.refused or (support.unscrambled if SCRAMBLE in parts_of(cipher) else "")
    if reason:
        expected = "a model that can be encrypted" + ("" if support.refused else " with scrambled blocks")
        remedy = "encmixer models lists those" + ("" if support.refused else ": --scramble; or take a cipher without scramble")
        raise StemError(timm_name, expected, f"one that cannot: {reason}", remedy)


def known_support() -> dict[str, Support]:
    """Return what `make models` found for every architecture of timm, by name."""
    rows = json.loads((files("timm_encmixer.models") / TABLE).read_text(encoding="utf-8"))
    found = [Support(**{**row, "input_size": tuple(row.get("input_size", (0, 0, 0)))}) for row in rows]
    return {support.name: support for support in found}


def find(pattern: str = "*", *, search: str = "") -> list[Support]:
    """Return what is known of the architectures that match; those of a newer timm than the table's are examined now.

    Args:
        pattern: Shell pattern of timm's names, as for `timm.list_models`.
        search: Text that name, class, constant or reason contain, in small or capital letters.

    Raises:
        SourceError: timm has no name that matches `pattern`.
    """
    known = known_support()
    names = fnmatch.filter(all_names(), pattern)
    if not names:
        raise SourceError("models", "a pattern of timm's names, such as 'vit_*'", repr(pattern), "see timm.list_models()")
    found = (known.get(name) or examine(name) for name in names)
    return [support for support in found if search.lower() in _text(support).lower()]


def _text(support: Support) -> str:
    """Return what a search looks in."""
    values = {**support.to_dict(), "patch_size": f"{support.patch_size} px"}
    return " ".join(map(str, values.values()))


def to_json(supports: Iterable[Support]) -> str:
    """Return the table's text, one row a line."""
    rows = (json.dumps(support.to_dict()) for support in sorted(supports, key=lambda support: support.name))
    return "[\n" + ",\n".join(rows) + "\n]\n"
