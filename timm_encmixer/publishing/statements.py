"""What a model card states beside measurements, and who said so: the base model, the licence, the card that is there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from timm_encmixer.errors import SourceError, warn_caller
from timm_encmixer.hub.card_section import CARD_NAME, read_card
from timm_encmixer.hub.snapshot import Snapshot, Token, is_public, repo_info
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.publishing.options import Ask, PushOptions

NO_BASE = "none"


def state_provenance(cfg: Mapping[str, Any], repo_id: str, options: PushOptions) -> Provenance:
    """Return where the plain weights come from: what the options say, else what was noted, else what the user answers.

    Args:
        cfg: The model's `pretrained_cfg`, with its notes.
        repo_id: Where the model is pushed to.
        options: Of the push.
    """
    noted = Provenance.of(cfg)
    stated = options.base_model
    base = stated or noted.base_model
    if base is None and not noted.public and options.ask is not None:
        stated = base = options.ask(f"Hub id of the plain base model of {repo_id} ({NO_BASE} if there is none)")
    if base in (None, NO_BASE, repo_id):
        return Provenance(None, noted.public)
    return Provenance(base, noted.public or (stated is not None and is_public(str(base))))


def state_license(
    config: Mapping[str, Any], provenance: Provenance, existing: str | None, token: Token, ask: Ask | None
) -> str | None:
    """Return the licence that the card, the source repository or the config states; never one that none of them states.

    Args:
        config: The model's config.json.
        provenance: Where the plain weights come from.
        existing: The card that is there.
        token: Of the Hub.
        ask: Asks the user where nothing states one.
    """
    stated = getattr(read_card(ModelCard, existing, where=CARD_NAME).data, "license", None) if existing is not None else None
    if stated is None and provenance.base_model is not None:
        with contextlib.suppress(SourceError):  # the source may have gone, or may not be ours to see
            stated = getattr(repo_info(provenance.base_model, None, token).card_data, "license", None)
    stated = stated or config["pretrained_cfg"].get("license")
    if stated is None and ask is not None:
        stated = ask("Licence, as the Hub writes it (mit, apache-2.0, other, ...)")
    if stated is None:
        warn_caller("the licence is not known, so the card states none: pass license= (--license)")
    return str(stated) if stated is not None else None


def existing_card(target: Snapshot, folder: Path) -> str | None:
    """Return the card in the repository, else the one in the folder."""
    (path,) = target.fetch(CARD_NAME)
    path = path or (folder / CARD_NAME if (folder / CARD_NAME).is_file() else None)
    try:
        return path.read_text(encoding="utf-8") if path is not None else None
    except UnicodeDecodeError as error:
        raise SourceError(f"{target.where}: {CARD_NAME}", "UTF-8 text", "something else", "correct it by hand") from error
