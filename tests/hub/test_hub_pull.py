"""What is fetched: little where little is needed, and nothing that an untrusted repository could do harm with."""

from __future__ import annotations

import json
import pickle
import struct

import pytest
from loopback import contents
from store import File

from timm_encmixer.bundled import BUNDLED_FOLDER


def test_info_reads_the_record_without_the_weights(hub, owner, encrypted, key):
    hub.store.repo("me/m", contents(encrypted), private=True)
    size = (encrypted / "model.safetensors").stat().st_size
    info = json.loads(owner.run("model", "info", "hf-hub:me/m", "--json", check=True).stdout)
    assert info["encmixer"]["fingerprint"] == key.fingerprint
    assert (info["bytes"], info["tensors"], info["encrypted"], info["private"]) == (size, 121, True, True)
    assert info["commit"] == hub.store.repos["me/m"].head.oid
    sent = sum(exchange.sent for exchange in hub.faults.log if "model.safetensors" in exchange.request)
    assert 0 < sent <= 1 << 16 < size / 30
    assert not list(owner.cache.rglob("model.safetensors"))
    hub.store.repo("me/plain", contents(BUNDLED_FOLDER), private=True)
    assert json.loads(owner.run("model", "info", "hf-hub:me/plain", "--json", check=True).stdout)["encrypted"] is False


def test_a_client_needs_only_the_config(hub, owner, encrypted, key_file, photo_file):
    hub.store.repo("me/m", {"config.json": contents(encrypted)["config.json"]}, private=True)
    owner.run("images", "encrypt", photo_file, "c.png", "--key", key_file, "--model", "hf-hub:me/m", check=True)
    assert (owner.cwd / "c.png").is_file()
    assert not [request for request in hub.requests if "model.safetensors" in request]
    owner.run(
        "images", "encrypt", photo_file, "d.png", "--key", key_file, "--model", "hf-hub:me/m", check=True, HF_HUB_OFFLINE="1"
    )
    assert (owner.cwd / "c.png").read_bytes() == (owner.cwd / "d.png").read_bytes()


@pytest.fixture
def photo_file(photos, tmp_path):
    photos[0].save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch owned",)


def test_untrusted_repositories(hub, owner, encrypted, tmp_path):
    """One process meets them all; each is refused in one line, at once, and none leaves a trace."""
    good = contents(encrypted)
    config = json.loads(good["config.json"])

    def changed(**fields) -> bytes:
        return json.dumps({**config, **fields}).encode()

    record, cfg = config["encmixer"], config["pretrained_cfg"]
    notes = [note for note in cfg["notes"] if not note.startswith("encmixer:")]
    huge = {**record, "plain": {**record["plain"], "input_size": [3, 65536, 65536]}}
    header = struct.pack("<Q", 1 << 40)
    repositories = {
        "another-architecture": (changed(architecture="resnet18"), None, "record's architecture convmixer_256"),
        "no-architecture": (changed(architecture="../../evil"), None, "architecture"),
        "deep": (changed(model_args={"depth": 10**9}), None, "numbers up to 65536"),
        "wide": (changed(model_args={"dim": 60_000}), None, "shape"),
        "long": (changed(model_args={"depth": 60_000}), None, "more than 5000 tensors"),
        "classes": (changed(num_classes=10**12), None, r"<= 1000000 - at `\$\.num_classes`"),
        "pickle-by-argument": (changed(model_args={"checkpoint_path": "/tmp/evil.bin"}), None, "got checkpoint_path"),
        "another-loader": (changed(model_args={"pretrained_cfg": {"url": "http://evil"}}), None, "got pretrained_cfg"),
        "later-version": (changed(encmixer={**record, "version": 99}), None, "version: expected 1 to 5, got 99"),
        "huge-image": (changed(encmixer=huge), None, "values before the crop"),
        "other-record": (changed(encmixer={**record, "fingerprint": "0" * 16}), None, "two different ones"),
        "no-record": (changed(encmixer=None, pretrained_cfg={**cfg, "notes": notes}), None, "JSON object|two different"),
        "nested": (b"[" * 100_000, None, "JSON"),
        "no-json": (b"\xff\xfe", None, "JSON"),
        "long-header": (None, header + good["model.safetensors"][8:], "header length"),
        "cut-header": (None, good["model.safetensors"][:100], "header length"),
        "pickle-in-disguise": (None, pickle.dumps(Evil()), "safetensors"),
    }
    for name, (text, weights, _) in repositories.items():
        files = {"config.json": text or good["config.json"], "model.safetensors": weights or good["model.safetensors"]}
        hub.store.repo(f"me/{name}", files, private=True)
    hub.store.repo("me/pickle", {"config.json": good["config.json"], "pytorch_model.bin": pickle.dumps(Evil())})
    traversal = hub.store.repo("me/traversal", good, private=True)
    for name in ("../../../escaped", "/etc/escaped", "..\\escaped", "model.safetensors/../../escaped"):
        traversal.head.files[name] = File(b"escaped", lfs=False)
    code = """
import resource
import timm_encmixer as te
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.stdin.read().split():
    try:
        print(name, "pulled", te.pull_from_hub("me/" + name))
    except te.EncMixerError as error:
        print(name, type(error).__name__, error, sep="|")
    print(name, "grew", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    names = " ".join([*repositories, "pickle", "traversal"])
    lines = owner.python(code.replace("sys.stdin.read().split()", repr(names.split()))).splitlines()
    results = {line.split("|")[0].split()[0]: line for line in lines if " grew " not in line}
    grown = max(int(line.rsplit(" ", 1)[1]) for line in lines if " grew " in line)
    import re

    for name, (_, _, message) in repositories.items():
        assert "|" in results[name], results[name]
        assert re.search(message, results[name]), results[name]
    assert "pickles are never read" in results["pickle"]
    assert "traversal pulled" in results["traversal"]
    assert not list(tmp_path.rglob("*escaped*"))
    assert not list(tmp_path.rglob("owned"))
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]
    assert grown < 600  # MB: timm, torch and lists of names, but no weights of absurd size


def test_a_commit_id_that_is_none_is_refused(hub, owner, encrypted):
    repo = hub.store.repo("me/m", contents(encrypted), private=True)
    head = repo.commits.pop(repo.refs["refs/heads/main"])
    repo.refs["refs/heads/main"] = "../../../../evil"
    repo.commits["../../../../evil"] = type(head)("../../../../evil", None, "evil", head.files)
    result = owner.run("model", "pull", "me/m", "got")
    assert result.returncode == 2
    assert "expected a commit of 40 hex digits" in result.stderr


def test_pulling_over_something(hub, owner, encrypted):
    hub.store.repo("me/m", contents(encrypted), private=True)
    owner.run("model", "pull", "hf-hub:me/m", "got", check=True)
    assert owner.run("model", "pull", "me/m", "got").returncode == 2
    owner.run("model", "pull", "me/m", "got", "--force", check=True)
    (owner.cwd / "got" / "thesis.tex").write_text("mine")
    assert "thesis.tex" in owner.run("model", "pull", "me/m", "got", "--force").stderr
    assert (owner.cwd / "got" / "thesis.tex").read_text() == "mine"
