"""What an image file is: one table of files and answers (tests/vectors/files.json, docs/images.md), asked of Python's readers.

`files.test.js` asks the JavaScript client's readers, under Node and in Chromium.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import timm_encmixer as te
from timm_encmixer.errors import ImageError
from timm_encmixer.images.codec import OwnRecords
from timm_encmixer.images.reading import open_ciphertext, open_plain, to_channels

TABLE = json.loads((ROOT / "tests" / "vectors" / "files.json").read_text())
KEY = te.SecretKey(bytes(range(32)))
MODELS = {name: te.Scheme.from_dict(fields) for name, fields in TABLE["models"].items()}
CONFIGS = {
    name: {"encmixer": fields, "architecture": "none", "pretrained_cfg": {"input_size": fields["plain"]["input_size"]}}
    for name, fields in TABLE["models"].items()
}
DECODERS_DIFFER = 40  # grey levels at most, of JPEG pixels and of those that were encoded
Row = dict[str, Any]
PLAIN = [row for row in TABLE["files"] if row["role"] == "plain"]
CIPHERTEXT = [row for row in TABLE["files"] if row["role"] == "ciphertext"]

pytestmark = pytest.mark.filterwarnings("ignore:.*APNG.*", "ignore:.*EXIF.*", "ignore:Image appears to be a malformed MPO")


def file_of(row: Row) -> bytes:
    return base64.b64decode(row["file"])


def pixels_of(row: Row) -> np.ndarray:
    return np.frombuffer(base64.b64decode(row["pixels"]), np.uint8).reshape(row["shape"])


def check(row: Row, call: Callable[[], Any], answer: str) -> None:
    """Compare a reader's answer with the table's: the pixels, or a refusal of one line with its reason."""
    if answer == "read":
        found = np.asarray(call()).reshape(row["shape"])
        off = np.abs(found.astype(int) - pixels_of(row)).max()
        assert off <= (DECODERS_DIFFER if row.get("lossy") else 0), row["name"]
        return
    with pytest.raises(ValueError, match=r"^\S[^\n]*: expected [^\n]+, got [^\n]+; [^\n]+$") as refused:
        call()
    assert re.search(row.get("reason", "record"), str(refused.value)), refused.value


def named(rows: list[Row]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.parametrize("row", rows, ids=[row["name"] for row in rows])


def test_the_table_is_what_its_script_makes_and_that_of_the_document(monkeypatch):
    """The script's encoder of JPEG is Pillow's, which may change: of the files only the rows and the answers are compared."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "vectors")
    made = importlib.import_module("make_files").rows()
    without_file = [
        [{name: value for name, value in row.items() if name != "file"} for row in rows] for rows in (made, TABLE["files"])
    ]
    assert without_file[0] == without_file[1]
    document = (ROOT / "docs" / "images.md").read_text()
    for row in {row["row"] for row in TABLE["files"]}:
        assert f"\n| {row} |" in document, row


@named(PLAIN)
def test_a_file_to_be_encrypted(row):
    """As `encmixer images encrypt` and data sets read it."""
    check(row, lambda: to_channels(open_plain(file_of(row), where="file"), 3), row["answer"])


@named([row for row in PLAIN if "WebP" not in row["name"] or row["answer"] == "read"])
def test_an_image_that_pillow_has_opened(row):
    """As `create_transform` gets it; Pillow itself refuses some of them."""
    transform = te.images.ClientTransform(te.ImageCipher(KEY, MODELS["colour"]), resize=False)
    try:
        image = Image.open(io.BytesIO(file_of(row)))
    except (OSError, ValueError, SyntaxError):
        pytest.skip("Pillow does not open it")
    place = image.fp.tell()
    check(row, lambda: transform.prepare(image), row["answer"])
    if image.format == "PNG":
        assert image.fp.tell() == place  # it stays as it is
    if row["row"].startswith(("EXIF", "a ciphertext", "animated")) and "behind the pixels" not in row["name"]:
        loaded = Image.open(io.BytesIO(file_of(row)))
        try:
            loaded.load()
        except (OSError, ValueError, SyntaxError, ZeroDivisionError):
            return
        check(row, lambda: transform.prepare(loaded), row["answer"])
        if row["name"] == "JPEG, orientation 6, in XMP" and "xmp" not in loaded.info:
            return  # Pillow before 11 does not keep it in copies
        if not row["row"].startswith("animated") and ("comment" not in row["name"] or "in a comment" in row["name"]):
            check(row, lambda: transform.prepare(loaded.convert("RGB")), row["answer"])  # a copy says the same


