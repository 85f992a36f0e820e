"""Data sets from the Hub and to it, over loopback HTTP: pinned, verified, one commit, no plain images beside encrypted ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import assert_no_secret
from faults import Fault
from store import DATASET

import timm_encmixer as te
from timm_encmixer.files import sha256_of

pytest.importorskip("datasets")
from sources import imagefolder, parquet, tree


@pytest.fixture
def model(encrypted) -> Path:
    return encrypted


def publish_plain(hub, folder: Path, name: str = "me/photos", **options):
    return hub.store.repo(name.replace("/", f"/{DATASET}"), tree(folder), **options)


def test_a_hub_data_set_is_encrypted_as_its_folder_is(hub, owner, model, key_file, tmp_path):
    src = parquet(tmp_path / "src")
    (src / "README.md").write_text("---\nlicense: mit\n---\n# Photos\n")
    repo = publish_plain(hub, src, private=True)
    options = ["--key", key_file, "--model", model]
    owner.run("dataset", "encrypt", "me/photos", "ct", *options, check=True)
    te.encrypt_dataset(src, tmp_path / "local", key_file, model, progress=False)
    mine, local = tree(owner.cwd / "ct"), tree(tmp_path / "local")
    names = {name for name in local if name.endswith(".parquet")}
    assert {name: mine[name] for name in names} == {name: local[name] for name in names}
    manifest = json.loads(mine[".encmixer/manifest.json"])
    assert manifest["source_commit"] == repo.head.oid
    assert manifest["source"] == "me/photos"
    assert not list((owner.cwd / "ct").rglob("hub"))  # no copy of the plain shards stays
    info = json.loads(owner.run("dataset", "info", "me/photos", "--json", check=True).stdout)
    assert (info["kind"], info["shards"], info["encrypted"]) == ("parquet", 3, False)
    missing = owner.run("dataset", "encrypt", "me/nothing", "ct2", *options)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)


@pytest.mark.nightly
def test_a_run_that_was_interrupted_stays_on_its_commit(hub, owner, model, key_file, tmp_path):
    src = parquet(tmp_path / "src")
    repo = publish_plain(hub, src)
    whole = parquet(tmp_path / "again")
    hub.faults.table.append(Fault(r"GET .*/resolve/.*/train-00001.*", "status", times=99))
    options = ["--key", key_file, "--model", model]
    first = owner.run("dataset", "encrypt", "me/photos", "ct", *options)
    assert first.returncode == 2
    assert "hf://datasets/me/photos" in first.stderr
    hub.faults.table.clear()
    repo.add_commit("refs/heads/main", repo.head.oid, "other images", {})
    owner.run("dataset", "encrypt", "me/photos", "ct", *options, check=True)
    te.encrypt_dataset(whole, tmp_path / "local", key_file, model, progress=False)
    names = [name for name in tree(tmp_path / "local") if name.endswith(".parquet")]
    assert all(tree(owner.cwd / "ct")[name] == tree(tmp_path / "local")[name] for name in names)


def test_rotten_shards_are_not_encrypted(hub, owner, model, key_file, tmp_path):
    publish_plain(hub, parquet(tmp_path / "src"))
    hub.faults.table.append(Fault(r"GET .*/resolve/.*/train-00001.*", "flip", times=99))
    run = owner.run("dataset", "encrypt", "me/photos", "ct", "--key", key_file, "--model", model)
    assert run.returncode == 2
    assert "the bytes that the Hub lists" in run.stderr
    assert not list((owner.cwd / "ct").glob("train-00001*"))


@pytest.mark.nightly(only=("parquet",))
@pytest.mark.parametrize("make", [parquet, imagefolder])
def test_push_and_decrypt_from_the_hub(make, hub, owner, model, key, key_file, tmp_path):
    src = make(tmp_path / "src")
    options = ["--key", key_file, "--model", model, "--push", "me/encrypted", "--json"]
    run = owner.run("dataset", "encrypt", src, "ct", *options, check=True)
    repo = hub.store.repos[f"me/{DATASET}encrypted"]
    assert repo.private
    assert json.loads(run.stdout)["url"].endswith(f"/datasets/me/encrypted/commit/{repo.head.oid}")
    pushed = {name: file.content for name, file in repo.head.files.items() if name != ".gitattributes"}
    private = ".encmixer/private/source.jsonl"  # digests of plain files, with which anybody could test a guess
    assert {**pushed, private: (owner.cwd / "ct" / private).read_bytes()} == tree(owner.cwd / "ct")
    assert private not in pushed
    plain = [sha256_of(path).encode() for path in src.rglob("*.*")]
    assert not [digest for digest in plain for content in pushed.values() if digest in content]
    card = repo.head.files["README.md"].content.decode()
    assert key.fingerprint in card
    assert "does not make images confidential" in card
    assert_no_secret(key, *(file.content for file in repo.head.files.values()))
    owner.run("dataset", "decrypt", "hf://datasets/me/encrypted", "back", "--key", key_file, check=True)
    te.decrypt_dataset(owner.cwd / "ct", tmp_path / "local", key, progress=False)
    images = [name for name in tree(tmp_path / "local") if name.endswith((".parquet", ".png"))]
    assert images
    assert all(tree(owner.cwd / "back")[name] == tree(tmp_path / "local")[name] for name in images)


def test_what_is_not_pushed(hub, owner, model, key_file, tmp_path):
    src = parquet(tmp_path / "src")
    publish_plain(hub, src, private=True)
    options = ["--key", key_file, "--model", model]
    beside = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/photos")
    assert beside.returncode == 2
    assert "hf://datasets/me/photos: test-00000-of-00001.parquet: expected a repository of this data set alone" in beside.stderr
    again = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/mine")
    assert again.returncode == 0
    assert owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/mine").returncode == 0  # ours, and unchanged
    public = hub.store.repo(f"me/{DATASET}open")
    refused = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/open")
    assert refused.returncode == 2
    assert "a private repository" in refused.stderr
    assert set(public.head.files) == {".gitattributes"}
    key_text = Path(key_file).read_text()
    (owner.cwd / "ct" / "LICENSE").write_text(key_text)
    leak = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/closed")
    assert leak.returncode == 2
    assert "no secrets" in leak.stderr
    assert key_text.strip() not in leak.stderr
    (owner.cwd / "ct" / "LICENSE").unlink()
    (owner.cwd / "ct" / "plain.png").write_bytes(b"")
    stray = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/closed")
    assert stray.returncode == 2
    (owner.cwd / "ct" / "plain.png").unlink()
    shard = next((owner.cwd / "ct").glob("*.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    changed = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/closed")
    assert changed.returncode == 2
    assert f"got another size of {shard.name}" in changed.stderr
    shard.write_bytes(bytes(len(whole)))
    changed = owner.run("dataset", "encrypt", src, "ct", *options, "--push", "me/closed")
    assert changed.returncode == 2
    assert "the bytes that were written" in changed.stderr
    assert f"me/{DATASET}closed" not in hub.store.repos


def test_names_that_lead_elsewhere_are_refused(hub, owner, model, key_file, tmp_path):
    shard = next(parquet(tmp_path / "src").glob("*.parquet")).read_bytes()
    hub.store.repo(f"me/{DATASET}hostile", {"../../escaped.parquet": shard})
    run = owner.run("dataset", "encrypt", "me/hostile", "ct", "--key", key_file, "--model", model)
    assert run.returncode == 2
    assert "expected files below the data set" in run.stderr
    assert not list(tmp_path.rglob("escaped*"))


def test_a_finished_run_stays_finished_when_its_source_goes_on(hub, owner, model, key_file, tmp_path):
    repo = publish_plain(hub, parquet(tmp_path / "src"))
    options = ["--key", key_file, "--model", model]
    owner.run("dataset", "encrypt", "me/photos", "ct", *options, check=True)
    repo.add_commit("refs/heads/main", repo.head.oid, "other images", {})
    again = owner.run("dataset", "encrypt", "me/photos", "ct", *options, check=True)
    assert "written 0, kept 3" in again.stdout


READ = """
from timm_encmixer.images import open_images
images = open_images({name!r})
print(type(images).__name__, len(images))
"""


@pytest.mark.nightly
@pytest.mark.parametrize("prefix", ["", "hf://datasets/", "hf-hub:"])
def test_images_to_read_may_have_a_prefix_and_a_revision(prefix, hub, owner, tmp_path):
    repo = publish_plain(hub, parquet(tmp_path / "src"))
    assert owner.python(READ.format(name=f"{prefix}me/photos")) == "TableImages 16\n"
    first = repo.head.oid
    repo.add_commit("refs/heads/main", first, "no images any more", {})
    assert owner.python(READ.format(name=f"{prefix}me/photos@{first}")) == "TableImages 16\n"
    gone = owner.run("audit", "--images", f"{prefix}me/photos@nothing", "--only", "thumbnail")
    assert (gone.returncode, len(gone.stderr.splitlines())) == (2, 1)
    assert "no such revision" in gone.stderr
