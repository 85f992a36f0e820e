"""Whole or not at all: a run's list is made once; what has changed is made again or named; what is left out is counted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
from PIL import Image, ImageOps

import timm_encmixer as te
from timm_encmixer.datasets import describe_dataset, verify_dataset
from timm_encmixer.datasets.progress import Progress
from timm_encmixer.errors import (
    AlreadyEncryptedError,
    DataError,
    FileAccessError,
    ImageError,
    IntegrityError,
    NotEncryptedError,
    SchemeMismatchError,
    SourceError,
    TargetExistsError,
)
from timm_encmixer.images import png_info

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402
from sources import jpeg, tree, webdataset  # noqa: E402
from sources import parquet as parquet_folder  # noqa: E402

COMPAT = Path(__file__).parent.parent / "compat"  # what earlier versions wrote; its key is public and protects nothing


@pytest.fixture
def model(encrypted) -> Path:
    return encrypted


@pytest.fixture
def encrypt(model, key_file) -> Callable[..., Any]:
    return lambda src, dst, **options: te.encrypt_dataset(src, dst, key_file, model, progress=False, **options)


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def folder_of(root: Path, count: int = 6) -> Path:
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(picture(number)))
    return root


def same_size(path: Path, content: bytes) -> None:
    """Write other content of the same size, and give the file the time that it had."""
    before = path.stat()
    path.write_bytes(content.ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def at_the_first_batch(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have somebody change the source while a run is at work."""
    add, waiting = Progress.add, [change]

    def changing(self: Progress, size: int, images: int) -> None:
        if waiting:
            waiting.pop()()
        add(self, size, images)

    monkeypatch.setattr(Progress, "add", changing)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "appears": (lambda src: (src / "a" / "a_new.png").write_bytes(jpeg(picture(9))), r"a/a_new\.png appeared"),
    "appears elsewhere": (lambda src: folder_of(src / "c", 1), r"c/a/0\.jpg appeared"),
    "vanishes": (lambda src: (src / "a" / "4.jpg").unlink(), r"a/4\.jpg vanished"),
    "vanishes early": (lambda src: (src / "b" / "5.jpg").unlink(), r"b/5\.jpg: expected .* got none by now"),
    "changes": (lambda src: (src / "a" / "4.jpg").write_bytes(jpeg(picture(9))), r"a/4\.jpg was changed"),
    "side file": (lambda src: (src / "LICENSE").write_text("mine"), r"LICENSE: expected .* changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changes_during_the_run_is_named_and_the_next_run_mends_it(change, encrypt, tmp_path, monkeypatch):
    src = folder_of(tmp_path / "src")
    (src / "LICENSE").write_text("free")
    do, message = CHANGES[change]
    with monkeypatch.context() as patch:
        at_the_first_batch(patch, lambda: do(src))
        with pytest.raises(SourceError, match=message):
            encrypt(src, tmp_path / "ct")
    encrypt(src, tmp_path / "ct")
    encrypt(src, tmp_path / "whole")
    assert tree(tmp_path / "ct") == tree(tmp_path / "whole")


def stopped(encrypt: Callable[..., Any], src: Path, dst: Path) -> None:
    """A run of which all shards are done but the last, test-00000."""
    shard = src / "train-00001-of-00002.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-300])
    with pytest.raises(DataError, match="readable shard"):
        encrypt(src, dst)
    shard.write_bytes(whole)
    assert describe_dataset(str(dst))["shards_done"] >= 1


def test_a_resumed_run_makes_again_what_was_made_from_other_content(encrypt, tmp_path):
    src = parquet_folder(tmp_path / "src")
    stopped(encrypt, src, tmp_path / "ct")
    first = src / "train-00000-of-00002.parquet"
    table = parquet.read_table(first)
    other = table.set_column(1, table.schema.field(1), pyarrow.array([9 - label for label in table["label"].to_pylist()]))
    buffer = io.BytesIO()
    parquet.write_table(other, buffer)
    content = buffer.getvalue()
    first.write_bytes(content)
    encrypt(src, tmp_path / "ct")
    assert parquet.read_table(tmp_path / "ct" / first.name)["label"] == other["label"]
    encrypt(src, tmp_path / "whole")
    assert tree(tmp_path / "ct") == tree(tmp_path / "whole")


def test_content_is_compared_where_size_and_time_are_the_same(encrypt, tmp_path):
    src = folder_of(tmp_path / "src")
    bad = src / "b" / "1.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(b"no image")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "ct")
    bad.write_bytes(whole)
    same_size(src / "a" / "0.jpg", jpeg(picture(9))[: (src / "a" / "0.jpg").stat().st_size - 2] + b"\xff\xd9")
    os.chmod(src / "a" / "2.jpg", 0o600)  # noqa: PTH101  # another stamp, the same content
    assert encrypt(src, tmp_path / "ct").written == 2  # the changed folder and the one that was bad
    encrypt(src, tmp_path / "whole")
    assert tree(tmp_path / "ct") == tree(tmp_path / "whole")


def test_a_source_that_was_only_copied_is_not_encrypted_again(encrypt, tmp_path):
    src = parquet_folder(tmp_path / "src")
    stopped(encrypt, src, tmp_path / "ct")
    done = describe_dataset(str(tmp_path / "ct"))["shards_done"]
    shutil.move(src, tmp_path / "old")
    shutil.copytree(tmp_path / "old", src, copy_function=shutil.copyfile)
    assert encrypt(src, tmp_path / "ct").kept == done


def test_files_of_a_source_that_go_do_not_stay_in_the_target(encrypt, tmp_path):
    src = folder_of(tmp_path / "src")
    (src / "b" / "1.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "ct")
    assert (tmp_path / "ct" / "a" / "0.png").exists()
    (src / "b" / "1.jpg").unlink()
    (src / "a" / "0.jpg").unlink()
    encrypt(src, tmp_path / "ct")
    assert sorted(name for name in tree(tmp_path / "ct") if name.endswith(".png")) == [
        "a/2.png",
        "a/4.png",
        "b/3.png",
        "b/5.png",
    ]


def test_verification_compares_with_the_source(encrypt, encmixer, tmp_path):
    src = folder_of(tmp_path / "src")
    encrypt(src, tmp_path / "ct")
    assert verify_dataset(str(tmp_path / "ct"), progress=False).source_compared
    same_size(src / "a" / "0.jpg", b"other")
    (src / "b" / "9.jpg").write_bytes(jpeg(picture(9)))
    run = encmixer("dataset", "info", "ct", "--verify", "--json")
    assert run.returncode == 1
    assert sorted(json.loads(run.stdout)["source_differing"]) == ["a/0.jpg was changed", "b/9.jpg appeared"]
    with pytest.raises(SourceError, match=r"b/9\.jpg appeared, a/0\.jpg was changed"):
        encrypt(src, tmp_path / "ct")
    shutil.rmtree(src)
    assert verify_dataset(str(tmp_path / "ct"), progress=False) == verify_dataset(str(tmp_path / "ct"), progress=False)
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds


def test_no_digest_of_a_plain_file_is_published(encrypt, tmp_path):
    """They are in one folder, which no push sends (test_hub.py), for those who verify."""
    src = folder_of(tmp_path / "src")
    encrypt(src, tmp_path / "ct")
    files = tree(tmp_path / "ct")
    digests = [te.files.sha256_of(path) for path in src.rglob("*.jpg")]
    holding = {name for name, content in files.items() if any(digest.encode() in content for digest in digests)}
    assert holding == {".encmixer/private/source.jsonl"}


def test_what_is_encrypted_is_not_encrypted_and_what_is_plain_not_decrypted(encrypt, plain_model, model, key, tmp_path):
    src = folder_of(tmp_path / "src")
    encrypt(src, tmp_path / "ct")
    with pytest.raises(AlreadyEncryptedError, match=f"encrypted with the key {key.fingerprint}"):
        encrypt(tmp_path / "ct", tmp_path / "twice")
    other = te.encrypt_model(plain_model, key, cipher="shuffle")
    with pytest.raises(SchemeMismatchError, match=r"cipher shuffle\+negpos, got shuffle"):
        te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, other, progress=False)
    te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, model, progress=False)
    with pytest.raises(NotEncryptedError, match="a decrypted one"):
        te.decrypt_dataset(tmp_path / "back", tmp_path / "again", key, model, progress=False)
    assert encrypt(tmp_path / "back", tmp_path / "ct2").images == 6
    (src / "a" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "begun")
    with pytest.raises(SourceError, match="a finished data set"):
        te.decrypt_dataset(tmp_path / "begun", tmp_path / "back2", key, model, progress=False)


