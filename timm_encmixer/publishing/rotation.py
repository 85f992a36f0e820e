"""A new key for a model that is on the Hub already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm_encmixer.checkpoints.checkpoint import Checkpoint
from timm_encmixer.checkpoints.encryption import rotate_checkpoint
from timm_encmixer.checkpoints.pull import pull_from_hub
from timm_encmixer.errors import SourceError
from timm_encmixer.files import scratch_folder
from timm_encmixer.hub.client import HUB_PREFIX, request
from timm_encmixer.hub.snapshot import Snapshot, Token
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.publishing.options import PushOptions
from timm_encmixer.publishing.push import push_checkpoint

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def rotate_on_hub(
    model_id: str,
    key: KeyLike,
    new_key: KeyLike,
    *,
    create_pr: bool = False,
    super_squash: bool = False,
    token: Token = None,
    force: bool = False,
) -> CommitInfo:
    """Give an encrypted model on the Hub a new key; its visibility and card stay as they are.

    The old revision stays in the repository's history, where anyone with the old key can use it.

    Args:
        model_id: "owner/name" or "owner/name@branch".
        key: Its present key.
        new_key: The key to change to.
        create_pr: Open a pull request instead of committing to the branch.
        super_squash: Afterwards make the branch's history one commit, so that the old revision goes. Cannot be undone.
        token: As huggingface_hub's.
        force: Push beside plain weights that are there already.

    Raises:
        SourceError: `super_squash` together with `create_pr`. And as `pull_from_hub`, `rotate_checkpoint` and `push_to_hub`.
    """
    if super_squash and create_pr:
        raise SourceError("super_squash", "a commit to the branch", "a pull request", "leave one of the two out")
    key, new_key = find_key(key), find_key(new_key, where="new key")
    snapshot = Snapshot.open(model_id, token=token)
    folder = pull_from_hub(snapshot.repo_id, revision=snapshot.commit, token=token)
    with scratch_folder() as scratch:
        rotated = scratch / "rotated"
        rotate_checkpoint(folder, rotated, key, new_key)
        options = PushOptions(
            private=None,
            revision=snapshot.revision,
            create_pr=create_pr,
            token=token,
            parent_commit=snapshot.commit,
            force=force,
        )
        commit = push_checkpoint(Checkpoint.open(rotated), snapshot.repo_id, options, key=new_key)
    if super_squash:
        squash_history(snapshot, commit.commit_message)
    return commit


def squash_history(snapshot: Snapshot, message: str) -> None:
    """Make a branch's history one commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=snapshot.token)
    request(
        HUB_PREFIX + snapshot.repo_id,
        "a history of one commit",
        lambda: api.super_squash_history(snapshot.repo_id, branch=snapshot.revision, commit_message=message),
    )
