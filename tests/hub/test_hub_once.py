"""A source is found once: its name is parsed once, and its files are asked for, hashed and opened once."""

from __future__ import annotations

import json
import shutil

import pytest
from loopback import contents

from timm_encmixer.bundled import BUNDLED_FOLDER

COUNT = """
import collections, functools, json, sys
from timm_encmixer import files
from timm_encmixer.checkpoints import sources, tensor_file
from timm_encmixer.hub import snapshot

counts = collections.Counter()


def counted(owner, name, what=lambda *a, **k: ""):
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args, **kwargs):
        counts[f"{name} {what(*args, **kwargs)}".strip()] += 1
        return inner(*args, **kwargs)

    setattr(owner, name, outer)


counted(sources, "repository_in")
counted(snapshot, "sha256_of", lambda path: path.name)
counted(snapshot, "git_blob_id", lambda path: path.name)
for kind, name in ((snapshot.Snapshot, "open"), (tensor_file.TensorFile, "open")):
    inner = getattr(kind, name).__func__

    def outer(cls, path, *args, inner=inner, kind=kind, **kwargs):
        counts[f"{kind.__name__}.open {path if kind is snapshot.Snapshot else ''}".strip()] += 1
        return inner(cls, path, *args, **kwargs)

    setattr(kind, name, classmethod(outer))
"""
ENCRYPT = """
import timm_encmixer as te
te.encrypt_checkpoint("hf-hub:me/plain", "encrypted", "owner.key")
print(json.dumps(counts))
"""
COMMAND = """
from timm_encmixer.cli.app import cli
cli.main(["model", "encrypt", "hf-hub:me/plain", "encrypted", "--key", "owner.key", "-q"], standalone_mode=False)
print(json.dumps(counts))
"""
AUDIT = """
import timm_encmixer as te
te.audit.run("hf-hub:me/plain", attacks=["key_reuse"], progress=False)
print(json.dumps(counts))
"""
ONCE = {
    "repository_in": 1,
    "Snapshot.open me/plain": 1,
    "sha256_of model.safetensors": 1,
    "git_blob_id config.json": 1,
    "TensorFile.open": 1,
}


def counts_of(owner, key, code: str) -> dict[str, int]:
    if not (owner.cwd / "owner.key").exists():
        key.save(owner.cwd / "owner.key")
    return json.loads(owner.python(COUNT + code).splitlines()[-1])


@pytest.mark.nightly
def test_encrypting_and_auditing_look_at_a_repository_once(hub, owner, key):
    hub.store.repo("me/plain", contents(BUNDLED_FOLDER), private=False)
    for code in (ENCRYPT, COMMAND, AUDIT):
        shutil.rmtree(owner.cwd / "encrypted", ignore_errors=True)
        assert counts_of(owner, key, code) == ONCE, code
