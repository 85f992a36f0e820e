"""What a Hub holds: users, repositories, commits, pull requests and the bytes of files."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import yaml

MAIN = "refs/heads/main"
LFS_SUFFIXES = (".safetensors", ".age", ".bin", ".npz", ".tar", ".parquet")
DATASET = "dataset.."  # before the name of a data set's repository, which may be called as a model's is


@dataclass(frozen=True)
class File:
    """One file of a commit; `oid` is its Git blob id, over the pointer's text for LFS."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def oid(self) -> str:
        tracked = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(tracked) + tracked).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, File]
    date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass
class Repo:
    id: str
    private: bool
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pulls: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add_commit(MAIN, None, "initial commit", {".gitattributes": File(b"*.safetensors filter=lfs\n", lfs=False)})

    def resolve(self, revision: str) -> Commit | None:
        oid = self.refs.get(revision) or self.refs.get(f"refs/heads/{revision}") or self.refs.get(f"refs/tags/{revision}")
        return self.commits.get(oid or revision)

    def ref(self, revision: str) -> str:
        return revision if revision.startswith("refs/") else f"refs/heads/{revision}"

    def add_commit(self, ref: str, parent: str | None, title: str, files: dict[str, File]) -> Commit:
        commit = Commit(secrets.token_hex(20), parent, title, files)
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit

    def history(self, revision: str) -> list[Commit]:
        commits, commit = [], self.resolve(revision)
        while commit is not None:
            commits.append(commit)
            commit = self.commits.get(commit.parent or "")
        return commits

    @property
    def head(self) -> Commit:
        return self.commits[self.refs[MAIN]]

    def card_data(self, commit: Commit) -> dict:
        readme = commit.files.get("README.md")
        front = re.match(r"---\n(.*?)\n---", readme.content.decode(), re.DOTALL) if readme else None
        try:
            return (yaml.safe_load(front[1]) or {}) if front else {}
        except yaml.YAMLError:
            return {}


@dataclass
class Store:
    """All of the Hub's state; tests read and change it directly."""

    repos: dict[str, Repo] = field(default_factory=dict)
    tokens: dict[str, tuple[str, str]] = field(default_factory=dict)  # token -> (user, "read" or "write")
    granted: set[tuple[str, str]] = field(default_factory=set)  # (user, gated repository)
    uploads: dict[str, bytes] = field(default_factory=dict)  # LFS objects by sha256
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)  # parts of multipart uploads by sha256
    cas: Path | None = None  # Xet: the folder of the local CAS; None is plain LFS
    multipart_bytes: int | None = None  # LFS: part size of multipart uploads
    redirect: bool = False  # LFS downloads go through the second origin
    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    def repo(self, repo_id: str, files: dict[str, bytes] | None = None, *, private: bool = False, gated: bool = False) -> Repo:
        """Make a repository with one commit of `files`."""
        repo = self.repos[repo_id] = Repo(repo_id, private, gated)
        if files:
            repo.add_commit(MAIN, repo.head.oid, "files", {**repo.head.files, **{n: make_file(n, c) for n, c in files.items()}})
        return repo

    def lfs_object(self, sha256: str) -> bytes | None:
        """Return an uploaded object, from LFS storage or from the CAS."""
        if sha256 not in self.uploads and self.cas is not None and (entry := self.xet_hashes().get(sha256)) is not None:
            self.uploads[sha256] = read_from_cas(self.cas, *entry)
        return self.uploads.get(sha256)

    def xet_hashes(self) -> dict[str, tuple[str, int]]:
        """Return Xet hash and size of every file in the CAS by sha256, from its shards (the MDB shard format, version 2)."""
        found = {}
        for shard in self.cas.rglob("shards/*.mdb") if self.cas is not None else ():
            data, at = shard.read_bytes(), 48
            while at + 48 <= len(data) and data[at : at + 32] != b"\xff" * 32:
                name, flags, entries = (
                    data[at : at + 32],
                    *(int.from_bytes(data[at + o : at + o + 4], "little") for o in (32, 36)),
                )
                segments = range(at + 48, at + 48 * (entries + 1), 48)
                size = sum(int.from_bytes(data[s + 36 : s + 40], "little") for s in segments)
                at += 48 * (1 + entries * (2 if flags & 0x8000_0000 else 1))
                if flags & 0x4000_0000:
                    found[_words(data[at : at + 32])] = (_words(name), size)
                    at += 48
        return found


def make_file(name: str, content: bytes) -> File:
    return File(content, lfs=name.endswith(LFS_SUFFIXES))


def read_from_cas(cas: Path, xet_hash: str, size: int) -> bytes:
    import hf_xet

    group = hf_xet.XetSession().new_download_stream_group(endpoint=f"local://{cas}")
    return b"".join(group.download_stream(hf_xet.XetFileInfo(xet_hash, size)))


def _words(data: bytes) -> str:
    """Xet writes a hash as four 64-bit numbers, each in hexadecimal."""
    return "".join(f"{int.from_bytes(data[at : at + 8], 'little'):016x}" for at in range(0, 32, 8))
