"""Files of a Hub repository, from one commit, whose bytes are those that the Hub lists for it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timm_encmixer.errors import HubError, IntegrityError, SourceError
from timm_encmixer.files import git_blob_id, remove_inside, replacing_file, sha256_of
from timm_encmixer.hub.client import DATASET_PREFIX, HUB_PREFIX, is_offline, longest_silence, request, split_revision

MODEL, DATASET = "model", "dataset"  # kinds of repositories
logger = logging.getLogger(__name__)
Token = str | bool | None
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OFFLINE_REMEDY = "unset HF_HUB_OFFLINE and run encmixer model pull once"


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it, or as the name of its blob in the cache says."""

    name: str
    size: int | None  # bytes; None where only the cache was asked
    digest: str  # SHA-256 of the content for LFS and Xet, else SHA-1 of the Git blob

    def difference(self, path: Path) -> str | None:
        """Say how a file on disk differs from what was listed, None when it does not."""
        length = path.stat().st_size
        if self.size not in (None, length):
            return f"{length} bytes instead of {self.size}"
        kind, digest = ("SHA-256", sha256_of) if len(self.digest) == 64 else ("Git blob", git_blob_id)
        found = digest(path)
        return None if found == self.digest else f"{kind} {found[:12]} instead of {self.digest[:12]}"


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository. `fetch` gives its files, verified, in the Hub's own cache."""

    repo_id: str
    revision: str
    commit: str
    files: Mapping[str, HubFile]
    cache_dir: str | None
    token: Token
    private: bool = False
    repo_type: str = MODEL
    _verified: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)  # by name: what `fetch` has given

    @classmethod
    def open(
        cls,
        repo_id: str,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: Token = None,
        repo_type: str = MODEL,
    ) -> Snapshot:
        """Ask the Hub which commit a revision is, and what its files are; offline, ask the cache.

        Args:
            repo_id: "owner/name" or "owner/name@revision", as timm writes it.
            revision: Branch, tag, pull request (refs/pr/N) or commit; None is the one after the @, else main.
            cache_dir: Cache folder; None takes huggingface_hub's own.
            token: As huggingface_hub's: None is the one that you logged in with, False is none.
            repo_type: MODEL or DATASET.

        Raises:
            SourceError: No such repository or revision, or no access.
            HubError: The Hub refused or could not be reached. The cache is not used instead.
        """
        where = _where(repo_id, repo_type)
        repo_id, named = split_revision(repo_id)
        refuse_bad_id(repo_id, where=where)
        revision = revision or named or "main"
        folder = os.fspath(cache_dir) if cache_dir is not None else None
        if is_offline():
            return cls(repo_id, revision, "", {}, folder, token, repo_type=repo_type)
        info = repo_info(repo_id, revision, token, repo_type)
        if not _COMMIT.fullmatch(info.sha or ""):
            raise HubError(where, "a commit of 40 hex digits", repr(info.sha), "do not use this server")
        logger.info("%s: %s is commit %s", where, revision, info.sha)
        return cls(repo_id, revision, info.sha, listed_files(info), folder, token, bool(info.private), repo_type)

    @property
    def where(self) -> str:
        """The repository and revision, for messages."""
        return _where(self.repo_id, self.repo_type) + (f"@{self.revision}" if self.revision != "main" else "")

    def fetch(self, *names: str) -> list[Path | None]:
        """Return the cached paths of files whose bytes are those that the Hub lists; None for files it does not have.

        A copy that differs, in the cache or on arrival, is replaced once; when the second differs too it is removed.

        Raises:
            IntegrityError: What arrives is not what the Hub lists; or, offline, a cached copy is damaged.
            HubError: The Hub refused or could not be reached; or, offline, the cache has no complete copy.
        """
        if is_offline():
            return [self._cached(name) for name in names]
        for name in names:
            if name in self.files and name not in self._verified:
                self._verified[name] = self._fetch(self.files[name])
        paths = [self._verified.get(name) for name in names]
        if any(path is not None for path in paths):
            self._remember_revision()
        return paths

    def _fetch(self, file: HubFile) -> Path:
        where = f"{self.where}: {file.name}"
        path = self._download(file.name, force=False)
        logger.info("%s: in the cache at %s", where, path)
        difference = file.difference(path)
        if difference is not None:
            logger.warning("%s: %s; fetching it again", where, difference)
            path = self._download(file.name, force=True)
            difference = file.difference(path)
        if difference is not None:
            _remove_from_cache(path, _repo_folder(self.repo_id, self.repo_type, self.cache_dir))
            raise IntegrityError(where, "the bytes that the Hub lists", difference, "try again; the damaged copy was removed")
        return path

    def _download(self, name: str, *, force: bool) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(
            request(
                self.where,
                name,
                lambda: hf_hub_download(
                    self.repo_id,
                    name,
                    repo_type=self.repo_type,
                    revision=self.commit,
                    cache_dir=self.cache_dir,
                    token=self.token,
                    force_download=force,
                ),
            )
        )

    def _remember_revision(self) -> None:
        """Write which commit a branch or tag is, as huggingface_hub does, once its files are there and verified.

        A commit of which less is here than of the one remembered (a new config, say, and the old one's weights) does not
        take its place, so that what offline use finds stays complete.
        """
        if _COMMIT.fullmatch(self.revision) or ".." in self.revision.split("/"):
            return
        folder = _repo_folder(self.repo_id, self.repo_type, self.cache_dir)
        ref = folder / "refs" / self.revision
        try:
            remembered = ref.read_text(encoding="ascii") if ref.is_file() else None
            if remembered == self.commit:
                return
            before = folder / "snapshots" / remembered if remembered is not None else None
            here = {file.name for file in (folder / "snapshots" / self.commit).iterdir()}
            if before is not None and before.is_dir() and not {file.name for file in before.iterdir()} <= here:
                return
            ref.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(ref, overwrite=True, durable=False) as temporary:
                temporary.write_text(self.commit, encoding="ascii")
        except OSError as error:
            logger.warning("%s: %s; offline use will not find this copy", ref, error)

    def _cached(self, name: str) -> Path | None:
        """Return a cached file that its blob's name verifies, None when the commit is known to have no such file."""
        from huggingface_hub import try_to_load_from_cache

        where = f"{self.where}: {name}"
        found = try_to_load_from_cache(
            self.repo_id, name, cache_dir=self.cache_dir, revision=self.revision, repo_type=self.repo_type
        )
        if found is not None and not isinstance(found, str):
            return None
        if found is None:
            raise HubError(where, "a copy in the cache", "offline mode and no complete copy", _OFFLINE_REMEDY)
        path = Path(found)
        digest = path.readlink().name if path.is_symlink() else ""
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest):
            raise HubError(where, "a cached copy with its checksum", "one without (no symbolic links here)", _OFFLINE_REMEDY)
        difference = HubFile(name, None, digest).difference(path)
        if difference is not None:
            raise IntegrityError(where, "the cached bytes as they were fetched", difference, _OFFLINE_REMEDY)
        return path

    def header_bytes(self, name: str, start: int, end: int) -> bytes:
        """Return bytes start to end - 1 of a file by a ranged request, without the rest of it.

        Raises:
            HubError: The Hub refused, could not be reached, or sent another range.
        """
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(self.repo_id, name, revision=self.commit, repo_type=self.repo_type)

        def ask() -> bytes:
            headers = {**build_hf_headers(token=self.token), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
            with get_session().stream("GET", url, headers=headers, follow_redirects=True) as reply:
                hf_raise_for_status(reply)
                content = bytearray()
                for block in reply.iter_bytes():
                    content += block
                    if len(content) >= end - start:
                        break
                if reply.status_code != 206:
                    raise HubError(
                        self.where, "a partial answer (206)", f"{reply.status_code}", "download it: encmixer model pull"
                    )
                return bytes(content[: end - start])

        return request(self.where, f"the header of {name}", ask)


def open_dataset(repository: str, *, name: str, commit: str | None = None, token: Token = None) -> Snapshot:
    """Look up the repository of a data set.

    Args:
        repository: "owner/name[@revision]".
        name: As it was given: the same, which may have been meant as a folder's path; or with a prefix.
        commit: The commit to use, whatever the revision is by now.
        token: As huggingface_hub's.

    Raises:
        SourceError, HubError: As `Snapshot.open`; of a name alone the error says too that there is no such folder.
    """
    try:
        return Snapshot.open(repository, revision=commit, token=token, repo_type=DATASET)
    except (SourceError, HubError) as error:
        if repository != name:
            raise
        got = f"no such folder, and on the Hub {error.got}"
        raise type(error)(name, "a folder or a Hub data set", got, error.remedy) from error


def refuse_bad_id(repo_id: str, *, where: str) -> None:
    """Refuse what no repository can be called, before anybody is asked, online or offline.

    Raises:
        SourceError: It is not "owner/name" of letters, digits, "-", "_" and ".".
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        remedy = "check the name: letters, digits, '-', '_' and '.', at most 96 characters"
        raise SourceError(where, "owner/name[@revision]", repr(repo_id), remedy) from error


def repo_info(repo_id: str, revision: str | None, token: Token, repo_type: str = MODEL) -> Any:
    """Return huggingface_hub's ModelInfo or DatasetInfo with sizes and digests of all files."""
    from huggingface_hub import HfApi

    where = _where(repo_id, repo_type) + (f"@{revision}" if revision not in (None, "main") else "")
    asked: dict[str, Any] = {"revision": revision, "files_metadata": True, "timeout": longest_silence()}
    return request(where, "a repository to read", lambda: HfApi(token=token).repo_info(repo_id, repo_type=repo_type, **asked))


def listed_files(info: Any) -> dict[str, HubFile]:
    """Return the files of a repo_info with their digests; those without one cannot be verified and are left out."""
    files = {}
    for sibling in info.siblings or ():
        digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
        if digest:
            files[sibling.rfilename] = HubFile(sibling.rfilename, sibling.size, digest.lower())
    return files


def is_public(repo_id: str) -> bool:
    """Whether anyone can download a repository's files. Offline the answer is yes, which is the careful one."""
    from huggingface_hub.errors import RepositoryNotFoundError  # a gated one's error is a kind of it

    if is_offline():
        return True
    try:
        info = repo_info(repo_id, None, False)
    except (SourceError, HubError) as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            return False
        raise
    return not info.private and not info.gated


def _where(repo_id: str, repo_type: str) -> str:
    return (HUB_PREFIX if repo_type == MODEL else DATASET_PREFIX) + repo_id


def _repo_folder(repo_id: str, repo_type: str, cache_dir: str | None) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(cache_dir or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type=repo_type)


def _remove_from_cache(path: Path, folder: Path) -> None:
    """Remove a snapshot's entry, and its blob where that is one of this repository's own."""
    blob = path.resolve()
    remove_inside(path, folder / "snapshots")
    if blob.parent == (folder / "blobs").resolve():
        remove_inside(blob, folder / "blobs")
