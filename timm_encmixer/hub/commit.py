"""One atomic commit to a Hub repository: nothing lost, nothing twice, and what is there compared with what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RevisionNotFoundError

from timm_encmixer.errors import EncMixerError, HubError, IntegrityError, SourceError
from timm_encmixer.files import git_blob_id, sha256_of
from timm_encmixer.hub.client import DATASET_PREFIX, HUB_PREFIX, request
from timm_encmixer.hub.snapshot import MODEL, HubFile, Snapshot, Token, listed_files, repo_info


def open_repository(
    repo_id: str,
    *,
    private: bool | None,
    revision: str | None,
    create_pr: bool,
    token: Token,
    repo_type: str = MODEL,
) -> Snapshot:
    """Return where a commit would go, making the repository and the branch if need be.

    Raises:
        SourceError: The repository is public and was to be private.
        HubError: The Hub refused or could not be reached.
    """
    where = (HUB_PREFIX if repo_type == MODEL else DATASET_PREFIX) + repo_id
    api = HfApi(token=token)
    made: dict[str, Any] = {"private": private is not False, "exist_ok": True, "repo_type": repo_type}
    request(where, "a repository to write to", lambda: api.create_repo(repo_id, **made))
    try:
        snapshot = Snapshot.open(repo_id, revision=revision, token=token, repo_type=repo_type)
    except SourceError as error:
        if revision is None or create_pr or not isinstance(error.__cause__, RevisionNotFoundError):
            raise
        request(
            where,
            f"a branch {revision}",
            lambda: api.create_branch(repo_id, branch=revision, exist_ok=True, repo_type=repo_type),
        )
        snapshot = Snapshot.open(repo_id, revision=revision, token=token, repo_type=repo_type)
    if private and not snapshot.private:
        remedy = "pass --public (private=False) if everybody may download what is encrypted, or make it private first"
        raise SourceError(where, "a private repository", "a public one", remedy)
    return snapshot


def commit_files(
    target: Snapshot,
    files: Mapping[str, Path],
    *,
    delete: Sequence[str],
    message: str,
    create_pr: bool,
    parent_commit: str,
) -> CommitInfo:
    """Commit files to a repository and make sure that they arrived.

    Args:
        target: Where, as it was looked at.
        files: What, by name.
        delete: Names to remove in the same commit.
        message: The commit's title.
        create_pr: Open a pull request.
        parent_commit: Commit that the branch must still be at.

    Raises:
        HubError: The Hub refused, somebody committed meanwhile, or it could not be reached; the message says where the commit
            was made all the same, and only reading it back failed.
        IntegrityError: The Hub lists other bytes than were sent.
    """
    api = HfApi(token=target.token)
    sent = {name: (path.stat().st_size, sha256_of(path), git_blob_id(path)) for name, path in files.items()}
    pulls_before = _pull_requests(api, target) if create_pr else frozenset()

    def send() -> CommitInfo:
        additions = [CommitOperationAdd(name, path) for name, path in files.items()]
        return api.create_commit(
            target.repo_id,
            [*additions, *(CommitOperationDelete(name) for name in delete)],
            commit_message=message,
            repo_type=target.repo_type,
            revision=target.revision,
            create_pr=create_pr,
            parent_commit=parent_commit,
        )

    def look() -> CommitInfo | None:
        refs = sorted(_pull_requests(api, target) - pulls_before) if create_pr else [target.revision]
        for ref in refs:
            info = repo_info(target.repo_id, ref, target.token, target.repo_type)
            there = listed_files(info)
            if info.sha != parent_commit and not _differences(there, sent) and not set(delete) & set(there):
                return _commit_info(api, target, info.sha, message, ref if create_pr else None)
        return None

    result = request(target.where, "a commit", send, settle=look)
    where = f"{target.where}@{result.oid[:8]}"
    try:
        there = listed_files(repo_info(target.repo_id, result.oid, target.token, target.repo_type))
    except EncMixerError as error:
        remedy = "do not push again: look at the repository, or pull it"
        got = f"the commit was made, and reading it back failed: {error.got}"
        raise HubError(where, "a look at what was committed", got, remedy) from error
    differences = _differences(there, sent)
    if differences:
        remedy = "delete or repair the repository, then push again"
        raise IntegrityError(where, "the bytes that were sent", differences[0], remedy)
    return result


def _differences(there: Mapping[str, HubFile], sent: Mapping[str, tuple[int, str, str]]) -> list[str]:
    found = []
    for name, (size, sha256, git) in sent.items():
        file = there.get(name)
        if file is None:
            found.append(f"no {name}")
        elif file.size != size:
            found.append(f"{name} of {file.size} bytes instead of {size}")
        elif file.digest not in (sha256, git):
            found.append(f"{name} with digest {file.digest[:12]} instead of {sha256[:12]}")
    return found


def _pull_requests(api: HfApi, target: Snapshot) -> frozenset[str]:
    def ask() -> Any:
        return api.list_repo_refs(target.repo_id, repo_type=target.repo_type, include_pull_requests=True)

    refs = request(target.where, "the list of pull requests", ask).pull_requests or ()
    return frozenset(ref.ref for ref in refs)


def _commit_info(api: HfApi, target: Snapshot, oid: str, message: str, pull_ref: str | None) -> CommitInfo:
    """Return what create_commit would have, had its reply arrived."""
    address = f"{api.endpoint}/{'' if target.repo_type == MODEL else 'datasets/'}{target.repo_id}"
    return CommitInfo(
        commit_url=f"{address}/commit/{oid}",
        commit_message=message,
        commit_description="",
        oid=oid,
        pr_url=f"{address}/discussions/{pull_ref.rsplit('/', 1)[1]}" if pull_ref is not None else None,
    )