@pytest.mark.parametrize("make", [folder_of, parquet_folder])
def test_what_is_missing_or_too_much_is_counted(make, encrypt, key, tmp_path):
    src = make(tmp_path / "src")
    encrypt(src, tmp_path / "ct")
    gone = sorted(path for path in (tmp_path / "ct").rglob("*") if path.suffix in (".png", ".parquet"))[:2]
    name = gone[0].relative_to(tmp_path / "ct").as_posix()
    content = [path.read_bytes() for path in gone]
    for path in gone:
        path.unlink()
    with pytest.raises(IntegrityError, match=name):
        te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    with pytest.raises(IntegrityError, match=name):
        encrypt(src, tmp_path / "ct")
    shutil.rmtree(tmp_path / "ct" / ".encmixer" / "private")  # as after a download
    with pytest.raises(IntegrityError, match="2 images in a" if make is folder_of else name):
        te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    for path, whole in zip(gone, content, strict=True):
        path.write_bytes(whole)
    assert encrypt(src, tmp_path / "ct").written == 0
    shutil.copy(gone[0], gone[0].with_stem("more"))
    with pytest.raises(IntegrityError, match="beyond it"):
        te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    assert not verify_dataset(str(tmp_path / "ct"), progress=False).holds
    gone[0].with_stem("more").unlink()
    gone[0].write_bytes(b"")
    with pytest.raises(
        IntegrityError, match=f"got another size of {name}" if make is parquet_folder else "got one with images of other sizes"
    ):
        encrypt(src, tmp_path / "ct")
    if make is parquet_folder:
        counts = te.decrypt_dataset(tmp_path / "ct", tmp_path / "part", key, include=["train-*"], progress=False)
        assert counts.shards == 2


