from __future__ import annotations

import copy
import json

import pytest
import torch
from PIL import Image

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images
from timm_encmixer.errors import DataError, KeyMismatchError, MissingExtraError
from timm_encmixer.evaluation.accuracy import evaluate, wrong_key
from timm_encmixer.evaluation.exactness import verify
from timm_encmixer.images.labelled import MemoryImages, TableImages, open_labelled_images


@pytest.fixture(scope="module")
def data():
    images, labels, _ = bundled_images()
    return MemoryImages(images[:200], labels[:200])


@pytest.fixture
def class_folders(tmp_path):
    images, labels, classes = bundled_images()
    for index in range(0, 480, 8):
        folder = tmp_path / "data" / classes[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        images[index].save(folder / f"{index}.png")
    return tmp_path / "data"


def test_right_key_no_key_and_wrong_keys(plain_model, key, data):
    result = evaluate(plain_model, key, data, wrong_keys=3, progress=False)
    assert result.right_key == result.plain > 0.7
    assert result.changed_top1 == 0
    assert result.max_logit_difference < 1e-4
    assert result.no_key < 0.3
    assert len(result.wrong_keys) == 3
    assert max(result.wrong_keys.values()) < 0.25
    assert json.loads(json.dumps(result.to_dict()))["cipher"] == "shuffle+negpos"


def test_encrypted_and_plain_models_give_the_same_figures(plain_model, key, data):
    from_plain = evaluate(plain_model, key, data, wrong_keys=1, limit=50, progress=False)
    from_encrypted = evaluate(te.encrypt_model(plain_model, key), key, data, wrong_keys=1, limit=50, progress=False)
    assert (from_plain.plain, from_plain.right_key, from_plain.no_key) == (
        from_encrypted.plain,
        from_encrypted.right_key,
        from_encrypted.no_key,
    )
    assert from_plain.wrong_keys == from_encrypted.wrong_keys


def test_wrong_keys_are_reproducible_and_distinct():
    assert wrong_key(0) == wrong_key(0)
    assert len({wrong_key(index).fingerprint for index in range(20)}) == 20


def test_uneven_last_batches_count_every_image_once(plain_model, key, data):
    figures = {evaluate(plain_model, key, data, limit=33, batch_size=size, progress=False).plain for size in (1, 7, 33, 64)}
    assert max(figures) - min(figures) < 1e-9


def test_errors(plain_model, key, other_key, data):
    with pytest.raises(KeyMismatchError):
        evaluate(te.encrypt_model(plain_model, key), other_key, data)
    with pytest.raises(DataError, match="at least one image"):
        evaluate(plain_model, key, MemoryImages([], []))
    with pytest.raises(DataError, match="labels from 0 to 9"):
        evaluate(plain_model, key, MemoryImages([Image.new("RGB", (32, 32))], [10]))


def test_class_folders(class_folders):
    data = open_labelled_images(str(class_folders))
    _, labels, classes = bundled_images()
    assert len(data) == 60
    assert sorted(label for _, label in data) == sorted(labels[:480:8])
    assert sorted(entry.name for entry in class_folders.iterdir()) == classes


def test_parquet_folders(tmp_path):
    datasets = pytest.importorskip("datasets")
    images, labels, classes = bundled_images()
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    table = datasets.Dataset.from_dict({"img": images[:20], "label": labels[:20]}, features=features)
    (tmp_path / "t").mkdir()
    table.to_parquet(tmp_path / "t" / "test-00000-of-00001.parquet")
    table.select(range(5)).to_parquet(tmp_path / "t" / "train-00000-of-00001.parquet")
    data = open_labelled_images(str(tmp_path / "t"))
    assert isinstance(data, TableImages)
    assert len(data) == 20
    assert [label for _, label in data] == labels[:20]
    assert len(open_labelled_images(str(tmp_path / "t"), split="train")) == 5
    with pytest.raises(DataError):
        open_labelled_images(str(tmp_path / "t"), split="none")


def test_a_missing_extra_names_its_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[data\]"'):
        open_labelled_images("owner/name")


def test_data_that_is_none(tmp_path):
    with pytest.raises(DataError, match="one folder of images per class"):
        open_labelled_images(str(tmp_path))
    (tmp_path / "x.png").touch()
    with pytest.raises(DataError, match="got a file"):
        open_labelled_images(str(tmp_path / "x.png"))


def test_verification_holds_and_notices_a_difference(plain_model, key, photos):
    images = [(str(index), photo) for index, photo in enumerate(photos[:12])]
    encrypted = te.encrypt_model(plain_model, key)
    result = verify(plain_model, encrypted, key, images, batch_size=5)
    assert result.holds
    assert len(result.rows) == 12
    assert result.spread > 1000 * result.noise_floor > 0
    off = copy.deepcopy(encrypted)
    off.stem[0].bias.data += 1e-3
    assert not verify(plain_model, off, key, images).holds
    assert not verify(torch.nn.Sequential(copy.deepcopy(plain_model).half().float()), encrypted, key, images).holds
    with pytest.raises(DataError):
        verify(plain_model, encrypted, key, [])
