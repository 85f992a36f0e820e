"""Whole data sets whose ciphertext is JPEG: of every kind, with their tables and patterns, resumed, verified and decrypted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import assert_no_secret
from PIL import Image

import timm_encmixer as te
from timm_encmixer.datasets import verify_dataset
from timm_encmixer.datasets.manifest import MANIFEST
from timm_encmixer.errors import SchemeError, SourceError
from timm_encmixer.scheme import Preprocessing

pytest.importorskip("datasets")
pytest.importorskip("pyarrow")
from sources import KINDS, imagefolder, read, tree

PLAIN = Preprocessing(input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def scheme(key) -> te.Scheme:
    return te.Scheme(cipher="etc", patch_size=8, plain=PLAIN, fingerprint=key.fingerprint)


def encrypt(src, dst, key, scheme, **options):
    return te.encrypt_dataset(src, dst, key, scheme, format="jpeg", progress=False, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind, scheme, key, tmp_path):
    src = KINDS[kind](tmp_path / "src")
    counts = encrypt(src, tmp_path / "ct", key, scheme, quality=95)
    te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False, strict=True)
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds
    assert verify_dataset(str(tmp_path / "back"), progress=False).holds
    client = te.create_transform(scheme, key=key)
    plain, ciphertext, back = (read(tmp_path / name, "train") for name in ("src", "ct", "back"))
    assert len(plain) == len(ciphertext) == len(back) > 0
    for before, sent, after in zip(plain, ciphertext, back, strict=True):
        (name,) = {"image", "img", "jpg"} & set(before)
        assert sent[name].format == "JPEG"
        error = np.asarray(after[name], dtype=float) - np.asarray(client.prepare(before[name]), dtype=float)
        assert np.sqrt(np.square(error).mean()) < 6  # grey levels; another key or order would give some seventy
    assert encrypt(src, tmp_path / "ct", key, scheme, quality=95).kept == counts.shards
    with pytest.raises(SourceError, match=r"different options \(jpeg_quality\)"):
        encrypt(src, tmp_path / "ct", key, scheme, quality=50)
    assert_no_secret(key, tmp_path / "ct", tmp_path / "back")


def test_names_tables_and_patterns_follow(scheme, key, photos, tmp_path):
    src = tmp_path / "src"
    (src / "train").mkdir(parents=True)
    for index, suffix in enumerate((".k.png", ".png", ".bmp")):  # in another order by their new names
        photos[index].save(src / "train" / f"a{index // 2}{suffix}")
    rows = [{"file_name": path.name, "caption": path.name} for path in sorted((src / "train").iterdir())]
    (src / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encrypt(src, tmp_path / "ct", key, scheme)
    names = [name for name in tree(tmp_path / "ct") if name.startswith("train/")]
    assert sorted(names) == ["train/a0.jpg", "train/a0.k.jpg", "train/a1.jpg", "train/metadata.jsonl"]
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds
    found = {row["caption"]: row["image"] for row in read(tmp_path / "ct", "train")}
    assert set(found) == {row["caption"] for row in rows}
    te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    assert verify_dataset(str(tmp_path / "back"), progress=False).holds
    manifest = json.loads((tmp_path / "ct" / MANIFEST).read_text())
    assert manifest["options"]["jpeg_quality"] == 85
    assert {shard["suffix"] for shard in manifest["shards"]} == {".jpg"}


def test_a_file_that_was_saved_again_is_named(scheme, key, tmp_path):
    encrypt(imagefolder(tmp_path / "src", count=3), tmp_path / "ct", key, scheme)
    victim = next((tmp_path / "ct").rglob("*.jpg"))
    Image.open(victim).save(victim, subsampling=2)
    assert not verify_dataset(str(tmp_path / "ct"), progress=False).holds


def test_png_data_sets_say_nothing_of_jpeg(scheme, key, tmp_path):
    """Earlier releases refuse fields that they do not know."""
    te.encrypt_dataset(imagefolder(tmp_path / "src", count=3), tmp_path / "ct", key, scheme, progress=False)
    manifest = (tmp_path / "ct" / MANIFEST).read_text()
    assert "jpeg" not in manifest
    assert "suffix" not in manifest


def test_other_ciphers_are_refused(key, tmp_path):
    with pytest.raises(SchemeError, match=r"png for the cipher shuffle\+negpos, got jpeg"):
        encrypt(imagefolder(tmp_path / "src", count=3), tmp_path / "ct", key, te.Scheme(patch_size=8, plain=PLAIN))
    assert not (tmp_path / "ct").exists()
