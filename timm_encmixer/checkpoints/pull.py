"""Bringing a model from the Hugging Face Hub, verified; docs/hub.md."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from timm_encmixer.checkpoints.checkpoint import OWNED_NAMES, Checkpoint
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, WEIGHTS_NAME, check_weights
from timm_encmixer.errors import IntegrityError
from timm_encmixer.files import refuse_existing, replacing_folder
from timm_encmixer.hub.client import HUB_PREFIX
from timm_encmixer.hub.snapshot import SEALED_NAME, Token, fetch_checkpoint


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
    """
    model_id = f"{repo_id.partition('@')[0]}@{revision}" if revision is not None else repo_id
    folder = fetch_checkpoint(model_id, CONFIG_NAME, WEIGHTS_NAME, cache_dir=cache_dir, token=token)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.config is not None  # it is a folder
    check_weights(checkpoint.weights, checkpoint.config, where=HUB_PREFIX + model_id)
    return folder


def pull_to_folder(
    repo_id: str, dst: str | os.PathLike[str], *, revision: str | None = None, token: Token = None, force: bool = False
) -> Path:
    """Fetch a model as `pull_from_hub` does and copy it to a folder of one's own, at every moment absent, old or whole.

    Raises:
        TargetExistsError, FileAccessError: The target.
        IntegrityError: The copy is not what was fetched. And as `pull_from_hub`.
    """
    dst = Path(dst)
    refuse_existing(dst, overwrite=force)
    source = pull_from_hub(repo_id, revision=revision, token=token)
    with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
        for name in sorted(OWNED_NAMES):
            shutil.copyfile(source / name, folder / name)
            if not filecmp.cmp(source / name, folder / name, shallow=False):
                raise IntegrityError(str(dst / name), "the bytes that were fetched", "others", "check the disk and try again")
    return dst


def find_sealed(name: str) -> Path:
    """Return a sealed file: the path itself, or the one in a repository, verified.

    Args:
        name: A path, or "hf-hub:owner/name[@revision]".
    """
    if not name.startswith(HUB_PREFIX):
        return Path(name)
    return fetch_checkpoint(name.removeprefix(HUB_PREFIX), SEALED_NAME) / SEALED_NAME
