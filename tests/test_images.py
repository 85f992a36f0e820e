from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from conftest import assert_no_secret
from PIL import Image, ImageOps, PngImagePlugin

import timm_encmixer as te
from timm_encmixer.datasets import describe_dataset
from timm_encmixer.errors import FileAccessError, ImageError, SchemeError, SourceError, TargetExistsError
from timm_encmixer.images import pillow
from timm_encmixer.images.image_record import ImageRecord, attach_record, png_info
from timm_encmixer.images.reading import open_ciphertext, open_plain, opened_plain, to_channels

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
        assert set(ciphertext.info) == {"encmixer"}
        assert not ciphertext.getexif()
    content = (tmp_path / "e.png").read_bytes()
    assert ARTIST.encode() not in content
    assert COMMENT.encode() not in content


THINGS_AT_A_TARGET = {
    "something else": lambda path, _: path.write_bytes(b"mine"),
    "nothing in it": lambda path, _: path.write_bytes(b""),
    "cut": lambda path, other: path.write_bytes(other.read_bytes()[:-200]),
    "another image's": lambda path, other: shutil.copy(other.with_name("e.png"), path),
    "without its record": lambda path, other: Image.open(other).save(path),
    "link": lambda path, _: path.symlink_to("nowhere"),
    "folder": lambda path, _: path.mkdir(),
}


@pytest.mark.parametrize("thing", THINGS_AT_A_TARGET)
def test_only_what_this_run_would_write_is_kept(thing, album, encrypted_folder, key, tmp_path):
    te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    te.encrypt_images(album, tmp_path / "other", key, encrypted_folder)
    (tmp_path / "c" / "a.png").unlink()
    THINGS_AT_A_TARGET[thing](tmp_path / "c" / "a.png", tmp_path / "other" / "a.png")
    (tmp_path / "c" / "deep" / "b.png").unlink()
    before = left_alone(tmp_path / "c" / "a.png")
    with pytest.raises(TargetExistsError, match=r"c/a\.png.*got another image, or one.*--force"):
        te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert left_alone(tmp_path / "c" / "a.png") == before
    assert (tmp_path / "c" / "deep" / "b.png").read_bytes() == (tmp_path / "other" / "deep" / "b.png").read_bytes()
    if thing in ("link", "folder", "something else"):
        with pytest.raises((TargetExistsError, ImageError)):
            te.encrypt_images(album, tmp_path / "c", key, encrypted_folder, force=True)
        assert left_alone(tmp_path / "c" / "a.png") == before
    else:
        assert te.encrypt_images(album, tmp_path / "c", key, encrypted_folder, force=True).written == 5
        assert (tmp_path / "c" / "a.png").read_bytes() == (tmp_path / "other" / "a.png").read_bytes()
    assert not [path for path in (tmp_path / "c").rglob(".*")]


def test_links_in_a_target_lead_nothing_out_of_it(album, encrypted_folder, key, tmp_path):
    (tmp_path / "decoy").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "deep").symlink_to(tmp_path / "decoy")
    with pytest.raises((FileAccessError, ImageError), match="a place elsewhere; look at its links"):
        te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert not list((tmp_path / "decoy").iterdir())
    (tmp_path / "link").symlink_to("decoy")  # the target itself may be one: it was named
    te.encrypt_images(album, tmp_path / "link", key, encrypted_folder)
    assert len(tree(tmp_path / "decoy")) == 5


@pytest.mark.parametrize("thing", ["link", "file", "pipe"])
def test_what_force_does_not_replace(thing, photos, encrypted_folder, key, tmp_path):
    photos[0].save(tmp_path / "x.png")
    target = tmp_path / "y.png"
    makers = {"link": lambda: target.symlink_to("z.png"), "file": lambda: target.write_text("a thesis")}
    makers.get(thing, lambda: os.mkfifo(target))()
    got = {"link": "a symbolic link", "file": "a file of another kind", "pipe": "a pipe, device or socket"}[thing]
    before = left_alone(target)
    with pytest.raises(TargetExistsError, match=f"got {got}"):
        te.encrypt_images(tmp_path / "x.png", target, key, encrypted_folder, force=True)
    assert left_alone(target) == before


