"""Pushing an encrypted data set to the Hub: everything in its manifest, in one commit, after a search for the key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from timm_encmixer.datasets.inspection import differing_shards
from timm_encmixer.datasets.layout import SUFFIX, differences, read_layout
from timm_encmixer.datasets.listing import SourceFile
from timm_encmixer.datasets.manifest import MANIFEST, Manifest, read_manifest
from timm_encmixer.datasets.sources import LocalFolder
from timm_encmixer.errors import IntegrityError, LeakError, NotEncryptedError
from timm_encmixer.hub.card_section import CARD_NAME
from timm_encmixer.hub.commit import commit_files, open_repository
from timm_encmixer.hub.leak_guard import LeakGuard
from timm_encmixer.hub.snapshot import DATASET, Token
from timm_encmixer.keys import KeyLike, find_optional_key
from timm_encmixer.scheme import Scheme

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_OWN_NAMES = (CARD_NAME, ".gitattributes")


def push_dataset(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    key: KeyLike | None = None,
    private: bool | None = True,
    commit_message: str | None = None,
    token: Token = None,
) -> CommitInfo:
    """Push an encrypted data set that is finished and unchanged to the Hub, as one commit.

    Args:
        folder: What `encrypt_dataset` wrote.
        repo_id: "owner/name"; made if it does not exist.
        key: Every file is searched for it before anything is sent; None takes the file that TIMM_ENCMIXER_KEY names.
        private: True refuses a repository that is public already; False makes a new one public; None takes it as it is.
        commit_message: Title of the commit; None names the data set and the key's fingerprint.
        token: As huggingface_hub's.

    Returns:
        huggingface_hub's CommitInfo.

    Raises:
        NotEncryptedError: The data set is plain.
        IntegrityError: A shard differs from the manifest; or the Hub lists other bytes than were sent.
        LeakError: A key in a file; or a repository that holds other files, which may be the plain images.
        SourceError, HubError: No finished data set; or the Hub refused or could not be reached.

    Examples:
        >>> counts = te.encrypt_dataset("photos", "ready", "owner.key", "encrypted", progress=False)
        >>> commit = te.push_dataset("ready", "me/photos", key="owner.key")
    """
    root = Path(folder)
    manifest = read_manifest(root / MANIFEST, where=str(root))
    if manifest.record is None:
        raise NotEncryptedError(str(root), "an encrypted data set", "a decrypted one", "push the encrypted one")
    scheme = Scheme.from_dict(manifest.record, where=f"{root}: record")
    differing = differing_shards(root, manifest)
    if differing:
        raise IntegrityError(f"{root}/{differing[0]}", "the bytes that were written", "others", "encrypt the data set again")
    secret = find_optional_key(key)
    guard = LeakGuard(secret, scheme.fingerprint)
    listed = [file.name for file in LocalFolder(root).files() if isinstance(file, SourceFile)]  # no hidden ones: no digests
    files = {name: root / name for name in (*listed, MANIFEST)}
    _refuse_strangers(root, manifest)
    for path in files.values():
        guard.check_file(path)
    target = open_repository(repo_id, private=private, revision=None, create_pr=False, token=token, repo_type=DATASET)
    ours = set(files) if MANIFEST in target.files else set()  # files of the same names that nobody encrypted are not ours
    strangers = sorted(set(target.files) - ours - set(_OWN_NAMES))
    if strangers:
        remedy = "choose another repository: plain images beside encrypted ones give the key away"
        raise LeakError(f"{target.where}: {strangers[0]}", "a repository of this data set alone", "another file", remedy)
    message = commit_message or f"Encrypted {manifest.source}, key {scheme.fingerprint}"
    guard.check_text("commit message", message.encode())
    return commit_files(target, files, delete=[], message=message, create_pr=False, parent_commit=target.commit)


def _refuse_strangers(root: Path, manifest: Manifest) -> None:
    """Raise when the folder holds images or shards that the manifest does not know, or files that nobody knows."""
    layout = read_layout(LocalFolder(root), suffix=manifest.options.format.suffix)
    strangers = [*layout.left_out.get(SUFFIX, ()), *differences(manifest, layout)[1]]
    if strangers:
        raise LeakError(str(root), "nothing but what was encrypted", strangers[0], "move it away: it may be plain")
