from __future__ import annotations

import io
import random
import shutil

import numpy as np
import pytest
from conftest import assert_no_secret
from PIL import Image, PngImagePlugin

import timm_encmixer as te
from timm_encmixer.errors import FileAccessError, ImageError, SchemeError, SourceError, TargetExistsError
from timm_encmixer.images.reading import open_ciphertext, open_plain, to_channels

ARTIST, COMMENT = "Jane Q. Identifiable", "taken at her home"


@pytest.fixture
def album(tmp_path, photos):
    """A tree of photos in several formats, one of them upright only by its EXIF tag and full of metadata."""
    folder = tmp_path / "album"
    (folder / "deep" / "deeper").mkdir(parents=True)
    photos[0].save(folder / "a.png")
    photos[1].save(folder / "deep" / "b.JPG", quality=95)
    photos[2].save(folder / "deep" / "deeper" / "c.bmp")
    photos[3].save(folder / "deep" / "d.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, ARTIST
    photos[4].resize((48, 32)).save(folder / "e.jpg", exif=exif, comment=COMMENT.encode())
    (folder / "notes.txt").write_text("no image")
    return folder


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_tree_and_comes_back(album, encrypted_folder, key, tmp_path):
    counts = te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert (counts.written, counts.kept, counts.passed_over) == (5, 0, 1)
    assert tree(tmp_path / "c") == ["a.png", "deep/b.png", "deep/d.png", "deep/deeper/c.png", "e.png"]
    te.decrypt_images(tmp_path / "c", tmp_path / "d", key, encrypted_folder)
    transform = te.create_transform(encrypted_folder, key=key)
    for name, source in (("a.png", "a.png"), ("deep/b.png", "deep/b.JPG"), ("e.png", "e.jpg")):
        want = transform.preprocess(open_plain(album / source)).permute(1, 2, 0).numpy()
        assert np.array_equal(np.array(Image.open(tmp_path / "d" / name)), want)
        assert not np.array_equal(np.array(Image.open(tmp_path / "c" / name)), want)
    assert_no_secret(key, tmp_path / "c", tmp_path / "d")


def test_metadata_is_dropped_and_orientation_applied(album, encrypted_folder, key, tmp_path):
    assert ARTIST.encode() in (album / "e.jpg").read_bytes()
    te.encrypt_images(album / "e.jpg", tmp_path / "e.png", key, encrypted_folder, resize=False)
    with Image.open(tmp_path / "e.png") as ciphertext:
        assert ciphertext.size == (32, 48)  # upright
        assert not ciphertext.info
        assert not ciphertext.getexif()
    content = (tmp_path / "e.png").read_bytes()
    assert ARTIST.encode() not in content
    assert COMMENT.encode() not in content


def test_what_is_there_is_kept_unless_forced(album, encrypted_folder, key, tmp_path):
    te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    (tmp_path / "c" / "a.png").write_bytes(b"mine")
    (tmp_path / "c" / "deep" / "b.png").unlink()
    counts = te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert (counts.written, counts.kept) == (1, 4)
    assert (tmp_path / "c" / "a.png").read_bytes() == b"mine"
    te.encrypt_images(album, tmp_path / "c", key, encrypted_folder, force=True)
    assert (tmp_path / "c" / "a.png").read_bytes() != b"mine"
    assert not [path for path in (tmp_path / "c").rglob(".*")]


def test_one_bad_image_does_not_stop_the_others(album, encrypted_folder, key, tmp_path):
    (album / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(ImageError, match=r"broken\.png.*1 that failed.*the rest is done"):
        te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert len(tree(tmp_path / "c")) == 5


def test_single_files_and_folder_targets(album, encrypted_folder, key, tmp_path):
    (tmp_path / "out").mkdir()
    te.encrypt_images(album / "deep" / "b.JPG", tmp_path / "out", key, encrypted_folder)
    assert tree(tmp_path / "out") == ["b.png"]


def test_jpeg_is_refused_both_ways(album, encrypted_folder, key, tmp_path):
    with pytest.raises(SourceError, match="a PNG target, got JPEG; JPEG changes ciphertext pixels"):
        te.encrypt_images(album / "a.png", tmp_path / "x.jpg", key, encrypted_folder)
    te.encrypt_images(album / "a.png", tmp_path / "x.png", key, encrypted_folder)
    Image.open(tmp_path / "x.png").save(tmp_path / "renamed.jpg", quality=100)
    shutil.copy(tmp_path / "renamed.jpg", tmp_path / "disguised.png")
    with pytest.raises(ImageError, match="a ciphertext PNG, got JPEG"):
        te.decrypt_images(tmp_path / "disguised.png", tmp_path / "y.png", key, encrypted_folder)
    assert not (tmp_path / "y.png").exists()


def test_no_resize_keeps_fitting_sizes_and_refuses_others(photos, encrypted_folder, key, tmp_path):
    photos[0].resize((64, 40)).save(tmp_path / "fits.png")
    te.encrypt_images(tmp_path / "fits.png", tmp_path / "c.png", key, encrypted_folder, resize=False)
    assert Image.open(tmp_path / "c.png").size == (64, 40)
    te.decrypt_images(tmp_path / "c.png", tmp_path / "d.png", key, encrypted_folder)
    assert np.array_equal(np.array(Image.open(tmp_path / "d.png")), np.array(photos[0].resize((64, 40))))
    photos[0].resize((63, 40)).save(tmp_path / "odd.png")
    with pytest.raises(ImageError, match="multiples of 4 px"):
        te.encrypt_images(tmp_path / "odd.png", tmp_path / "x.png", key, encrypted_folder, resize=False)


def test_refused_trees(album, encrypted_folder, plain_model, key, tmp_path):
    with pytest.raises(SourceError, match="a target outside"):
        te.encrypt_images(album, album / "c", key, encrypted_folder)
    with pytest.raises(SourceError, match=r"ends in \.png"):
        te.encrypt_images(album / "a.png", tmp_path / "x.webp", key, encrypted_folder)
    with pytest.raises(SourceError, match="the same file"):
        te.encrypt_images(album / "a.png", album / "a.png", key, encrypted_folder, force=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="a folder with images"):
        te.encrypt_images(tmp_path / "empty", tmp_path / "x", key, encrypted_folder)
    with pytest.raises(FileAccessError):
        te.encrypt_images(tmp_path / "none.png", tmp_path / "x.png", key, encrypted_folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetExistsError, match="a folder as target of a folder"):
        te.encrypt_images(album, tmp_path / "file", key, encrypted_folder)
    shutil.copy(album / "a.png", album / "a.bmp")
    with pytest.raises(TargetExistsError, match="one image per target"):
        te.encrypt_images(album, tmp_path / "x", key, encrypted_folder)
    te.save_model(te.encrypt_model(plain_model, key, cipher="orthogonal"), tmp_path / "orthogonal")
    with pytest.raises(SchemeError):
        te.decrypt_images(album / "a.png", tmp_path / "x.png", key, tmp_path / "orthogonal")


# The table of docs/images.md, row by row.


def saved(image, name, path, **options):
    image.save(path / name, **options)
    return path / name


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    path = saved(Image.fromarray(values), "x.png", tmp_path)
    assert np.asarray(to_channels(open_plain(path), 1)).tolist() == [[0, 0, 1, 1, 128, 255]]
    assert to_channels(open_plain(path), 3).mode == "RGB"


def test_floating_point_and_32_bit_pixels_are_refused():
    with pytest.raises(ImageError, match="floating-point"):
        to_channels(Image.new("F", (4, 4)), 3)
    with pytest.raises(ImageError, match="32-bit"):
        to_channels(Image.fromarray(np.array([[70000]], dtype=np.int32)), 3)


def test_palette_alpha_cmyk_and_bilevel_are_read_as_timm_reads_them(tmp_path, photos):
    for mode, name in (
        ("P", "p.png"),
        ("RGBA", "rgba.png"),
        ("LA", "la.png"),
        ("CMYK", "cmyk.jpg"),
        ("1", "bw.png"),
        ("L", "l.png"),
    ):
        path = saved(photos[0].convert(mode), name, tmp_path)
        assert np.array_equal(np.array(to_channels(open_plain(path), 3)), np.array(Image.open(path).convert("RGB"))), mode
    transparent = photos[0].convert("P")
    transparent.info["transparency"] = 0
    assert to_channels(transparent, 3).mode == "RGB"


def test_other_channel_counts_are_refused():
    with pytest.raises(ImageError, match="1 or 3 channels"):
        to_channels(Image.new("RGB", (4, 4)), 4)


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp"])
def test_animations_are_refused(tmp_path, photos, name):
    path = saved(photos[0], name, tmp_path, save_all=True, append_images=photos[1:3])
    with pytest.raises(ImageError, match="a still image, got 3 frames"):
        open_plain(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif"])
def test_truncated_and_random_files(tmp_path, photos, suffix):
    generator = random.Random(suffix)
    content = saved(photos[0], f"x.{suffix}", tmp_path).read_bytes()
    for number, damaged in enumerate([content[: len(content) // 2], content[:10], b"", generator.randbytes(500)]):
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(damaged)
        with pytest.raises((ImageError, FileAccessError), match=f"{number}.{suffix}"):
            open_plain(path)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch, photos):
    path = saved(photos[0], "x.png", tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="at most 1000 pixels"):
        open_plain(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="a decompression bomb"):
        open_plain(path)


def test_ciphertext_of_another_mode_is_refused(tmp_path, photos):
    with pytest.raises(ImageError, match="mode L"):
        open_ciphertext(saved(photos[0].convert("L"), "l.png", tmp_path), 3)
    with pytest.raises(ImageError, match="mode RGBA"):
        open_ciphertext(saved(photos[0].convert("RGBA"), "a.png", tmp_path), 3)


def test_text_chunks_of_a_png_do_not_survive(tmp_path, photos, encrypted_folder, key):
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", ARTIST)
    path = saved(photos[0], "x.png", tmp_path, pnginfo=info, icc_profile=b"profile of " + ARTIST.encode())
    te.encrypt_images(path, tmp_path / "c.png", key, encrypted_folder)
    assert ARTIST.encode() not in (tmp_path / "c.png").read_bytes()
    buffer = io.BytesIO()
    te.create_transform(encrypted_folder, key=key, output="image")(open_plain(path)).save(buffer, "PNG")
    assert ARTIST.encode() not in buffer.getvalue()
