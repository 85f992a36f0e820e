"""Bringing a model from the Hugging Face Hub, verified; docs/hub.md."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from timm_encmixer.checkpoints.checkpoint import OWNED_NAMES, Checkpoint, check_weights
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, WEIGHTS_NAME
from timm_encmixer.checkpoints.sources import fetch_files
from timm_encmixer.errors import IntegrityError
from timm_encmixer.files import as_path, refuse_existing, replacing_folder
from timm_encmixer.hub.client import split_revision
from timm_encmixer.hub.snapshot import Snapshot, Token


def pull_from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: Token = None,
) -> Path:
    """Fetch a model's config.json and model.safetensors from one commit, verified, into the Hub's cache.

    Args:
        repo_id: "owner/name" or "owner/name@revision".
        revision: Branch, tag, pull request (refs/pr/N) or commit.
        cache_dir: Cache folder; None takes huggingface_hub's own.
        token: As huggingface_hub's.

    Returns:
        The folder; read it, do not write into it. `timm.create_model(f"local-dir:{folder}", pretrained=True)` loads it.

    Raises:
        SourceError: No such repository, or none with safetensors weights.
        HubError: The Hub refused or could not be reached; offline, there is no complete verified copy.
        IntegrityError: What arrived is not what the Hub lists.
        CheckpointError, SchemeError: The files are malformed or do not belong together.

    Examples:
        >>> commit = te.push_to_hub("encrypted", "me/model", key="owner.key")
        >>> folder = te.pull_from_hub("me/model")
        >>> te.find_scheme(folder) == te.find_scheme("encrypted")
        True
    """
    repo_id, named = split_revision(repo_id)
    return _pulled(Snapshot.open(repo_id, revision=revision or named, cache_dir=cache_dir, token=token))


def _pulled(snapshot: Snapshot) -> Path:
    checkpoint = Checkpoint.open(fetch_files(snapshot, CONFIG_NAME, WEIGHTS_NAME))
    assert checkpoint.config is not None  # it is a folder
    check_weights(checkpoint.weights, checkpoint.config, where=snapshot.where)
    return checkpoint.path


def pull_to_folder(snapshot: Snapshot, dst: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Fetch a model as `pull_from_hub` does and copy it to a folder of one's own, at every moment absent, old or whole.

    Raises:
        TargetExistsError, FileAccessError: The target.
        IntegrityError: The copy is not what was fetched. And as `pull_from_hub`.
    """
    dst = as_path(dst, where="dst")
    refuse_existing(dst, overwrite=force)
    source = _pulled(snapshot)
    with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
        for name in sorted(OWNED_NAMES):
            shutil.copyfile(source / name, folder / name)
            if not filecmp.cmp(source / name, folder / name, shallow=False):
                raise IntegrityError(str(dst / name), "the bytes that were fetched", "others", "check the disk and try again")
    return dst
