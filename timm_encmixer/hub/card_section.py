"""Our part of a Hub card: the text between two marks. Whatever people wrote around it is kept."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from timm_encmixer.errors import SourceError

CARD_NAME = "README.md"
_BEGIN = "<!-- timm-encmixer: begin. This part is rewritten by every push; text outside of the two marks is kept. -->"
_END = "<!-- timm-encmixer: end -->"
_SECTION = re.compile(r"<!-- timm-encmixer: begin\b.*?<!-- timm-encmixer: end -->", re.DOTALL)
CardT = TypeVar("CardT")


def read_card(kind: type[CardT], text: str, *, where: str) -> CardT:
    """Parse a card, huggingface_hub's ModelCard or DatasetCard.

    Raises:
        SourceError: Its metadata cannot be read.
    """
    try:
        return kind(text)  # type: ignore[call-arg]
    except Exception as error:  # YAML and card errors of several libraries
        got = " ".join(str(error).split())[:200]
        raise SourceError(where, "a card with readable metadata", got, "correct it by hand, then try again") from error


def place_section(card: Any, section: str) -> None:
    """Put our part into a card: it replaces the one that is there, or is added at the end."""
    marked = f"{_BEGIN}\n{section}\n{_END}"
    if _SECTION.search(card.text):
        card.text = _SECTION.sub(lambda match: marked, card.text, count=1)
    else:
        card.text = f"{card.text.rstrip()}\n\n{marked}\n" if card.text.strip() else f"\n{marked}\n"
