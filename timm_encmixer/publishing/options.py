"""How an encrypted model is to be pushed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm_encmixer.hub.snapshot import Token

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

Ask = Callable[[str], str | None]  # a question for the user; returns the answer, or None


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """The options of a push. `push_to_hub` describes each of them; the names and defaults are the same."""

    private: bool | None = True
    revision: str | None = None
    create_pr: bool = False
    commit_message: str | None = None
    license: str | None = None
    base_model: str | None = None
    eval_results: str | Path | Mapping[str, Any] | Sequence[EvalResult] | None = None
    token: Token = None
    seal_to: Sequence[str] = ()
    parent_commit: str | None = None
    force: bool = False
    ask: Ask | None = None