def test_all_that_is_left_out_is_counted_by_reason(encrypt, encmixer, model, key_file, tmp_path):
    src = folder_of(tmp_path / "src")
    for name in (".hidden.jpg", "._0.jpg", "__x.jpg", "notes.txt"):
        shutil.copy(src / "a" / "0.jpg", src / "a" / name)
    shutil.copytree(src / "a", src / ".ipynb_checkpoints")
    (src / "linked").symlink_to(src / "b", target_is_directory=True)
    os.mkfifo(src / "b" / "pipe.png")
    (src / "b" / "zero.png").symlink_to("/dev/zero")
    run = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model, "--json")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["images"] == 6
    assert report["left_out"] == {
        "hidden": [".ipynb_checkpoints/", "a/._0.jpg", "a/.hidden.jpg", "a/__x.jpg"],
        "linked": ["linked/"],
        "special": ["b/pipe.png", "b/zero.png"],
        "suffix": ["a/notes.txt"],
    }
    again = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model)
    assert "passed over 8, left out: hidden 4, linked 1, special 2, suffix 1" in again.stdout
    assert len(again.stdout.splitlines()) == 1
    assert stat.S_ISFIFO((src / "b" / "pipe.png").stat().st_mode)


def test_what_cannot_be_read_is_an_error(encrypt, encmixer, model, key_file, tmp_path):
    src = folder_of(tmp_path / "src")
    options = ("--key", key_file, "--model", model, "--on-error", "skip")
    (src / "a").chmod(0)
    folder = encmixer("dataset", "encrypt", src, "ct", *options)
    (src / "a").chmod(0o755)
    (src / "a" / "0.jpg").chmod(0)
    file = encmixer("dataset", "encrypt", src, "ct", *options)
    (src / "a" / "0.jpg").chmod(0o644)
    for run, place in ((folder, "src/a: expected a folder to read"), (file, "a/0.jpg: expected a file to read")):
        assert run.returncode == 2
        assert place in run.stderr
        assert len(run.stderr.splitlines()) == 1
    (src / "a" / "gone.jpg").symlink_to("nowhere")
    with pytest.raises(FileAccessError, match=r"gone\.jpg"):
        encrypt(src, tmp_path / "ct")


