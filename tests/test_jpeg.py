"""Ciphertext as JPEG: for the ciphers that move whole squares of 8 x 8 px, and for no others."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import io
import warnings

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT, assert_no_secret
from PIL import Image, PngImagePlugin
from skimage import data

import timm_encmixer as te
from timm_encmixer.errors import ImageError, SchemeError, SourceError
from timm_encmixer.images.image_record import ImageRecord
from timm_encmixer.scheme import Preprocessing

PLAIN = Preprocessing(input_size=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def scheme_of(cipher: str = "etc", patch: int = 16, channels: int = 3) -> te.Scheme:
    grid = (224 // patch, 224 // patch) if "scramble" in cipher else None
    plain = PLAIN if channels == 3 else Preprocessing(input_size=(1, 224, 224), mean=(0.5,), std=(0.5,))
    return te.Scheme(cipher=cipher, patch_size=patch, in_chans=channels, grid=grid, plain=plain)


def photo() -> Image.Image:
    """A real photo, smooth and sharp in places."""
    return Image.fromarray(data.astronaut())


@pytest.fixture
def album(tmp_path):
    (tmp_path / "album").mkdir()
    exif = Image.Exif()
    exif[0x013B] = "Jane Q. Identifiable"
    photo().save(tmp_path / "album" / "a.jpg", quality=95, exif=exif, comment=b"at her home", icc_profile=b"x" * 200)
    photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("L").save(tmp_path / "album" / "b.png")
    return tmp_path / "album"


def psnr(image: Image.Image, other: Image.Image) -> float:
    difference = np.asarray(image, dtype=float) - np.asarray(other, dtype=float)
    return float(10 * np.log10(255**2 / np.square(difference).mean()))


def as_jpeg(image: Image.Image, quality: int) -> tuple[int, Image.Image]:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality, subsampling=0, comment=b"")
    return len(buffer.getvalue()), Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("cipher", te.JPEG_CIPHERS)
@pytest.mark.parametrize("patch", [8, 16, 32])
@pytest.mark.parametrize("quality", [75, 85, 95])
def test_it_compresses_and_loses_as_the_plain_image_does(cipher, patch, quality, key):
    cipher = te.ImageCipher(key, scheme_of(cipher, patch))
    plain = photo().resize((224, 224))
    plain_bytes, plain_jpeg = as_jpeg(plain, quality)
    sent_bytes, sent = as_jpeg(cipher.encrypt(plain), quality)
    assert sent_bytes <= 1.15 * plain_bytes
    assert psnr(cipher.decrypt(sent), plain) > psnr(plain_jpeg, plain) - 0.5


def test_other_ciphers_do_not(key):
    cipher = te.ImageCipher(key, scheme_of("shuffle+negpos"))
    plain = photo().resize((224, 224))
    (size, sent), (plain_size, plain_jpeg) = as_jpeg(cipher.encrypt(plain), 85), as_jpeg(plain, 85)
    assert size > 2 * plain_size
    assert psnr(cipher.decrypt(sent), plain) < psnr(plain_jpeg, plain) - 5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_goes_and_comes_back(channels, album, key, tmp_path):
    scheme = scheme_of(channels=channels)
    counts = te.encrypt_images(album, tmp_path / "sent", key, scheme, format="jpeg", quality=90)
    assert counts.written == 2
    assert sorted(path.name for path in (tmp_path / "sent").iterdir()) == ["a.jpg", "b.jpg"]
    with Image.open(tmp_path / "sent" / "a.jpg") as sent:
        assert sent.format == "JPEG"
        assert len({layer[1:3] for layer in sent.layer}) == 1
        assert not sent.info.get("progressive")
        assert not sent.getexif()
        assert "icc_profile" not in sent.info
        assert ImageRecord.found_in(sent, where="a").size == (224, 224)
    assert b"Jane" not in (tmp_path / "sent" / "a.jpg").read_bytes()
    assert te.encrypt_images(album, tmp_path / "sent", key, scheme, format="jpeg", quality=90).kept == 2
    assert te.decrypt_images(tmp_path / "sent", tmp_path / "back", key, scheme, strict=True).unmarked == 0
    client = te.create_transform(scheme, key=key)
    for name in ("a.jpg", "b.png"):
        plain = client.prepare(Image.open(album / name))
        assert psnr(Image.open(tmp_path / "back" / name.replace("jpg", "png")), plain) > 30
    assert_no_secret(key, tmp_path / "sent", tmp_path / "back")


def test_a_single_file_and_its_name(album, key, tmp_path):
    te.encrypt_images(album / "a.jpg", tmp_path / "x.jpeg", key, scheme_of(), format="jpeg")
    assert Image.open(tmp_path / "x.jpeg").format == "JPEG"
    with pytest.raises(SourceError, match=r"a target that ends in \.jpg, got '\.png'; JPEG is written"):
        te.encrypt_images(album / "a.jpg", tmp_path / "x.png", key, scheme_of(), format="jpeg")
    with pytest.raises(SourceError, match=r"a PNG target, got JPEG.*format='jpeg' .--format."):
        te.encrypt_images(album / "a.jpg", tmp_path / "y.jpg", key, scheme_of())


def test_the_transform_documents_how_to_save(key, tmp_path):
    send = te.create_transform(scheme_of(), key=key, output="image")
    send(photo()).save(tmp_path / "x.jpg", quality=85, subsampling=0)
    send(photo()).save(tmp_path / "x.png", pnginfo=te.images.png_info(send(photo())))
    for name in ("x.jpg", "x.png"):
        te.decrypt_images(tmp_path / name, tmp_path / f"{name}.png", key, scheme_of(), strict=True)
    with pytest.raises(ImageError, match="a plain image, got a ciphertext of etc under the key"):
        te.encrypt_images(tmp_path / "x.jpg", tmp_path / "twice.png", key, scheme_of())


def test_stock_timm_reads_it(key, tmp_path):
    """A server: what it makes of the JPEG is the ciphertext's pixels, normalised by 1/2."""
    model = te.encrypt_model(timm.create_model("vit_tiny_patch16_224", depth=1), key, cipher="etc")
    te.create_transform(model, key=key, output="image")(photo()).save(tmp_path / "x.jpg", quality=85, subsampling=0)
    server = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    image = Image.open(tmp_path / "x.jpg")
    assert np.array_equal(server(image), te.images.normalise(timm.data.transforms.MaybePILToTensor()(image)))


