"""Blocks of code in documents: a fence runs unless the line above it is a comment `<!-- no-run: why -->`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^(?:<!-- no-run: (?P<reason>[^>\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
_RUNS = ("bash", "python")


@dataclass(frozen=True)
class Block:
    """A fence: its language, its code, and why it is not run, if it is not."""

    language: str
    code: str
    reason: str | None


def blocks(document: Path) -> list[Block]:
    """Every fence of a document."""
    text = document.read_text()
    found = [Block(m["language"], m["code"], m["reason"]) for m in _BLOCK.finditer(text)]
    assert 2 * len(found) == len(re.findall(r"^ *```", text, re.M)), f"{document}: a fence that cannot be read"
    languages = {block.language for block in found if block.reason is None}
    assert languages <= set(_RUNS), f"{document}: a fence of another language than {_RUNS}, and no reason"
    return found


def prose(document: Path) -> str:
    """A document without its fences and without code in its lines."""
    return re.sub(r"`[^`]*`", "", _BLOCK.sub("", document.read_text()))


def runnable(document: Path) -> list[Block]:
    """The fences that run."""
    return [block for block in blocks(document) if block.reason is None]


def program(found: Iterable[Block]) -> str:
    """A Python program that runs blocks one after the other, bash included."""
    return "\n".join(
        block.code
        if block.language == "python"
        else f"import subprocess\nsubprocess.run(['bash', '-ec', {block.code!r}], check=True)\n"
        for block in found
    )