def test_names_that_the_target_cannot_have_are_refused_by_name(encrypt, encmixer, model, key_file, tmp_path):
    src = folder_of(tmp_path / "src")
    odd = os.fsencode(src / "a") + b"/caf\xe9.jpg"
    shutil.copy(os.fsencode(src / "a" / "0.jpg"), odd)
    run = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model)
    assert run.returncode == 2
    assert r"a/caf\xe9.jpg: expected names in UTF-8" in run.stderr
    shutil.move(odd, os.fsencode(src / "a") + b"/caf\xe9.txt")
    assert encrypt(src, tmp_path / "ct").left_out == {"suffix": (r"a/caf\xe9.txt",)}
    longest = f"{'x' * 251}.jpg"
    shutil.copy(src / "a" / "0.jpg", src / "a" / longest)
    assert encrypt(src, tmp_path / "ct2").images == 7
    shutil.move(src / "a" / longest, src / "a" / f"{'x' * 252}.ps")
    with pytest.raises(SourceError, match="a name of at most 255 bytes"):
        encrypt(src, tmp_path / "ct3")


def test_a_source_whose_own_name_is_not_utf8(encrypt, key, tmp_path):
    src = folder_of(tmp_path / os.fsdecode(b"caf\xe9"))
    encrypt(src, tmp_path / "ct")
    assert describe_dataset(str(tmp_path / "ct"))["source"] == r"caf\xe9"
    te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    with pytest.raises(DataError, match="include: expected text in UTF-8"):
        encrypt(src, tmp_path / "ct2", include=[os.fsdecode(b"\xe9*")])


def test_what_others_put_into_the_target_is_not_taken_for_its_own(encrypt, tmp_path, monkeypatch):
    src = folder_of(tmp_path / "src")
    stranger = tmp_path / "ct" / "a" / "stranger.png"
    with monkeypatch.context() as patch:
        at_the_first_batch(patch, lambda: (stranger.parent.mkdir(), shutil.copy(src / "a" / "0.jpg", stranger)))
        with pytest.raises(IntegrityError, match="1 image in a beyond it"):
            encrypt(src, tmp_path / "ct")
    stranger.unlink()
    assert encrypt(src, tmp_path / "ct").kept == 2


def not_ours(root: Path, finished: Path, how: str) -> None:
    """A folder that this command did not begin, though it has the folder of its books."""
    (root / "a").mkdir(parents=True)
    (root / "README.md").write_text("notes")
    (root / "a" / "0.png").write_bytes(b"theirs")
    if how == "books without a manifest":
        shutil.copytree(finished / ".encmixer", root / ".encmixer")
        (root / ".encmixer" / "manifest.json").unlink()
    else:
        (root / ".encmixer").mkdir()
    if how == "a pipe as manifest":
        os.mkfifo(root / ".encmixer" / "manifest.json")
    if how == "other files in an empty one":
        shutil.rmtree(root / "a")
        (root / "README.md").rename(root / ".encmixer" / "README.md")


@pytest.mark.parametrize(
    "how", ["empty books", "books without a manifest", "a pipe as manifest", "other files in an empty one"]
)
def test_a_folder_is_this_commands_own_only_by_its_job_or_its_manifest(how, encrypt, tmp_path):
    src = folder_of(tmp_path / "src")
    encrypt(src, tmp_path / "finished")
    not_ours(tmp_path / "ct", tmp_path / "finished", how)
    before = tree(tmp_path / "ct")
    with pytest.raises(TargetExistsError, match="one that holds something else"):
        encrypt(src, tmp_path / "ct")
    assert tree(tmp_path / "ct") == before


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("name", ["a/4.png", "b", "README.md", "test-00000-of-00001.parquet"])
def test_what_appears_at_a_targets_name_during_the_run_is_not_lost(name, link, encrypt, tmp_path, monkeypatch):
    src = (parquet_folder if name.endswith("parquet") else folder_of)(tmp_path / "src")
    (src / "README.md").write_text("# Photos\n")
    theirs, elsewhere = tmp_path / "ct" / name, tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")

    def appear() -> None:
        theirs.parent.mkdir(exist_ok=True)
        theirs.symlink_to(elsewhere) if link else shutil.copy(elsewhere, theirs)

    with monkeypatch.context() as patch:
        at_the_first_batch(patch, appear)
        for _ in range(2):  # and not by the next run either
            expected = "a path inside" if link and name == "b" else "a name that is free"
            with pytest.raises((TargetExistsError, FileAccessError), match=f"ct/{name}.*: expected {expected}"):
                encrypt(src, tmp_path / "ct")
            assert theirs.read_bytes() == b"theirs"
            assert theirs.is_symlink() == link
    theirs.unlink()
    encrypt(src, tmp_path / "ct")
    encrypt(src, tmp_path / "whole")
    assert tree(tmp_path / "ct") == tree(tmp_path / "whole")


