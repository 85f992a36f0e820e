from __future__ import annotations

import json

import pytest
from PIL import Image

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, bundled_images


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from timm_encmixer.evaluation.demo import run_demo

    return run_demo(tmp_path_factory.mktemp("demo") / "new" / "folder", key=te.SecretKey(bytes(range(32))), wrong_keys=2)


def test_it_tells_the_whole_story(demo):
    from timm_encmixer.evaluation.demo import table

    text = table(demo)
    for evaluation in demo.evaluations:
        assert evaluation.images == 500
        assert evaluation.right_key == evaluation.plain > 0.8
        assert evaluation.changed_top1 == 0
        assert max(evaluation.wrong_keys.values()) < (0.45 if evaluation.cipher == "shuffle" else 0.25)
        assert evaluation.cipher in text
    assert text.splitlines()[-1].endswith("Read docs/security.md first.")
    assert "does not make images or weights confidential" in text


def test_the_picture_has_a_row_per_cipher_and_a_column_per_class(demo):
    with Image.open(demo.picture) as picture:
        width, height = picture.size
        assert height == 28 + 7 * (96 + 4)
        assert width > 10 * 96
        columns = [picture.crop((236, 28 + row * 100, width, 28 + row * 100 + 96)).tobytes() for row in range(7)]
    assert columns[0] == columns[5], "decrypted with the right key is the plain picture"
    assert len(set(columns)) == 6


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
