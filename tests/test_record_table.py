"""What a record is: one table of texts and answers (tests/vectors/records.json), asked of every reader in Python.

`files.test.js` asks the JavaScript client's readers.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from typing import Any

import pytest
from conftest import ROOT
from PIL import Image, PngImagePlugin

import timm_encmixer as te
from timm_encmixer.errors import ImageError, SchemeError
from timm_encmixer.images.image_record import ImageRecord

TABLE = json.loads((ROOT / "tests" / "vectors" / "records.json").read_text())["records"]
Row = dict[str, str]
OF_IMAGES = [row for row in TABLE if row["kind"] != "model"]
SIZES = {"PNG": (8, 4), "JPEG": (8, 8)}  # width and height, as the table's records say


def named(rows: list[Row]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=[row["name"] for row in rows])


def test_the_table_is_what_its_script_makes(capsys):
    script("make_records", ROOT / "tests" / "vectors").main()
    assert json.loads(capsys.readouterr().out)["records"] == TABLE


def script(name: str, folder: Any) -> Any:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_with(row: Row) -> bytes:
    """A black ciphertext whose record is the row's text."""
    file, info, text = io.BytesIO(), PngImagePlugin.PngInfo(), row["text"].encode()
    info.add(b"tEXt", b"encmixer\0" + text)
    options = {"pnginfo": info} if row["kind"] == "PNG" else {"comment": b"encmixer:" + text, "subsampling": 0}
    Image.new("RGB", SIZES[row["kind"]]).save(file, row["kind"], **options)
    return file.getvalue()


@named(OF_IMAGES)
def test_a_record_of_a_ciphertext(row):
    image = te.images.open_ciphertext(file_with(row), 3, where="file", formats=te.images.ciphertext_formats(etc_scheme()))
    if row["answer"] == "read":
        assert ImageRecord.found_in(image, where="file").size == SIZES[row["kind"]][::-1]
        return
    with pytest.raises(ImageError, match=r"^file: record: expected .*, got "):
        ImageRecord.found_in(image, where="file")
    with pytest.raises(ImageError, match=r"^file: record: expected .*, got "):
        te.images.open_plain(file_with(row), where="file")


def etc_scheme() -> te.Scheme:
    return te.Scheme(cipher="etc", patch_size=8)


@named(OF_IMAGES)
@pytest.mark.parametrize("with_package", [True, False], ids=["with the package", "alone"])
def test_a_record_that_a_server_gets(row, with_package, monkeypatch):
    if not with_package:
        monkeypatch.setitem(sys.modules, "timm_encmixer", None)
    recipe = script("ciphertext", ROOT / "examples" / "serving")
    cipher = {"cipher": "shuffle+negpos", "patch_size": 4} if row["kind"] == "PNG" else {"cipher": "etc", "patch_size": 8}
    record = {"version": 1 if row["kind"] == "PNG" else 4, **cipher, "fingerprint": "89e2c27a7d8f4efa"}
    width, height = SIZES[row["kind"]]
    config = {"encmixer": record, "pretrained_cfg": {"input_size": [3, height, width]}}
    if row["answer"] == "read":
        assert recipe.open_ciphertext(file_with(row), config).size == (width, height)
        return
    with pytest.raises(ValueError, match=r"^image: expected .*, got .*; encrypt the photo for this model"):
        recipe.open_ciphertext(file_with(row), config)


@named([row for row in TABLE if row["kind"] == "model"])
def test_a_record_of_a_model(row):
    if row["answer"] == "read":
        te.Scheme.from_json(row["text"])
        return
    with pytest.raises(SchemeError, match=r"^record.*: expected .*, got "):
        te.Scheme.from_json(row["text"])