def left_alone(path):
    """What changes when a path is written or replaced. Looking at it may change the time of the last access."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def test_a_run_is_taken_up_again_and_nothing_old_is_kept(album, encrypted_folder, plain_model, key, other_key, tmp_path):
    """After a rotation, with another cipher, another option or another source the old ciphertexts are named, not kept."""
    te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    (tmp_path / "c" / "deep" / "b.png").unlink()
    counts = te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert (counts.written, counts.kept) == (1, 4)
    rotated = te.rotate_model(te.encrypt_model(plain_model, key), key, other_key)
    negpos = te.encrypt_model(plain_model, key, cipher="negpos")
    for new_key, model in ((other_key, rotated), (key, negpos)):
        with pytest.raises(TargetExistsError, match="5 that failed"):
            te.encrypt_images(album, tmp_path / "c", new_key, model)
    Image.new("RGB", (32, 32)).save(album / "a.png")
    with pytest.raises(TargetExistsError, match=r"a\.png.*1 that failed"):
        te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    te.decrypt_images(tmp_path / "c", tmp_path / "d", key, encrypted_folder)
    assert te.decrypt_images(tmp_path / "c", tmp_path / "d", key, encrypted_folder).kept == 5


def test_two_runs_at_once_are_both_right(album, encrypted_folder, key, tmp_path):
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(te.encrypt_images, album, tmp_path / "c", key, encrypted_folder) for _ in range(2)]
        counts = [run.result() for run in runs]
    assert sum(count.written for count in counts) == 5
    assert all(count.written + count.kept == 5 for count in counts)


# What a ciphertext says of itself.


@pytest.mark.parametrize("how", ["iTXt", "zTXt", "behind the pixels"])
def test_the_record_in_other_chunks(how, photos, encrypted_folder, key, tmp_path):
    """Other software may write the same text in another kind of chunk, or in another place."""
    ciphertext = te.create_transform(encrypted_folder, key=key, output="image")(photos[0])
    text, info = ciphertext.info["encmixer"], PngImagePlugin.PngInfo()
    if how == "iTXt":
        info.add_itxt("encmixer", text)
    else:
        info.add_text("encmixer", text, zip=how == "zTXt")
    plain = ciphertext.copy()
    plain.info.clear()
    plain.save(tmp_path / "c.png", pnginfo=info)
    if how == "behind the pixels":
        content = (tmp_path / "c.png").read_bytes()
        length = 12 + len("encmixer") + 1 + len(text)
        (tmp_path / "c.png").write_bytes(content[:33] + content[33 + length : -12] + content[33 : 33 + length] + content[-12:])
    assert te.decrypt_images(tmp_path / "c.png", tmp_path / "d.png", key, encrypted_folder).unmarked == 0
    with pytest.raises(ImageError, match="a plain image, got a ciphertext"):
        te.encrypt_images(tmp_path / "c.png", tmp_path / "cc.png", key, encrypted_folder)


def changed(how, image):
    """A ciphertext after other software had it, with the text chunks that it had."""
    if how == "saved again":
        return image.copy()
    if how == "JPEG and back":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=100)
        return Image.open(buffer)
    sizes = {"resized": image.resize((64, 64)), "cropped": image.crop((0, 0, 16, 32))}
    return sizes.get(how) or {"turned": image.rotate(90), "mirrored": ImageOps.mirror(image)}[how]


@pytest.mark.parametrize("how", ["saved again", "resized", "cropped", "turned", "mirrored", "JPEG and back"])
def test_a_changed_ciphertext_is_refused_with_the_reason(how, photos, encrypted_folder, key, tmp_path):
    photos[0].save(tmp_path / "x.png")
    te.encrypt_images(tmp_path / "x.png", tmp_path / "c.png", key, encrypted_folder)
    with Image.open(tmp_path / "c.png") as ciphertext:
        changed(how, ciphertext).save(tmp_path / "changed.png", pnginfo=png_info(ciphertext))
    if how == "saved again":
        te.decrypt_images(tmp_path / "changed.png", tmp_path / "d.png", key, encrypted_folder)
        return
    reason = "as it was written, got" if how in ("resized", "cropped") else "the pixels that were written, got others"
    with pytest.raises(ImageError, match=f"{reason}.*must not be resized, cropped, turned or recompressed"):
        te.decrypt_images(tmp_path / "changed.png", tmp_path / "d.png", key, encrypted_folder)
    assert not (tmp_path / "d.png").exists()


def test_ciphertext_of_another_key_or_cipher_and_ciphertext_twice(
    photos, encrypted_folder, plain_model, key, other_key, tmp_path
):
    photos[0].save(tmp_path / "x.png")
    te.encrypt_images(tmp_path / "x.png", tmp_path / "c.png", key, encrypted_folder)
    others = {
        f"under the key {other_key.fingerprint}, got the key {key.fingerprint}": (other_key, "shuffle+negpos"),
        "a ciphertext of negpos, blocks of 4 px, got shuffle": (key, "negpos"),
    }
    for message, (owner, cipher) in others.items():
        model = te.encrypt_model(plain_model, owner, cipher=cipher)
        with pytest.raises(ImageError, match=message):
            te.decrypt_images(tmp_path / "c.png", tmp_path / "d.png", owner, model)
    with pytest.raises(ImageError, match=f"a plain image, got a ciphertext of shuffle.negpos under the key {key.fingerprint}"):
        te.encrypt_images(tmp_path / "c.png", tmp_path / "cc.png", key, encrypted_folder)
    transform = te.create_transform(encrypted_folder, key=key)
    with pytest.raises(ImageError, match="a plain image, got a ciphertext"), Image.open(tmp_path / "c.png") as image:
        transform(image)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["c.png", "x.png"]


def test_ciphertext_without_a_record_is_told_of_once_or_refused(album, encrypted_folder, key, tmp_path):
    te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    for path in (tmp_path / "c").rglob("*.png"):
        image = Image.open(path).copy()
        image.info.clear()
        image.save(path)
    with pytest.warns(UserWarning, match=r"a\.png: this ciphertext carries no record.*; there are 5") as told:
        counts = te.decrypt_images(tmp_path / "c", tmp_path / "d", key, encrypted_folder)
    assert (len(told), counts.unmarked) == (1, 5)
    with pytest.raises(ImageError, match=r"5 that failed.*no record in the file"):
        te.decrypt_images(tmp_path / "c", tmp_path / "dd", key, encrypted_folder, strict=True)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version":1}', '{"version":2,"cipher":"x"}', '{"version":1,"cipher":"a","patch_size":"4"}']
)
def test_a_malformed_record_is_one_error(text, photos, encrypted_folder, key, tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("encmixer", text)
    photos[0].save(tmp_path / "x.png", pnginfo=info)
    for call in (te.encrypt_images, te.decrypt_images):
        with pytest.raises(ImageError, match=r"x\.png: record: expected what docs/format\.md describes"):
            call(tmp_path / "x.png", tmp_path / "y.png", key, encrypted_folder)


def test_the_record_is_small_public_and_kept_by_save(photos, encrypted_folder, plain_model, key, tmp_path):
    ciphertext = te.create_transform(encrypted_folder, key=key, output="image")(photos[0])
    ciphertext.save(tmp_path / "by-save.png")
    Image.open(tmp_path / "by-save.png").save(tmp_path / "bare.png")
    added = (tmp_path / "by-save.png").stat().st_size - (tmp_path / "bare.png").stat().st_size
    assert 0 < added <= 200
    assert (
        len(
            ImageRecord(
                cipher="shuffle+negpos+scramble", patch_size=32, size=(65535, 65535), fingerprint="0" * 16, digest="0" * 8
            ).to_text()
        )
        + len("encmixer")
        + 13
        <= 200
    )
    photos[0].save(tmp_path / "x.png")
    te.encrypt_images(tmp_path / "x.png", tmp_path / "by-command.png", key, encrypted_folder)
    texts = [Image.open(tmp_path / name).info["encmixer"] for name in ("by-save.png", "by-command.png")]
    assert texts[0] == texts[1]
    pixels = np.asarray(Image.open(tmp_path / "by-save.png"))
    assert json.loads(texts[0]) == {
        "version": 1,
        "cipher": "shuffle+negpos",
        "patch_size": 4,
        "size": [32, 32],
        "fingerprint": key.fingerprint,
        "digest": f"{zlib.crc32(pixels.tobytes()):08x}",
    }
    assert_no_secret(key, tmp_path / "by-save.png")


def test_old_ciphertext_keeps_decrypting(photos, encrypted_folder, key, tmp_path):
    """Before there were records, files held pixels only."""
    cipher = te.create_transform(encrypted_folder, key=key).cipher
    cipher.encrypt(photos[0]).save(tmp_path / "old.png")
    with pytest.warns(UserWarning, match="carries no record"):
        te.decrypt_images(tmp_path / "old.png", tmp_path / "d.png", key, encrypted_folder)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "d.png")), np.asarray(photos[0]))


def test_what_is_left_out_is_counted_by_reason(album, encrypted_folder, key, tmp_path):
    (album / ".hidden").mkdir()
    (album / "__MACOSX").mkdir()
    shutil.copy(album / "a.png", album / "._a.png")
    os.mkfifo(album / "pipe.png")
    (album / "linked").symlink_to(album / "deep")
    (album / "zero.png").symlink_to("/dev/zero")
    (album / "link.png").symlink_to("a.png")
    counts = te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert counts.written == 6  # a link to a file is followed
    assert counts.left_out == {
        "hidden": (".hidden", "__MACOSX", "._a.png"),
        "linked": ("linked",),
        "special": ("pipe.png", "zero.png"),
        "suffix": ("notes.txt",),
    }
    (album / "dangling.png").symlink_to("nowhere")
    with pytest.raises(FileAccessError, match=r"dangling\.png: expected a file to read"):
        te.encrypt_images(album, tmp_path / "cc", key, encrypted_folder)
    assert not (tmp_path / "cc").exists()


def test_two_images_of_one_target_are_named_and_the_others_done(album, encrypted_folder, key, tmp_path):
    shutil.copy(album / "a.png", album / "a.bmp")
    with pytest.raises(TargetExistsError, match=r"a\.bmp.*2 that failed.*got 2: a\.bmp, a\.png; rename all but one"):
        te.encrypt_images(album, tmp_path / "c", key, encrypted_folder)
    assert tree(tmp_path / "c") == ["deep/b.png", "deep/d.png", "deep/deeper/c.png", "e.png"]


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "x" * 251 + ".jpg", "\udce9\udcff.png"])
def test_long_names_and_names_that_are_not_utf_8(name, photos, encrypted_folder, key, tmp_path):
    (tmp_path / "album").mkdir()
    photos[0].save(tmp_path / "album" / name)
    te.encrypt_images(tmp_path / "album", tmp_path / "c", key, encrypted_folder)
    te.decrypt_images(tmp_path / "c", tmp_path / "d", key, encrypted_folder)
    assert len(tree(tmp_path / "d")) == 1


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
    for nowhere in ("", "a\0b", 3):
        with pytest.raises(FileAccessError, match="dst: expected a path"):
            te.encrypt_images(album, nowhere, key, encrypted_folder)
    te.save_model(te.encrypt_model(plain_model, key, cipher="orthogonal"), tmp_path / "orthogonal")
    with pytest.raises(SchemeError):
        te.decrypt_images(album / "a.png", tmp_path / "x.png", key, tmp_path / "orthogonal")


# Rows of docs/images.md that are no files of tests/vectors/files.json, and what files of the table do in folders.


def test_heic_is_named_with_the_package_that_reads_it(tmp_path, photos, encrypted_folder, key, monkeypatch):
    """It is an image, so it is never passed over; under another suffix too, as phones and messengers name it."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    pillow._registered.cache_clear()
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (tmp_path / "album").mkdir()
    for name in ("a.heic", "b.HEIF", "c.jpg"):
        (tmp_path / "album" / name).write_bytes(head + bytes(100))
    photos[0].save(tmp_path / "album" / "d.png")
    named = (
        r"a\.heic.*3 that failed, .*expected a format that Pillow reads here, got HEIC; pip install pillow-heif, or convert it"
    )
    with pytest.raises(ImageError, match=named):
        te.encrypt_images(tmp_path / "album", tmp_path / "c", key, encrypted_folder)
    assert tree(tmp_path / "c") == ["d.png"]
    (tmp_path / "album" / "x.jxl").write_bytes(b"\xff\x0a" + bytes(100))
    with pytest.raises(ImageError, match=r"got JPEG XL; pip install pillow-jxl-plugin"):
        open_plain(tmp_path / "album" / "x.jxl")


