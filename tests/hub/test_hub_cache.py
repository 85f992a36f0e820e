"""The Hub's cache on this machine: what is removed from it, and what is said of it."""

from __future__ import annotations

import pytest

from timm_encmixer.hub import snapshot as module
from timm_encmixer.hub.snapshot import HubFile, Snapshot

COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache" / "models--me--m"
    for name in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / name).mkdir(parents=True)
    return folder


def snapshot_in(cache):
    return Snapshot("me/m", "main", COMMIT, {}, str(cache.parent), None)


@pytest.mark.parametrize("kind", ["entry", "blob", "folder"])
def test_a_damaged_copy_that_is_a_link_to_outside_is_unlinked_and_not_followed(kind, cache, tmp_path, monkeypatch):
    decoy = tmp_path / "thesis.txt"
    decoy.write_text("theirs")
    entry, blob = cache / "snapshots" / COMMIT / "config.json", cache / "blobs" / ("b" * 40)
    if kind == "entry":
        entry.symlink_to(decoy)
    elif kind == "blob":
        blob.symlink_to(decoy)
        entry.symlink_to(f"../../blobs/{blob.name}")
    else:  # the folder of the commit lies elsewhere
        entry.parent.rmdir()
        (tmp_path / "elsewhere").mkdir()
        entry.parent.symlink_to(tmp_path / "elsewhere")
        entry.write_text("theirs too")
    monkeypatch.setattr(Snapshot, "_download", lambda *_, **__: entry)
    with pytest.raises(OSError if kind == "folder" else ValueError, match="a place elsewhere" if kind == "folder" else "bytes"):
        snapshot_in(cache)._fetch(HubFile("config.json", 1, "c" * 40))
    assert decoy.read_text() == "theirs"
    assert kind == "folder" or not entry.is_symlink()
    assert kind != "folder" or entry.read_text() == "theirs too"


def test_a_damaged_copy_goes_with_its_blob(cache, monkeypatch):
    entry, blob = cache / "snapshots" / COMMIT / "config.json", cache / "blobs" / ("b" * 40)
    blob.write_text("damaged")
    entry.symlink_to(f"../../blobs/{blob.name}")
    monkeypatch.setattr(Snapshot, "_download", lambda *_, **__: entry)
    with pytest.raises(ValueError, match="the damaged copy was removed"):
        snapshot_in(cache)._fetch(HubFile("config.json", 1, "c" * 40))
    assert not list(entry.parent.iterdir())
    assert not list(blob.parent.iterdir())


@pytest.mark.parametrize("remembered", [True, False])
def test_a_cache_that_cannot_be_written_is_told_of_only_if_that_matters(remembered, cache, monkeypatch, caplog):
    (cache / "snapshots" / COMMIT / "config.json").write_text("{}")
    if remembered:
        (cache / "refs" / "main").write_text(COMMIT)

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module, "replacing_file", refuse)
    snapshot_in(cache)._remember_revision()
    assert ["offline use will not find this copy" in record.getMessage() for record in caplog.records] == [True] * (
        not remembered
    )
