"""Nothing of others is touched: targets, temporary files and removals, with what somebody else made in their way."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import timm_encmixer as te
from timm_encmixer import files, renames, temporaries
from timm_encmixer.bundled import BUNDLED_FOLDER
from timm_encmixer.checkpoints import age_passphrase
from timm_encmixer.errors import FileAccessError, TargetExistsError

OWNED = frozenset(("config.json", "model.safetensors"))


@pytest.fixture(params=["renameat2", "other systems"])
def system(request, monkeypatch):
    if request.param == "other systems":
        monkeypatch.setattr(renames, "_renameat2", lambda: None)


def write(target, text, **options):
    with files.replacing_file(target, **options) as temporary:
        temporary.write_text(text)


def make(target, text, **options):
    with files.replacing_folder(target, owned=OWNED, **options) as temporary:
        (temporary / "config.json").write_text(text)


def tree(folder: Path) -> dict[str, str]:
    """All paths below a folder with what is there; links by what they say."""
    return {
        str(path.relative_to(folder)): path.readlink().as_posix()
        if path.is_symlink()
        else path.read_bytes().decode(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


OBSTACLES = {
    "file": lambda path: path.write_text("theirs"),
    "empty folder": lambda path: path.mkdir(),
    "full folder": lambda path: (path.mkdir(), (path / "thesis.txt").write_text("theirs")),
    "link": lambda path: path.symlink_to("thesis.txt"),
}


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("kind", [files.replacing_file, files.replacing_folder])
def test_a_target_that_appears_during_the_work_stays(kind, obstacle, tmp_path):
    """A race that somebody else won: one error, nothing of theirs lost, nothing of ours left."""
    target = tmp_path / "target"

    def lose():
        with kind(target) as temporary:
            (temporary / "config.json" if temporary.is_dir() else temporary).write_text("ours")
            OBSTACLES[obstacle](target)
            theirs.update(tree(tmp_path), inode=target.lstat().st_ino)

    theirs = {}
    if obstacle == "empty folder" and kind is files.replacing_folder and renames._renameat2() is None:
        pytest.skip("a check just before the rename is all that these systems have")
    with pytest.raises(TargetExistsError, match="target: expected a target that does not exist yet"):
        lose()
    inode = theirs.pop("inode")
    assert target.lstat().st_ino == inode
    assert tree(tmp_path) == {name: text for name, text in theirs.items() if ".encmixer" not in name}


@pytest.mark.usefixtures("system")
def test_what_somebody_adds_to_a_folder_that_is_being_replaced_stays(tmp_path):
    target = tmp_path / "target"
    make(target, "old")

    def lose():
        with files.replacing_folder(target, overwrite=True, owned=OWNED) as temporary:
            (temporary / "config.json").write_text("new")
            (target / "thesis.txt").write_text("theirs")

    with pytest.raises(TargetExistsError, match=r"target: expected a folder of nothing but .*, got thesis\.txt"):
        lose()
    assert tree(tmp_path) == {"target/config.json": "old", "target/thesis.txt": "theirs"}


@pytest.mark.usefixtures("system")
def test_replacing_with_force(tmp_path):
    make(tmp_path / "folder", "old")
    make(tmp_path / "folder", "new", overwrite=True)
    write(tmp_path / "file", "old")
    write(tmp_path / "file", "new", overwrite=True)
    assert tree(tmp_path) == {"folder/config.json": "new", "file": "new"}


def test_a_file_of_another_kind_stays(encrypted_folder, tmp_path, monkeypatch):
    """Also one that takes the place of what was there while the work is done; an empty file holds nothing to lose."""
    monkeypatch.setattr(age_passphrase, "WORK_FACTOR", 10)  # scrypt takes a second by design; test_seal.py meets it so
    target = tmp_path / "model.age"
    target.touch()
    te.seal_model(encrypted_folder, target, passphrase="secret", force=True)
    te.seal_model(encrypted_folder, target, passphrase="secret", force=True)
    target.write_text("theirs")
    with pytest.raises(TargetExistsError, match=r"model\.age: expected an age file, got a file of another kind"):
        te.seal_model(encrypted_folder, target, passphrase="secret", force=True)
    assert target.read_text() == "theirs"
    target.write_bytes(files.PNG.magic)

    def lose():
        with files.replacing_file(target, overwrite=True, kind=files.PNG) as temporary:
            temporary.write_text("ours")
            target.write_text("theirs")

    with pytest.raises(TargetExistsError, match="a PNG file"):
        lose()
    assert target.read_text() == "theirs"


def test_a_folder_of_an_owned_name_is_somebody_elses(tmp_path):
    (tmp_path / "target" / "config.json").mkdir(parents=True)
    (tmp_path / "target" / "config.json" / "thesis.txt").write_text("theirs")
    with pytest.raises(TargetExistsError, match=r"got config\.json"):
        make(tmp_path / "target", "new", overwrite=True)


@pytest.mark.parametrize("put", [write, make])
def test_a_link_is_no_target(put, tmp_path):
    (tmp_path / "decoy").mkdir()
    (tmp_path / "link").symlink_to("decoy")
    for overwrite in (False, True):
        with pytest.raises(TargetExistsError):
            put(tmp_path / "link", "new", overwrite=overwrite)
    assert (tmp_path / "link").readlink() == Path("decoy")
    assert tree(tmp_path) == {"link": "decoy"}


@pytest.mark.parametrize("put", [write, make])
@pytest.mark.parametrize("target", ["", ".", "..", "a/.."])
def test_a_target_without_a_name(put, target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileAccessError, match="a target with a name"):
        put(Path(target), "new", overwrite=True)


def test_an_old_folder_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    make(tmp_path / "target", "old")

    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(FileAccessError, match=r"the new one is in its place; remove .*\.encmixer-[0-9a-f]{16} yourself"):
        make(tmp_path / "target", "new", overwrite=True)
    assert (tmp_path / "target" / "config.json").read_text() == "new"


def test_names_as_long_as_they_can_be(tmp_path):
    name = "x" * 255
    write(tmp_path / name, "new")
    write(tmp_path / name, "newer", overwrite=True)
    assert tree(tmp_path) == {name: "newer"}


RUN = """
import sys, time
from pathlib import Path
from timm_encmixer.files import replacing_file
with replacing_file(Path("target")) as temporary:
    print(temporary, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("put", [write, make])
def test_the_next_run_removes_what_a_dead_one_left_and_nothing_else(put, tmp_path, caplog):
    removed = f"{tmp_path}: removed %s of runs that were killed"
    own, other = (f".encmixer-{temporaries.digest_of_name(name)}" for name in ("target", "other"))
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as run:
        living = tmp_path / run.stdout.readline().strip()
        decoy = tmp_path / "decoy"
        decoy.mkdir()
        (decoy / "thesis.txt").write_text("theirs")
        (tmp_path / f"{own}00000000").mkdir()  # this one and the next are of dead runs
        (tmp_path / f"{own}00000000" / "link").symlink_to(decoy)
        (tmp_path / f"{own}00000001").write_text("half")
        (tmp_path / f"{own}00000002").symlink_to(decoy)  # no run makes links
        (tmp_path / f"{other}00000000").write_text("of another target")
        (tmp_path / f"{own}0000000").write_text("a name that is not ours")
        before = tree(tmp_path)
        put(tmp_path / "target", "new")
        assert living.exists()
        assert [record.getMessage() for record in caplog.records] == [removed % "2 unfinished outputs"]
        run.kill()
    put(tmp_path / "target", "newer", overwrite=True)
    assert [record.getMessage() for record in caplog.records] == [
        removed % "2 unfinished outputs",
        removed % "1 unfinished output",
    ]
    gone = {f"{own}00000000/link", f"{own}00000001", living.name}
    assert {name: text for name, text in tree(tmp_path).items() if not name.startswith("target")} == {
        name: text for name, text in before.items() if name not in gone
    }


def test_removing_inside_a_folder_only(tmp_path):
    root, decoy = tmp_path / "root", tmp_path / "decoy"
    for folder in (root / "sub", decoy):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (root / "link").symlink_to(decoy)
    (root / "to-file").symlink_to(decoy / "file")
    for outside in (root / "link" / "file", decoy / "file", root / ".." / "decoy" / "file", root / ".."):
        with pytest.raises(FileAccessError, match="a place elsewhere"):
            files.remove_inside(outside, root)
    for inside in (root / "link", root / "to-file", root / "sub", root / "absent"):
        files.remove_inside(inside, root)
    assert tree(tmp_path) == {"decoy/file": "x"}
    assert list(root.iterdir()) == []


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path, got in {"pipe": "a pipe", "zero": "a pipe, device", ".": "a folder", "absent": "No such file"}.items():
        with pytest.raises(FileAccessError, match=f"expected a file to read, got {got}"):
            files.open_regular(tmp_path / path)
    with files.open_regular(tmp_path / "link") as file:
        assert file.read() == b"x"


@pytest.mark.parametrize("path", ["", "a\0b", 3, None, b"x"])
def test_what_is_no_path(path):
    with pytest.raises(FileAccessError, match=r"^dst: expected a path"):
        files.as_path(path, where="dst")


@pytest.mark.parametrize("wrong", ["", "a\0b", 3, None])
def test_every_call_that_writes_refuses_what_is_no_path(wrong, encrypted_folder, plain_model, key, key_file, tmp_path):
    """One error that names the argument, before anything is written."""
    calls = [
        lambda: te.save_model(plain_model, wrong),
        lambda: te.decrypt_checkpoint(encrypted_folder, wrong, key),
        lambda: te.rotate_checkpoint(encrypted_folder, wrong, key, te.SecretKey.generate()),
        lambda: te.encrypt_checkpoint(BUNDLED_FOLDER, wrong, key),
        lambda: te.seal_model(encrypted_folder, wrong, passphrase="secret"),
        lambda: te.open_model(encrypted_folder, wrong, passphrase="secret"),
        lambda: te.encrypt_images(tmp_path, wrong, key, encrypted_folder),
        lambda: te.encrypt_dataset(tmp_path, wrong, key, encrypted_folder, progress=False),
        lambda: te.decrypt_dataset(wrong, tmp_path / "x", key, encrypted_folder, progress=False),
        lambda: te.audit.Report.save(None, wrong),
        lambda: key.save(wrong),
    ]
    before = tree(tmp_path)
    for call in calls:
        with pytest.raises(FileAccessError, match=r"(dst|src|out|key): expected a path"):
            call()
    assert tree(tmp_path) == before


REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "check its permissions",
    errno.ENOSPC: "check the free space",
    errno.EFBIG: "check the free space",
    errno.ENOTDIR: "check the path",
}


@pytest.mark.parametrize("number", REMEDIES)
def test_the_remedy_is_that_of_the_error(number):
    error = files.file_error("x", "a file to read", OSError(number, os.strerror(number)))
    assert str(error).startswith(f"x: expected a file to read, got {os.strerror(number)}; {REMEDIES[number]}")
    assert ("free space" in str(error)) == (REMEDIES[number] == "check the free space")
    assert "got only words" in str(files.file_error("x", "a file", OSError("only words")))