def test_a_package_that_reads_heic_is_used_where_it_is_installed(tmp_path, photos):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed here")
    pillow._registered.cache_clear()
    heif.from_pillow(photos[0]).save(tmp_path / "x.heic", quality=-1)
    for name in ("x.heic", "x.jpg"):
        (tmp_path / name).write_bytes((tmp_path / "x.heic").read_bytes())
        assert np.abs(np.asarray(open_plain(tmp_path / name)).astype(int) - np.asarray(photos[0])).mean() < 8


def test_a_folder_without_images_says_what_is_there(tmp_path, encrypted_folder, key):
    (tmp_path / "notes").mkdir()
    for name in ("a.txt", "b.txt", ".hidden"):
        (tmp_path / "notes" / name).write_text("no image")
    got = r"got 1 left out as hidden \(\.hidden\), 2 left out as suffix \(a\.txt\)"
    with pytest.raises(SourceError, match=got):
        te.encrypt_images(tmp_path / "notes", tmp_path / "c", key, encrypted_folder)


def test_16_bit_greys_take_memory_in_proportion_to_their_pixels(tmp_path):
    side = 3000
    pixels = np.arange(side * side, dtype=np.uint32).astype(np.uint16).reshape(side, side)
    Image.fromarray(pixels).save(tmp_path / "x.png", compress_level=1)
    image = open_plain(tmp_path / "x.png")
    tracemalloc.start()
    scaled = to_channels(image, 1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * side * side  # bytes, numpy's: the result, and a band of 64-bit numbers
    assert np.array_equal(np.asarray(scaled), (pixels.astype(np.int64) + 128) // 257)


def test_a_record_behind_the_pixels_is_found_without_a_model(photos, encrypted_folder, key, tmp_path):
    """ImageMagick writes it there."""
    te.encrypt_images(saved(photos[0], "a.png", tmp_path), tmp_path / "b.png", key, encrypted_folder, resize=False)
    with Image.open(tmp_path / "b.png") as image:
        chunk = 12 + len("encmixer") + 1 + len(image.info["encmixer"])
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "c.png").write_bytes(
        content[:33] + content[33 + chunk : -12] + content[33 : 33 + chunk] + content[-12:]
    )
    assert te.decrypt_images(tmp_path / "sent", tmp_path / "d", key).unmarked == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "d" / "c.png")), np.asarray(photos[0]))
    assert describe_dataset(str(tmp_path / "sent"))["image_record"]["fingerprint"] == key.fingerprint


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_a_ciphertext_that_was_made_smaller_is_decrypted_with_a_model_and_without(mode, key, tmp_path):
    """As optipng and its like write two colours; the pixels and the record are the same."""
    scheme = te.Scheme(cipher="etc", patch_size=8)
    plain = Image.fromarray(np.kron(np.eye(4, 6), np.ones((4, 4))).astype(np.uint8) * 255).convert("RGB")
    sent = te.ImageCipher(key, scheme).encrypt(plain)
    attach_record(sent, te.ImageCipher(key, scheme))
    sent.convert(mode).save(tmp_path / "sent.png", pnginfo=png_info(sent))
    for name, model in (("with", scheme), ("without", None)):
        te.decrypt_images(tmp_path / "sent.png", tmp_path / f"{name}.png", key, model, strict=True)
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), np.asarray(plain)), name