@pytest.mark.parametrize("name", ["a/0.png", "b/3.png", "README.md"])
def test_what_is_put_into_the_target_of_a_run_that_stopped_is_not_lost(name, encrypt, tmp_path):
    """A name of a finished shard, of one to come, and of a side file."""
    src = folder_of(tmp_path / "src")
    (src / "README.md").write_text("# Photos\n")
    (src / "b" / "9.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "ct")
    (src / "b" / "9.jpg").unlink()
    theirs = tmp_path / "ct" / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(TargetExistsError, match=f"ct/{name}: expected a name that is free"):
        encrypt(src, tmp_path / "ct")
    assert theirs.read_bytes() == b"theirs"
    theirs.unlink()
    encrypt(src, tmp_path / "ct")
    encrypt(src, tmp_path / "whole")
    assert tree(tmp_path / "ct") == tree(tmp_path / "whole")


def test_the_next_run_says_what_it_removes_of_a_killed_one(encrypt, encmixer, model, key_file, tmp_path):
    src = folder_of(tmp_path / "src")
    (src / "b" / "9.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "ct")
    (src / "b" / "9.jpg").unlink()
    (tmp_path / "ct" / ".encmixer" / "tmp" / "0" / "new").mkdir(parents=True)
    run = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model)
    assert (run.returncode, len(run.stderr.splitlines())) == (0, 1)
    assert "ct: removed 1 unfinished output of a run that was killed" in run.stderr


@pytest.mark.parametrize("url", ["s3://a/b", "hf://datasets/me/photos", "file:///tmp/x"])
def test_a_url_is_no_target(url, encrypt, encmixer, model, key_file, tmp_path):
    src = folder_of(tmp_path / "src")
    run = encmixer("dataset", "encrypt", src, url, "--key", key_file, "--model", model)
    assert run.returncode == 2
    assert "expected a folder on this machine, got a URL" in run.stderr
    assert not (tmp_path / url.partition("/")[0]).exists()
    with pytest.raises(FileAccessError, match="a folder on this machine"):
        encrypt(src, url)


@pytest.mark.parametrize("cut", [lambda lines: lines[:1], lambda lines: lines[1:], lambda lines: [*lines, lines[-1]]])
def test_a_damaged_private_list_is_named_and_not_the_source(cut, encrypt, tmp_path):
    src = folder_of(tmp_path / "src")
    encrypt(src, tmp_path / "ct")
    private = tmp_path / "ct" / ".encmixer" / "private" / "source.jsonl"
    private.write_text("\n".join(cut(private.read_text().splitlines())))
    with pytest.raises(SourceError, match=r"private/source\.jsonl: expected what "):
        encrypt(src, tmp_path / "ct")


def test_a_target_that_is_removed_during_the_run_is_named(encrypt, tmp_path, monkeypatch):
    src = folder_of(tmp_path / "src")
    with monkeypatch.context() as patch:
        at_the_first_batch(patch, lambda: shutil.rmtree(tmp_path / "ct"))
        with pytest.raises(FileAccessError, match="ct: expected the target that this run began, got none by now"):
            encrypt(src, tmp_path / "ct")
    assert not (tmp_path / "ct").exists()
    assert encrypt(src, tmp_path / "ct").images == 6


@pytest.mark.parametrize("url", ["ftp://", "ftp:///photos", "simplecache::ftp://"])
def test_an_address_without_a_host_is_one_line(url, encmixer, model, key_file):
    run = encmixer("dataset", "encrypt", url, "ct", "--key", key_file, "--model", model)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "expected an address with a host, got none" in run.stderr


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "a") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path.parent


@pytest.mark.parametrize("name", ["../x.png", "/abs.png", "a/../../x.png"])
def test_tars_whose_members_lead_elsewhere_are_refused(name, encrypt, tmp_path):
    src = tar_of(tmp_path / "src" / "train.tar", {"a.png": jpeg(picture(1)), name: jpeg(picture(2))})
    with pytest.raises(DataError, match=f"train.tar: {name}: expected members below"):
        encrypt(src, tmp_path / "ct")


