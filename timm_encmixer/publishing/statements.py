"""What a model card states beside measurements, and who said so: the base model, the licence, the card that is there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from timm_encmixer.checkpoints.config_file import CONFIG_NAME, read_config
from timm_encmixer.checkpoints.sources import Source
from timm_encmixer.errors import SourceError, warn_caller
from timm_encmixer.hub.card_section import CARD_NAME, read_card
from timm_encmixer.hub.snapshot import Snapshot, Token, is_public, repo_info
from timm_encmixer.models.provenance import Provenance
from timm_encmixer.publishing.options import Ask, PushOptions

NO_BASE = "none"
_BASE_QUESTION = "Hub id of the plain model that {} was made from, for its card (Enter: there is none)"
_LICENSE_QUESTION = "Licence for the card, as the Hub writes it: mit, apache-2.0, other, ... (Enter: it states none)"


def ask_first(source: Source, repo_id: str, options: PushOptions) -> PushOptions:
    """Ask what the card would not know, before anything that takes long; return the options with the answers.

    Of a repository of the Hub nothing is asked here: what it states is known when it has been fetched.

    Args:
        source: The model.
        repo_id: Where it is pushed to.
        options: Of the push.

    Raises:
        HubError: The Hub refused or could not be reached.
    """
    ask, path = options.ask, source.path
    if ask is None or path is None:
        return options
    noted = source.provenance
    base = options.base_model or noted.base_model
    if base is None and not noted.public:
        base = ask(_BASE_QUESTION.format(repo_id)) or NO_BASE
        options = replace(options, base_model=base)
    if options.license is None:
        config = read_config(path) if (path / CONFIG_NAME).is_file() else {"pretrained_cfg": {}}
        existing = None
        with contextlib.suppress(SourceError):  # a repository, or a branch, that is yet to be made
            existing = existing_card(Snapshot.open(repo_id, revision=options.revision, token=options.token), path)
        provenance = Provenance(None if base in (NO_BASE, repo_id) else base)
        if _known_license(config, provenance, existing, options.token) is None:
            options = replace(options, license=ask(_LICENSE_QUESTION), ask=None)
    return options


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
        stated = base = options.ask(_BASE_QUESTION.format(repo_id))
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
    stated = _known_license(config, provenance, existing, token)
    if stated is None and ask is not None:
        stated = ask(_LICENSE_QUESTION)
    if stated is None:
        warn_caller("the licence is not known, so the card states none: pass license= (--license)")
    return stated


def _known_license(config: Mapping[str, Any], provenance: Provenance, existing: str | None, token: Token) -> str | None:
    stated = getattr(read_card(ModelCard, existing, where=CARD_NAME).data, "license", None) if existing is not None else None
    if stated is None and provenance.base_model is not None:
        with contextlib.suppress(SourceError):  # the source may have gone, or may not be ours to see
            stated = getattr(repo_info(provenance.base_model, None, token).card_data, "license", None)
    stated = stated or config["pretrained_cfg"].get("license")
    return str(stated) if stated is not None else None


def existing_card(target: Snapshot, folder: Path) -> str | None:
    """Return the card in the repository, else the one in the folder."""
    (path,) = target.fetch(CARD_NAME)
    path = path or (folder / CARD_NAME if (folder / CARD_NAME).is_file() else None)
    try:
        return path.read_text(encoding="utf-8") if path is not None else None
    except UnicodeDecodeError as error:
        raise SourceError(f"{target.where}: {CARD_NAME}", "UTF-8 text", "something else", "correct it by hand") from error