def test_a_tiff_that_lies_is_turned_once(tmp_path, photos):
    exif = Image.Exif()
    exif[0x0112] = 6
    photos[0].resize((24, 16)).save(tmp_path / "x.tif", exif=exif)
    upright = open_plain(tmp_path / "x.tif")
    assert upright.size == (16, 24)
    with Image.open(tmp_path / "x.tif") as image:
        assert np.array_equal(np.asarray(opened_plain(image)), np.asarray(upright))
    assert np.array_equal(np.asarray(opened_plain(upright)), np.asarray(upright))


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


def test_32_bit_files_are_refused_whatever_their_values(tmp_path):
    """Values of 8 bits in 32-bit pixels became black when they were taken for 16-bit ones."""
    Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="8 or 16 bits per pixel, got 32-bit pixels"):
        open_plain(tmp_path / "x.tif")
    with Image.open(tmp_path / "x.tif") as image, pytest.raises(ImageError, match="32-bit pixels"):
        to_channels(image, 3)
    (tmp_path / "x.pgm").write_bytes(b"P5 2 1 65535 " + bytes([0, 0, 255, 255]))
    assert np.asarray(to_channels(open_plain(tmp_path / "x.pgm"), 1)).tolist() == [[0, 255]]


def test_of_a_phones_two_pictures_the_first_is_the_photo(photos, tmp_path):
    photos[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[photos[1]])
    with Image.open(tmp_path / "x.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    photos[0].save(tmp_path / "one.jpg", "JPEG")
    assert np.array_equal(np.asarray(open_plain(tmp_path / "x.jpg")), np.asarray(open_plain(tmp_path / "one.jpg")))


def test_several_pages_are_refused(photos, tmp_path):
    photos[0].save(tmp_path / "x.tif", save_all=True, append_images=[photos[1].copy()])
    with pytest.raises(ImageError, match="a still image, got 2 frames"):
        open_plain(tmp_path / "x.tif")


@pytest.mark.parametrize(("mode", "channels"), [("La", 1), ("La", 3), ("LAB", 1)])
def test_modes_that_pillow_does_not_convert(mode, channels):
    with pytest.raises(ImageError, match=f"got mode {mode}; convert it first"):
        to_channels(Image.new(mode, (4, 4)), channels)


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


FORMATS = ("bmp", "dds", "dib", "gif", "ico", "im", "jp2", "jpg", "mpo", "msp", "pcx", "png", "ppm", "sgi", "spi", "tga", "tif")
WITH_FRAMES = ("gif", "mpo", "png", "tif", "webp")


@pytest.mark.filterwarnings("ignore")  # Pillow's own, of damage that it reads over
@pytest.mark.parametrize("suffix", [*FORMATS, "webp", "xbm"])
def test_damaged_files_of_every_format_are_one_error(suffix, photos):
    """Cut at every length, and with bytes changed: Pillow's parsers raise what they like, this package one error."""
    generator = random.Random(suffix)
    mode = {"msp": "1", "xbm": "1", "spi": "F"}.get(suffix, "RGB")
    first, second = (photo.resize((16, 16)).convert(mode) for photo in photos[:2])
    several = {"save_all": True, "append_images": [second]} if suffix in WITH_FRAMES else {}
    buffer = io.BytesIO()
    first.save(buffer, {"spi": "SPIDER"}.get(suffix) or Image.registered_extensions()[f".{suffix}"], **several)
    content = buffer.getvalue()
    damaged = [content[:length] for length in (*range(0, len(content), max(1, len(content) // 300)), len(content) - 1)]
    for _ in range(300):
        flipped = bytearray(content)
        for _ in range(generator.choice((1, 1, 4))):
            flipped[generator.randrange(min(len(flipped), generator.choice((64, len(flipped)))))] = generator.randrange(256)
        damaged.append(bytes(flipped))
    refused = []
    for one in damaged:
        try:
            to_channels(open_plain(io.BytesIO(one), where=suffix), 3)
        except ImageError as error:
            refused.append(error)
    assert refused
    assert {error.where for error in refused} <= {suffix, "image"}
    assert not any("permissions" in error.remedy for error in refused)


@pytest.mark.parametrize("suffix", ["png", "gif", "tif"])
def test_a_damaged_header_is_not_blamed_on_permissions(suffix, tmp_path, photos):
    photos[0].save(tmp_path / f"x.{suffix}")
    content = (tmp_path / f"x.{suffix}").read_bytes()
    for length in (9, 12, 20):
        (tmp_path / f"x.{suffix}").write_bytes(content[:length])
        with pytest.raises(ImageError, match=rf"x\.{suffix}: expected (an|a whole) image, got"):
            open_plain(tmp_path / f"x.{suffix}")


def test_decompression_bombs_are_refused(tmp_path, monkeypatch, photos):
    path = saved(photos[0], "x.png", tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="at most 1000 pixels"):
        open_plain(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="a decompression bomb"):
        open_plain(path)


def test_ciphertext_of_other_channels_than_the_models_is_refused(tmp_path, photos):
    with pytest.raises(ImageError, match=r"a PNG of mode L, got colours \(mode RGB\); it is not a ciphertext of this model"):
        open_ciphertext(saved(photos[0], "colours.png", tmp_path), 1)


def test_text_chunks_of_a_png_do_not_survive(tmp_path, photos, encrypted_folder, key):
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", ARTIST)
    path = saved(photos[0], "x.png", tmp_path, pnginfo=info, icc_profile=b"profile of " + ARTIST.encode())
    te.encrypt_images(path, tmp_path / "c.png", key, encrypted_folder)
    assert ARTIST.encode() not in (tmp_path / "c.png").read_bytes()
    buffer = io.BytesIO()
    te.create_transform(encrypted_folder, key=key, output="image")(open_plain(path)).save(buffer, "PNG")
    assert ARTIST.encode() not in buffer.getvalue()


def test_a_plain_image_among_failures_is_still_warned_of(photos, encrypted_folder, key, tmp_path):
    (tmp_path / "sent").mkdir()
    photos[0].save(tmp_path / "sent" / "plain.png")
    photos[1].save(tmp_path / "sent" / "other.bmp")
    with (
        pytest.warns(UserWarning, match="plain.png: this ciphertext carries no record"),
        pytest.raises(
            ImageError,
            match=r"1 that failed, the first because: expected a ciphertext PNG, got BMP; .* the rest is done \(1 written\)",
        ),
    ):
        te.decrypt_images(tmp_path / "sent", tmp_path / "back", key, encrypted_folder)
    (tmp_path / "bad").mkdir()
    for name in ("x.png", "y.png"):
        (tmp_path / "bad" / name).write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"2 that failed, .* the rest is done \(0 written; failed too: .*y\.png\)"):
        te.encrypt_images(tmp_path / "bad", tmp_path / "out", key, encrypted_folder)


def test_a_folder_of_ciphertext_says_that_it_is_encrypted(album, encrypted_folder, key, tmp_path):
    te.encrypt_images(album, tmp_path / "sent", key, encrypted_folder)
    found = describe_dataset(str(tmp_path / "sent"))
    assert found["encrypted"]
    assert found["image_record"]["fingerprint"] == key.fingerprint
    plain = describe_dataset(str(album))
    assert not plain["encrypted"]
    assert "image_record" not in plain


def test_threads_leave_the_filters_of_warnings_alone(photos, encrypted_folder, key, tmp_path, monkeypatch):
    """Filters are the whole process's: two threads that set and restore them may leave those of a run behind."""
    entered = []

    class Recorded(warnings.catch_warnings):
        def __enter__(self):
            entered.append(threading.get_ident())
            return super().__enter__()

    (tmp_path / "many").mkdir()
    for index in range(8):
        photos[index].save(tmp_path / "many" / f"{index}.png")
    monkeypatch.setattr(warnings, "catch_warnings", Recorded)
    before = list(warnings.filters)
    te.encrypt_images(tmp_path / "many", tmp_path / "sent", key, encrypted_folder)
    assert set(entered) == {threading.get_ident()}
    assert warnings.filters == before


# without a model: each file says what it is


def test_ciphertexts_are_decrypted_by_their_own_records(album, plain_model, encrypted_folder, key, other_key, tmp_path):
    """Of several models and ciphers in one folder; the key is that of all."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
    models = {
        "default": encrypted_folder,
        "planes": te.encrypt_model(plain_model, key, cipher="shuffle-planes"),
        "scrambled": te.encrypt_model(vit, key, cipher="shuffle+scramble"),
        "etc": te.encrypt_model(vit, key, cipher="etc"),
    }
    for name, model in models.items():
        te.encrypt_images(album, tmp_path / "sent" / name, key, model, **({"format": "jpeg"} if name == "etc" else {}))
        te.decrypt_images(tmp_path / "sent" / name, tmp_path / "wanted" / name, key, model)
    counts = te.decrypt_images(tmp_path / "sent", tmp_path / "got", key)
    assert (counts.written, counts.unmarked) == (20, 0)
    assert tree(tmp_path / "got") == tree(tmp_path / "wanted")
    for name in tree(tmp_path / "got"):
        assert (tmp_path / "got" / name).read_bytes() == (tmp_path / "wanted" / name).read_bytes()
    with pytest.raises(ImageError, match=f"20 that failed.*a ciphertext under the key {other_key.fingerprint}"):
        te.decrypt_images(tmp_path / "sent", tmp_path / "other", other_key)


def test_a_file_without_a_record_needs_a_model(photos, encrypted_folder, key, tmp_path):
    te.encrypt_images(saved(photos[0], "a.png", tmp_path), tmp_path / "b.png", key, encrypted_folder)
    with Image.open(tmp_path / "b.png") as image:
        Image.fromarray(np.asarray(image)).save(tmp_path / "c.png")
    refusal = r"c\.png: expected a ciphertext that says what it is, got no record in the file; name the model"
    with pytest.raises(ImageError, match=refusal):
        te.decrypt_images(tmp_path / "c.png", tmp_path / "d.png", key)
    with pytest.warns(UserWarning, match="carries no record"):
        assert te.decrypt_images(tmp_path / "c.png", tmp_path / "d.png", key, encrypted_folder).unmarked == 1
    with Image.open(tmp_path / "b.png") as image:
        text = {**json.loads(image.text["encmixer"]), "cipher": "rot13"}
        info = PngImagePlugin.PngInfo()
        info.add_text("encmixer", json.dumps(text))
        image.save(tmp_path / "e.png", pnginfo=info)
    with pytest.raises(ImageError, match=r"e\.png: record: expected one of shuffle, .*, got 'rot13'"):
        te.decrypt_images(tmp_path / "e.png", tmp_path / "f.png", key)
    with Image.open(tmp_path / "b.png") as image:
        info = PngImagePlugin.PngInfo()
        info.add_text("encmixer", json.dumps({**text, "cipher": "orthogonal"}))
        image.save(tmp_path / "g.png", pnginfo=info)
    with pytest.raises(ImageError, match=r"g\.png: record: expected a cipher with PNG ciphertext, got orthogonal"):
        te.decrypt_images(tmp_path / "g.png", tmp_path / "h.png", key)