@pytest.mark.parametrize(("kind", "target"), [(tarfile.SYMTYPE, "../x.png"), (tarfile.LNKTYPE, "/etc/passwd")])
def test_links_in_tars_that_lead_elsewhere_are_refused(kind, target, encrypt, tmp_path):
    src = tar_of(tmp_path / "src" / "train.tar", {"a.png": jpeg(picture(1))})
    with tarfile.open(src / "train.tar", "a") as tar:
        info = tarfile.TarInfo("b.png")
        info.type, info.linkname = kind, target
        tar.addfile(info)
    with pytest.raises(DataError, match=r"b\.png: expected members below"):
        encrypt(src, tmp_path / "ct")


def test_fields_are_chosen_in_any_case_and_what_stays_plain_is_named(encrypt, encmixer, model, key_file, tmp_path):
    photo = jpeg(picture(1))
    src = tar_of(tmp_path / "src" / "train.tar", {"s0.jpg": photo, "s0.seg.PNG": photo, "s0.bin": photo, "s0.txt": b"BMW"})
    tar_of(src / "train.tar", {"s1.JPG": photo, "s1.seg.PNG": photo, "s1.bin": b"BM", "s1.txt": b"RIFF"})
    run = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model, "--image-column", "jpg")
    assert run.returncode == 0, run.stderr
    assert "images that stay plain: bin seg.PNG" in run.stdout
    with tarfile.open(tmp_path / "ct" / "train.tar") as tar:
        encrypted = [name for name in tar.getnames() if tar.extractfile(name).read().startswith(b"\x89PNG")]
    assert encrypted == ["s0.jpg", "s1.JPG"]
    assert encrypt(webdataset(tmp_path / "tars"), tmp_path / "ct2").plain == ()


def test_names_in_tars_that_are_not_utf8(encrypt, tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    src = tar_of(tmp_path / "src" / "train.tar", {"a.png": jpeg(picture(1)), f"{odd}.png": jpeg(picture(2)), "b.png": b"bad"})
    tar_of(src / "train.tar", {f"{odd}2.png": b"bad", f"{odd}2.{odd}": jpeg(picture(3)), f"c.{odd}": jpeg(picture(3))})
    counts = encrypt(src, tmp_path / "ct", on_error="skip")
    assert (counts.images, counts.bad, counts.plain) == (2, 2, (r"caf\xe9",))
    with tarfile.open(tmp_path / "ct" / "train.tar") as tar:
        assert tar.getnames() == ["a.png", f"{odd}.png", f"c.{odd}"]
    with pytest.raises(ImageError, match=r"train\.tar: b\.png"):
        encrypt(src, tmp_path / "ct2")


def test_columns_that_stay_plain_are_named(encrypt, tmp_path):
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image(), "views": [datasets.Image()]})
    cells = [{"bytes": jpeg(picture(n)), "path": None} for n in range(3)]
    table = pyarrow.table({"image": cells, "mask": cells, "views": [[cell] for cell in cells]}).cast(features.arrow_schema)
    for name, values in (("thumb", [None, b"none", jpeg(picture(1))]), ("other", [b"BM", b"", b"GIF8"])):
        table = table.append_column(name, pyarrow.array(values))
    (tmp_path / "src").mkdir()
    parquet.write_table(table, tmp_path / "src" / "train.parquet")
    counts = encrypt(tmp_path / "src", tmp_path / "ct", image_columns=["image"])
    assert counts.plain == ("mask", "thumb", "views")
    manifest = json.loads((tmp_path / "ct" / ".encmixer" / "manifest.json").read_text())
    assert manifest["shards"][0]["plain"] == ["mask", "thumb", "views"]
    assert "plain" not in json.loads((make_plain(encrypt, tmp_path) / ".encmixer" / "manifest.json").read_text())["shards"][0]


def make_plain(encrypt: Callable[..., Any], folder: Path) -> Path:
    encrypt(folder_of(folder / "plain-src"), folder / "plain-ct")
    return folder / "plain-ct"


