"""Listing, searching and guessing names of models. timm is imported only where it is another one than the table's."""

from __future__ import annotations

import fnmatch
import re
import sys
from typing import Any

from timm_encmixer.errors import SourceError, StemError, did_you_mean
from timm_encmixer.models.support import Support, Table
from timm_encmixer.scheme import facts_of

_OURS, _PLAIN = "encmixer_", "convmixer_"


def find(pattern: str = "*", *, search: str = "") -> list[Support]:
    """Return what is known of the architectures that match; those of another timm than the table's are examined now.

    Args:
        pattern: Shell pattern of timm's names, as for `timm.list_models`.
        search: Text that name, class, constant or reason contain, in small or capital letters.

    Raises:
        SourceError: timm has no name that matches `pattern`.
    """
    table = Table.read()
    known = table.listed()
    found = [known.get(name) or _examined(name) for name in fnmatch.filter(_names(table), pattern)]
    if not found:
        within = fnmatch.filter(_names(table), f"*{pattern}*")
        otherwise = f"'*{pattern}*' finds the names that contain it" if within else "encmixer models lists them all"
        remedy = similar_names(pattern, otherwise=otherwise)
        raise SourceError("models", "a pattern of timm's names, such as 'vit_*'", repr(pattern), remedy)
    return [support for support in found if support.contains(search)]


def plain_name(name: str) -> str:
    """Return the name of the plain architecture: `encmixer_X` means the weights of `convmixer_X`."""
    return _PLAIN + name.removeprefix(_OURS) if name.startswith(_OURS) else name


def is_model(name: str) -> bool:
    """Whether timm, with this package, has an architecture of this name; a tag does not count.

    What the table does not know timm is asked, unless it is the timm that was examined, and nobody has loaded it and may have
    registered architectures of their own.
    """
    table = Table.read()
    if table.is_of_this_timm and (table.knows(name) or "timm" not in sys.modules):
        return table.knows(name)
    import timm

    return bool(timm.is_model(name))


def listed_names(*, supported: bool) -> list[str]:
    """Return the names of the table's architectures: all, or those that can be encrypted."""
    return [name for name, support in Table.read().listed().items() if support.supported or not supported]


def source_names() -> list[str]:
    """Return the names of models that can be encrypted; of what this package encrypts as `encmixer_X` also these names."""
    from timm_encmixer.bundled import BUNDLED_MODEL

    names = [*listed_names(supported=True), BUNDLED_MODEL]
    return names + [_OURS + name.removeprefix(_PLAIN) for name in names if name.startswith(_PLAIN)]


def check_name(name: str, cipher: str) -> None:
    """Refuse an architecture that cannot be encrypted, before its weights are fetched; timm is asked where it is another one.

    Args:
        name: timm's name, with or without a tag, or `encmixer_X`. Names that are not timm's own are left to the encryption.
        cipher: The cipher's name.

    Raises:
        StemError: The architecture cannot be encrypted, or not by this cipher.
    """
    support, facts = _known(plain_name(name).partition(".")[0]), facts_of(cipher)
    if support is None:
        return
    reason = support.refused or (support.unscrambled if facts.scrambles else "")
    if not reason and not facts.fits(support.patch_size):
        expected, got = f"a model whose blocks are multiples of {facts.side_multiple} px", f"blocks of {support.patch_size} px"
        raise StemError(name, expected, got, "encmixer models --etc lists those; or take another cipher")
    if reason:
        expected = "a model that can be encrypted" + ("" if support.refused else " with scrambled blocks")
        remedy = "encmixer models lists those" + ("" if support.refused else ": --scramble; or take a cipher without scramble")
        raise StemError(name, expected, f"one that cannot: {reason}", remedy)


def _known(architecture: str) -> Support | None:
    """Return what is known of one of timm's own architectures, None of any other."""
    table = Table.read()
    if table.is_of_this_timm:
        return table.listed().get(architecture)
    from timm_encmixer.models.families import examine, is_timms_own

    return examine(architecture) if is_timms_own(architecture) else table.own.get(architecture)


def timm_cfg(name: str, *, given: str = "") -> Any:
    """Return timm's PretrainedCfg of an architecture with or without a tag, None where timm has none of it.

    Args:
        name: timm's name.
        given: The name as the user wrote it, for messages, where that is another one.

    Raises:
        SourceError: timm has no weights of this tag.
    """
    import timm

    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
        architecture, _, tag = (given or name).partition(".")
        listed = f"its tags are {', '.join(tags)}" if tags else "it has none: leave the tag out"
        remedy = did_you_mean(f"{architecture}.{tag}", [f"{architecture}.{known}" for known in tags], otherwise=listed)
        raise SourceError(given or name, "a tag of pretrained weights that timm has", repr(tag), remedy) from error


def similar_names(name: str, *, otherwise: str) -> str:
    """Return the remedy for a name that is no model's: the models whose names are most like it; else `otherwise`."""
    return did_you_mean(plain_name(name.partition(".")[0]), Table.read().listed(), otherwise=otherwise, likeness=0.8)


def _names(table: Table) -> list[str]:
    """Return all names in timm's order: numbers by their value."""
    if not table.is_of_this_timm:
        from timm_encmixer.models.families import all_names

        return sorted({*all_names(), *table.own}, key=_in_order)
    return sorted(table.listed(), key=_in_order)


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def _examined(name: str) -> Support:
    from timm_encmixer.models.families import examine

    return examine(name)