CHANGES = {
    "4:2:0": ({"subsampling": 2}, r"a JPEG whose colours are not subsampled \(4:4:4\), got 4:2:0"),
    "4:2:2": ({"subsampling": 1}, r"got colours at other factors \(2 x 1, 1 x 1, 1 x 1\)"),
    "progressive": ({"subsampling": 0, "progressive": True}, "a baseline JPEG, as encmixer writes it, got a progressive one"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_that_were_saved_again(change, album, key, tmp_path):
    how, message = CHANGES[change]
    te.encrypt_images(album / "a.jpg", tmp_path / "x.jpg", key, scheme_of(), format="jpeg")
    Image.open(tmp_path / "x.jpg").save(tmp_path / "again.jpg", **how)
    with pytest.raises(ImageError, match=message):
        te.decrypt_images(tmp_path / "again.jpg", tmp_path / "y.png", key, scheme_of())
    assert not (tmp_path / "y.png").exists()


def test_files_that_were_cut_or_are_of_another_key(album, key, other_key, tmp_path):
    te.encrypt_images(album / "a.jpg", tmp_path / "x.jpg", key, scheme_of(), format="jpeg")
    Image.open(tmp_path / "x.jpg").crop((0, 0, 112, 224)).save(tmp_path / "cut.jpg", subsampling=0)
    with pytest.raises(ImageError, match="224 x 224 px, as it was written, got 224 x 112 px"):
        te.decrypt_images(tmp_path / "cut.jpg", tmp_path / "y.png", key, scheme_of())
    with pytest.raises(ImageError, match=f"under the key {other_key.fingerprint}, got the key {key.fingerprint}"):
        te.decrypt_images(tmp_path / "x.jpg", tmp_path / "y.png", other_key, scheme_of())
    with pytest.raises(ImageError, match="a ciphertext of etc, blocks of 8 px"):
        te.decrypt_images(tmp_path / "x.jpg", tmp_path / "y.png", key, scheme_of(patch=8))
    Image.open(tmp_path / "x.jpg").save(tmp_path / "bare.jpg", quality=95, subsampling=0, comment=b"")
    with pytest.warns(UserWarning, match="carries no record"):
        te.decrypt_images(tmp_path / "bare.jpg", tmp_path / "y.png", key, scheme_of())


def test_what_cannot_be_asked_for(album, key, tmp_path):
    for scheme, options, message in (
        (scheme_of("shuffle+negpos"), {"format": "jpeg"}, r"format: expected png for the cipher shuffle\+negpos, got jpeg"),
        (scheme_of(), {"format": "webp"}, "format: expected one of png, jpeg, got 'webp'"),
        (scheme_of(), {"quality": 85}, "quality: expected none for PNG"),
        (scheme_of(), {"format": "jpeg", "quality": 0}, "quality: expected a whole number from 1 to 100, got 0"),
        (scheme_of(), {"format": "jpeg", "quality": True}, "quality: expected a whole number from 1 to 100, got True"),
    ):
        with pytest.raises(SchemeError, match=message):
            te.encrypt_images(album, tmp_path / "sent", key, scheme, **options)


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=48, num_heads=2, img_size=64, num_classes=10).eval()


@pytest.mark.parametrize("cipher", te.JPEG_CIPHERS)
def test_models_are_exact_and_change_their_keys(cipher, vit, key, other_key):
    pixels = torch.rand(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = copy.deepcopy(vit).double()
    mean, std = (torch.tensor(model.pretrained_cfg[name]).double().reshape(-1, 1, 1) for name in ("mean", "std"))
    encrypted = te.encrypt_model(model, key, cipher=cipher)
    rotated = te.rotate_model(encrypted, key, other_key)
    with torch.inference_mode():
        want = model((pixels - mean) / std)
        for one, its_key in ((encrypted, key), (rotated, other_key)):
            got = one(2 * te.BlockCipher(its_key, one.encmixer).encrypt(pixels) - 1)
            assert torch.allclose(got, want, rtol=0, atol=1e-10)
    back = te.decrypt_model(rotated, other_key)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(back.parameters(), model.parameters(), strict=True))


def test_the_command_line(encmixer, vit, album, key, key_file, tmp_path):
    te.save_model(vit, tmp_path / "plain")
    done = encmixer("model", "encrypt", "plain", "etc", "--key", key_file, "--cipher", "etc")
    assert done.returncode == 0, done.stderr
    assert "etc has 31 bits of key for a block of 16 px: alone it keeps out nobody who tries" in done.stderr
    assert "etc has 31 bits of key" in encmixer("model", "info", "etc").stdout
    how = ("--key", key_file, "--model", "etc", "--format", "jpg", "--quality", "70")
    for words in (("images", "encrypt", "album", "sent", *how), ("dataset", "encrypt", "album", "data", *how)):
        done = encmixer(*words)
        assert done.returncode == 0, done.stderr
    for folder in ("sent", "data"):
        assert {path.suffix for path in (tmp_path / folder).iterdir() if path.name[0] in "ab"} == {".jpg"}
    assert encmixer("images", "decrypt", "sent", "back", *how[:4]).returncode == 0
    assert encmixer("dataset", "decrypt", "data", "plain-data", *how[:2]).returncode == 0
    refused = encmixer("images", "encrypt", "album", "other", *how[:4], "--quality", "70")
    assert refused.returncode == 2
    assert "quality: expected none for PNG" in refused.stderr


def test_models_that_do_not_fit_are_named_with_those_that_do(encmixer, key_file):
    refused = encmixer("model", "encrypt", "convmixer_768_32.in1k", "x", "--key", key_file, "--cipher", "etc")
    assert refused.returncode == 2
    assert "blocks are multiples of 8 px, got blocks of 7 px; encmixer models --etc lists those" in refused.stderr
    listed = encmixer("models", "vit_*", "--etc").stdout
    assert "vit_base_patch16_224" in listed
    assert "patch14" not in listed


def test_the_example_shows_the_claim():
    """At a small size: ciphertext JPEG costs at most 1.15 times the bytes, and as much of the answer as plain JPEG does."""
    spec = importlib.util.spec_from_file_location("jpeg_example", ROOT / "examples" / "jpeg.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=112).eval()
    args = argparse.Namespace(photos=True, limit=6, qualities=[85], ciphers=["etc", "shuffle+negpos"])
    table = example.rows(model, te.SecretKey(bytes(range(32))), args)
    found = {(quality, way): (float(ratio), float(distance)) for quality, way, _, ratio, _, distance in table[1:]}
    assert found["PNG", "etc"][1] < 1e-3
    assert found["85", "etc"][0] <= 1.15
    assert found["85", "etc"][1] <= 1.2 * found["85", "plain"][1]
    assert found["85", "shuffle+negpos"][0] > 2
    assert found["85", "shuffle+negpos"][1] > 2 * found["85", "plain"][1]


def test_a_side_that_jpeg_cannot_have_stops_no_other(key, tmp_path):
    (tmp_path / "wide").mkdir()
    Image.new("RGB", (65536, 16)).save(tmp_path / "wide" / "a.png")
    photo().resize((32, 32)).save(tmp_path / "wide" / "b.png")
    with pytest.raises(ImageError, match=r"a\.png.*at most 65500 px for JPEG.*the rest is done \(1 written\)"):
        te.encrypt_images(tmp_path / "wide", tmp_path / "sent", key, scheme_of(), format="jpeg", resize=False)
    assert [path.name for path in (tmp_path / "sent").iterdir()] == ["b.jpg"]


def test_a_second_comment_hides_no_record(album, key, tmp_path):
    te.encrypt_images(album / "a.jpg", tmp_path / "x.jpg", key, scheme_of(), format="jpeg")
    content = (tmp_path / "x.jpg").read_bytes()
    at = content.index(b"\xff\xdb")  # the tables come after the comments
    (tmp_path / "two.jpg").write_bytes(content[:at] + b"\xff\xfe\x00\x06GIMP" + content[at:])
    te.decrypt_images(tmp_path / "two.jpg", tmp_path / "y.png", key, scheme_of(), strict=True)
    with pytest.raises(ImageError, match="a plain image, got a ciphertext of etc"):
        te.encrypt_images(tmp_path / "two.jpg", tmp_path / "z.png", key, scheme_of())


def test_a_png_needs_the_record_of_a_png(key, tmp_path):
    ciphertext = te.create_transform(scheme_of(), key=key, output="image")(photo())
    info = PngImagePlugin.PngInfo()
    info.add_text(
        "encmixer", ImageRecord.of(np.asarray(ciphertext), te.ImageCipher(key, scheme_of()), lossless=False).to_text()
    )
    Image.fromarray(255 - np.asarray(ciphertext)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(ImageError, match="version 1 in PNG, got version 2"):
        te.decrypt_images(tmp_path / "x.png", tmp_path / "y.png", key, scheme_of())


def test_decrypted_images_are_png(album, key, tmp_path):
    te.encrypt_images(album / "a.jpg", tmp_path / "x.jpg", key, scheme_of(), format="jpeg")
    with pytest.raises(SourceError, match="a PNG target, got JPEG; decrypted images are written as PNG"):
        te.decrypt_images(tmp_path / "x.jpg", tmp_path / "y.jpg", key, scheme_of())


def test_the_earlier_way_to_take_jpeg_works_and_says_what_it_is_now(tmp_path, key, album):
    scheme = scheme_of().replace(fingerprint=key.fingerprint)
    te.encrypt_images(album / "a.jpg", tmp_path / "a.jpg", key, scheme, format="jpeg")
    with pytest.warns(DeprecationWarning, match=r"open_ciphertext\(jpeg=\) is now formats=te.images.ciphertext_formats"):
        before = te.images.open_ciphertext(tmp_path / "a.jpg", 3, jpeg=True)
    now = te.images.open_ciphertext(tmp_path / "a.jpg", 3, formats=te.images.ciphertext_formats(scheme))
    assert np.array_equal(np.asarray(before), np.asarray(now))
    for way in ({"jpeg": False}, {}, {"formats": te.images.ciphertext_formats(scheme_of("shuffle"))}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(ImageError, match="expected a ciphertext PNG, got JPEG; JPEG changes ciphertext"):
                te.images.open_ciphertext(tmp_path / "a.jpg", 3, **way)