def test_books_that_anybody_may_have_written_are_read_or_refused_in_one_line(encrypt, tmp_path):
    src = folder_of(tmp_path / "src")
    encrypt(src, tmp_path / "finished")
    (src / "b" / "1.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "begun")
    (tmp_path / "out").mkdir()
    result = mutations.run(400, 0, [tmp_path / "finished", tmp_path / "begun"], tmp_path / "out")
    assert result["refused"] > 200


def test_data_sets_of_an_older_version_are_read_and_taken_up(key, tmp_path):
    """Their journals do not say what the shards were made from."""
    for part in ("source", "finished", "begun"):
        shutil.copytree(COMPAT / f"dataset-1-{part}", tmp_path / f"dataset-1-{part}")
    src, finished, begun = (tmp_path / f"dataset-1-{part}" for part in ("source", "finished", "begun"))
    options = {"resize": False, "progress": False}
    model = COMPAT / "encrypted-1-shuffle"
    assert verify_dataset(str(finished), progress=False).holds
    assert describe_dataset(str(begun))["shards_done"] == 1
    counts = te.encrypt_dataset(src, begun, key, model, **options)
    assert (counts.kept, counts.written) == (1, 1)
    assert (begun / "a" / "0.png").read_bytes() == (finished / "a" / "0.png").read_bytes()
    with Image.open(begun / "b" / "1.png") as new, Image.open(finished / "b" / "1.png") as old:
        assert np.array_equal(np.array(new), np.array(old))
        assert ("encmixer" in new.info, "encmixer" in old.info) == (True, False)
    assert te.encrypt_dataset(src, finished, key, model, **options).written == 0
    (src / "b" / "2.png").write_bytes((src / "b" / "1.png").read_bytes())
    with pytest.raises(SourceError, match="different source_digest"):
        te.encrypt_dataset(src, finished, key, model, **options)
    with pytest.warns(UserWarning, match="carries no record") as told:
        te.decrypt_dataset(finished, tmp_path / "back", key, progress=False)
    assert len(told) == 1
    assert np.array_equal(np.array(Image.open(tmp_path / "back/b/1.png")), np.array(Image.open(src / "b/1.png")))
    with pytest.raises(ImageError, match="no record in the file"):
        te.decrypt_dataset(finished, tmp_path / "strict", key, progress=False, strict=True)


@pytest.mark.parametrize("link", ["a", ".encmixer", ".encmixer/shards", ".encmixer/tmp"])
def test_links_in_a_target_lead_nothing_out_of_it(link, encrypt, tmp_path):
    """A run that was stopped is taken up in a folder in which somebody has put a link to elsewhere."""
    src, decoy = folder_of(tmp_path / "src"), tmp_path / "decoy"
    (src / "b" / "9.jpg").write_bytes(b"damaged")
    with pytest.raises(ImageError):
        encrypt(src, tmp_path / "ct")
    (src / "b" / "9.jpg").unlink()
    shutil.copy(src / "a" / "0.jpg", src / "a" / "00.jpg")  # so that what is there of folder a is made again
    place = tmp_path / "ct" / link
    if place.exists():
        place.rename(decoy)
    else:
        decoy.mkdir()
    place.symlink_to(decoy)
    (decoy / ".thesis.txt").write_text("theirs")
    (decoy / "0.png").write_text("theirs")
    before = tree(decoy)
    with contextlib.suppress(FileAccessError, TargetExistsError):
        encrypt(src, tmp_path / "ct")
    assert tree(decoy) == before


@pytest.mark.parametrize("how", ["resized", "mirrored", "of another key"])
def test_a_changed_ciphertext_is_refused_or_skipped(how, model, plain_model, key, other_key, tmp_path, photos):
    """Each image says what its pixels were, in a data set too."""
    source = tmp_path / "src"
    source.mkdir()
    for index in range(3):
        photos[index].save(source / f"{index}.png")
    te.encrypt_dataset(source, tmp_path / "ct", key, model, progress=False)
    victim = tmp_path / "ct" / "1.png"
    with Image.open(victim) as image:
        record = png_info(image)
        changed = {"resized": image.resize((64, 64)), "mirrored": ImageOps.mirror(image)}.get(how)
    if changed is not None:
        changed.save(victim, pnginfo=record)
    else:
        encrypted = te.encrypt_model(plain_model, other_key)
        te.encrypt_images(source / "1.png", victim, other_key, encrypted, force=True)
    reason = {"resized": "as it was written", "mirrored": "the pixels that were written"}.get(how, "under the key")
    with pytest.raises(ImageError, match=reason):
        te.decrypt_dataset(tmp_path / "ct", tmp_path / "stopped", key, progress=False)
    counts = te.decrypt_dataset(tmp_path / "ct", tmp_path / "skipped", key, on_error="skip", progress=False)
    assert (counts.images, counts.bad) == (2, 1)