@named(CIPHERTEXT)
def test_a_file_to_be_decrypted(row):
    scheme = MODELS[row["model"]]

    def read(*, strict: bool, key: te.SecretKey = KEY) -> Image.Image:
        formats = te.images.ciphertext_formats(scheme)
        image = open_ciphertext(file_of(row), scheme.in_chans, where="file", formats=formats)
        marked = te.images.check_ciphertext(image, te.ImageCipher(key, scheme), where="file", strict=strict)
        assert marked == (row["answer"] == "read")
        return image

    check(row, partial(read, strict=False), "read" if row["answer"] == "unmarked" else row["answer"])
    check(row, partial(read, strict=True), row["answer"])


@named(CIPHERTEXT)
def test_a_file_that_is_decrypted_by_its_own_record(row):
    (made,) = OwnRecords(KEY)([file_of(row)], ["file"])
    if row["answer"] != "read":  # here no model is named: it may be of another cipher, or of other channels
        taken = row["name"] in ("ciphertext PNG of another cipher", "grey ciphertext JPEG for colours")
        assert isinstance(made, bytes if taken else ImageError), made
        return
    assert isinstance(made, bytes), made
    plain = np.asarray(Image.open(io.BytesIO(made))).reshape(row["shape"])
    check(row, lambda: te.ImageCipher(KEY, MODELS[row["model"]]).encrypt(plain), "read")


def recipe(*, with_package: bool) -> Any:
    """examples/serving/ciphertext.py, beside timm_encmixer or without it."""
    spec = importlib.util.spec_from_file_location("ciphertext", ROOT / "examples" / "serving" / "ciphertext.py")
    module = importlib.util.module_from_spec(spec)
    hidden = {} if with_package else {"timm_encmixer": None}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hidden.items():
            patch.setitem(sys.modules, name, value)
        spec.loader.exec_module(module)
    assert (module.te is not None) == with_package
    return module


@pytest.fixture(scope="module", params=[True, False], ids=["with the package", "alone"])
def server(request) -> Any:
    return recipe(with_package=request.param)


@named(CIPHERTEXT)
def test_a_file_that_a_server_gets(server, row):
    config, text = CONFIGS[row["model"]], row["file"]
    check(row, lambda: server.open_ciphertext(file_of(row), config), row["answer"])
    check(row, lambda: server.open_ciphertext(text, config), row["answer"])
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    check(row, lambda: server.open_ciphertext(f"data:image/png;base64,{lines}\n", config), row["answer"])


@named(CIPHERTEXT)
def test_an_image_that_a_server_has_opened(server, row):
    """An endpoint opens the body of a request and makes RGB of it: then a JPEG does not show what it was."""
    try:
        image = Image.open(io.BytesIO(file_of(row)))
        converted = Image.open(io.BytesIO(file_of(row))).convert("RGB")
    except (OSError, ValueError, SyntaxError):
        pytest.skip("Pillow does not open it")
    config, is_jpeg = CONFIGS[row["model"]], image.format in ("JPEG", "MPO")
    hidden = is_jpeg and "behind the pixels" in row["name"] and server.te is None  # of an opened file Pillow has read the start
    if not hidden and row["row"] != "truncated or damaged":
        check(row, lambda: server.open_ciphertext(image, config), row["answer"])
    if row["row"].startswith(("truncated", "animated")):
        return  # a copy shows neither
    if row["answer"] != "read" or is_jpeg:
        with pytest.raises(ValueError, match=r"^image: expected .*, got .*; encrypt the photo"):
            server.open_ciphertext(converted, config)
    elif "16-bit grey" not in row["name"]:  # Pillow's conversion clips it
        check(row, lambda: server.open_ciphertext(converted, config), "read")


def test_a_server_without_the_package_needs_nothing_of_it():
    code = "import sys; sys.modules['timm_encmixer'] = None; import ciphertext; print(ciphertext.te)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "examples" / "serving", capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
