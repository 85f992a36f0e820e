"""Bringing a model from the Hugging Face Hub, verified; docs/hub.md."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from timm_encmixer.checkpoints.checkpoint import OWNED_NAMES, Checkpoint, check_weights
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, SEALED_NAME, WEIGHTS_NAME
from timm_encmixer.errors import IntegrityError, SourceError
from timm_encmixer.files import refuse_existing, replacing_folder
from timm_encmixer.hub.client import HUB_PREFIX
from timm_encmixer.hub.snapshot import _OFFLINE_REMEDY, Snapshot, Token


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


def fetch_file(model_id: str, filename: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return one verified file of a repository, None when it has no such file; see `Snapshot`."""
    return Snapshot.open(model_id, cache_dir=cache_dir).fetch(filename)[0]


def fetch_checkpoint(model_id: str, *names: str, cache_dir: str | os.PathLike[str] | None = None, token: Token = None) -> Path:
    """Return the folder of a repository's verified files, all from one commit.

    Raises:
        SourceError: The repository has not all of them.
    """
    snapshot = Snapshot.open(model_id, cache_dir=cache_dir, token=token)
    paths = snapshot.fetch(*names)
    for name, path in zip(names, paths, strict=True):
        if path is None:
            sealed = SEALED_NAME in snapshot.files
            remedy = "pickles are never read: ask its owner for safetensors"
            if sealed:
                remedy = f"open it: encmixer model open {HUB_PREFIX}{model_id} DST --identity FILE"
            raise SourceError(snapshot.where, f"a repository with {name}", "a sealed model" if sealed else "none", remedy)
    folders = {path.parent for path in paths if path is not None}
    if len(folders) != 1:
        raise IntegrityError(snapshot.where, "files of one commit", "files of several", _OFFLINE_REMEDY)
    return folders.pop()
