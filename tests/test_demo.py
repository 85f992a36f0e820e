from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, bundled_images, bundled_photo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from timm_encmixer.evaluation.demo import run_demo

    return run_demo(tmp_path_factory.mktemp("demo") / "new" / "folder", key=te.SecretKey(bytes(range(32))), wrong_keys=2)


@pytest.mark.nightly
def test_it_tells_the_whole_story(demo):
    from timm_encmixer.evaluation.demo import demo_table

    text = demo_table(demo)
    for evaluation in demo.evaluations:
        assert evaluation.images == 500
        assert evaluation.right_key == evaluation.plain > 0.8
        assert evaluation.changed_top1 == 0
        assert max(evaluation.wrong_keys.values()) < {"shuffle": 0.45, "shuffle-planes": 0.6}.get(evaluation.cipher, 0.25)
        assert evaluation.cipher in text
    assert text.splitlines()[-1].endswith("the plain weights give it away.")
    assert "does not make images or weights confidential" in text


@pytest.mark.nightly
def test_the_picture_has_a_row_per_cipher_and_a_column_per_class(demo):
    photos = 2 * (224 + 2 * 4 + 2 * 21)
    with Image.open(demo.picture) as picture:
        width, height = picture.size
        assert height == photos + 28 + 10 * (96 + 4) + 8 * 21
        assert width > 10 * 96
        rows = [photos + 28 + row * (96 + 4 + 21) for row in range(8)]
        rows += [rows[-1] + 96 + 4 + 21, rows[-1] + 2 * (96 + 4) + 21]
        columns = [picture.crop((236, top, width, top + 96)).tobytes() for top in rows]
        sides = [picture.crop((6 + 236 * column, 4, 6 + 236 * column + 224, 228)).tobytes() for column in range(4)]
    assert columns[0] == columns[7] == columns[8], "decrypted with the right key is the plain picture"
    assert len(set(columns)) == 8
    assert sides[0] == sides[2], "so it is for the photo"
    assert len(set(sides)) == 3


def test_answers_below_the_photo_are_those_of_the_models(plain_model, key, monkeypatch):
    from timm_encmixer.evaluation import demo as module

    seen = []
    monkeypatch.setattr(module, "draw_panels", lambda panels: seen.append([[c.text for c in words] for _, words in panels]))
    module.draw_photo(plain_model, key, bundled_photo("cat"), bundled_images()[2])
    (plain, right), (cipher, encrypted), (_, restored), (_, wrong) = seen[0]
    assert (plain, cipher, restored) == ("plain photo", "ciphertext", "equals the plain photo")
    assert right.removeprefix("plain model: ") == encrypted.removeprefix("encrypted model: ")
    assert right.startswith("plain model: cat, ")
    assert not wrong.startswith("wrong key: cat")


def test_a_photo_of_any_size_is_drawn_and_its_centre_is_read(plain_model, key, key_file, monkeypatch):
    from timm_encmixer.evaluation import demo as module

    drawn = []
    monkeypatch.setattr(module, "draw_panels", lambda panels: drawn.append([image for image, _ in panels]))
    photo = bundled_photo("rocket").crop((0, 0, 103, 66))  # a border of 1 or 2 px at each side that no whole block has
    te.evaluation.draw_photo(plain_model, key_file, photo, bundled_images()[2])
    te.evaluation.draw_photo(plain_model, key, photo.crop((1, 1, 101, 65)).convert("RGBA"), bundled_images()[2])
    assert drawn[0][0].shape == (3, 64, 100)
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    with pytest.raises(te.errors.ImageError, match="photo: expected at least one block of 4 x 4 px, got 3 x 9 px"):
        te.evaluation.draw_photo(plain_model, key, photo.crop((0, 0, 9, 3)), bundled_images()[2])


def test_the_bundled_images_are_real_and_labelled():
    images, labels, classes = bundled_images()
    assert (len(images), len(labels), len(classes)) == (500, 500, 10)
    assert set(labels) == set(range(10))
    assert len({image.tobytes() for image in images}) == 500


def test_the_bundled_weights_come_with_how_they_were_made():
    result = json.loads((BUNDLED_FOLDER / "training.json").read_text())
    log = (BUNDLED_FOLDER / "training-log.csv").read_text().splitlines()
    assert len(log) == result["epochs"] + 1
    assert result["test_images"] == 5000
    assert "examples/train.py" in result["command"]
