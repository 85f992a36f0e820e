"""A new format of image files is one new file: the command line, the codec and the reader follow from it."""

from __future__ import annotations

import re

import processes
import pytest
from conftest import ROOT
from package_copy import with_file
from PIL import features

FORMAT = '''
import io
from dataclasses import dataclass

from timm_encmixer.ciphers.formats import to_pil
from timm_encmixer.files import FileKind
from timm_encmixer.images.formats.base import FileFormat


@dataclass(frozen=True)
class WebP(FileFormat):
    """Lossless WebP, whose record is an XMP packet."""

    def keeps(self, scheme):
        return True

    def encoder(self, setting):
        def encode(pixels, record):
            buffer = io.BytesIO()
            to_pil(pixels).convert("RGB").save(buffer, format="WEBP", lossless=True, method=setting, xmp=record or b"")
            return buffer.getvalue()

        return encode

    def record_in(self, image):
        packet = image.info.get("xmp", b"")
        return packet.decode() if packet.startswith(b"{") else None

    def attach(self, image, record):
        pass

    def refuse_changed(self, image, *, where):
        pass


FORMAT = WebP("WEBP", (".webp",), FileKind("a WebP file", b"WEBP", 8), True, range(7), 0, 0)
'''
THERE_AND_BACK = """
import sys, warnings
import numpy as np
from pathlib import Path
from PIL import Image
import timm_encmixer as te
from timm_encmixer.images.file_format import FORMATS
from timm_encmixer.scheme import Preprocessing

key, here = te.SecretKey(bytes(range(32))), Path(".")
plain = Preprocessing(input_size=(3, 32, 48), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
record = te.Scheme(cipher="shuffle+negpos", patch_size=4, plain=plain, fingerprint=key.fingerprint)
pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
Path("photos").mkdir()
Image.fromarray(pixels).save("photos/a.png")
for name in ("webp", "png"):
    assert te.encrypt_images("photos", name, key, record, resize=False, format=name).written == 1
    te.decrypt_images(name, f"{name}-plain", key, record, strict=True)
    assert np.array_equal(np.asarray(Image.open(f"{name}-plain/a.png")), pixels), name
assert te.encrypt_images("photos", "webp", key, record, resize=False, format="webp").kept == 1
with Image.open("webp/a.webp") as webp, Image.open("png/a.png") as png:
    assert webp.format == "WEBP"
    assert np.array_equal(np.asarray(webp), np.asarray(png))
    assert te.images.ImageRecord.found_in(webp, where="a") == te.images.ImageRecord.found_in(png, where="a")
    changed = webp.convert("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    changed.save("changed.webp", lossless=True, xmp=webp.info["xmp"])
for act, said in {
    lambda: te.decrypt_images("changed.webp", "changed.png", key, record): "the pixels that were written",
    lambda: te.encrypt_images("webp/a.webp", "b.png", key, record, resize=False): "a plain image, got a ciphertext",
    lambda: te.encrypt_images("photos/a.png", "b.jpg", key, record, format="webp"): "expected a WEBP target, got JPEG",
    lambda: te.encrypt_dataset("photos", "data", key, record, format="webp"): "one that a manifest can name, got WEBP",
}.items():
    try:
        act()
    except te.EncMixerError as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)
print(list(FORMATS))
"""


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow has no WebP")
def test_a_file_is_all_that_a_new_format_needs(tmp_path):
    env = with_file(tmp_path, "images/formats/webp.py", FORMAT)
    done = processes.run(["-c", THERE_AND_BACK], env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['png', 'jpeg', 'webp']\n"


def test_the_command_line_offers_a_new_format_and_imports_none_for_its_name(tmp_path):
    env = with_file(tmp_path, "images/formats/webp.py", "raise RuntimeError('nobody imports a format for its name')")
    helped = processes.run(["-m", "timm_encmixer", "images", "encrypt", "--help"], env=env, cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    assert "[png|jpeg|webp]" in helped.stdout


def test_nobody_but_the_formats_says_what_jpeg_is():
    for path in (ROOT / "timm_encmixer").rglob("*.py"):
        if path.parent.name != "formats" and path.name != "reading.py":  # whose argument `jpeg` is on its way out
            assert not re.search(r"(?<!takes_)\bjpeg=(?!\))", path.read_text()), path
            assert "is JPEG" not in path.read_text(), path
