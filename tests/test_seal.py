"""Sealing: round trips, the age command line, tampering, memory."""

from __future__ import annotations

import base64
import os
import pty
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pyrage
import pytest
import torch
from conftest import ROOT, assert_no_secret
from safetensors.torch import save_file

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER
from timm_encmixer.checkpoints import age_passphrase
from timm_encmixer.errors import FileAccessError, IntegrityError, SealError, TargetExistsError

AGE = shutil.which("age")
needs_age = pytest.mark.skipif(AGE is None, reason="Debian's age is not installed")
WEIGHTS = BUNDLED_FOLDER / "model.safetensors"
WORK_FACTOR = age_passphrase.WORK_FACTOR


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    """scrypt takes a second and 256 MiB by design; one test here, and the command line, meet it so."""
    monkeypatch.setattr(age_passphrase, "WORK_FACTOR", 10)


@pytest.fixture
def identity(tmp_path):
    path = tmp_path / "identity.txt"
    secret = pyrage.x25519.Identity.generate()
    path.write_text(f"# created: now\n# public key: {secret.to_public()}\n{secret}\n")
    return path


@pytest.fixture
def recipient(identity):
    return identity.read_text().split("public key: ")[1].split()[0]


@pytest.fixture
def small(tmp_path):
    """A single file of some chunks of age's 64 KiB."""
    torch.manual_seed(0)
    save_file({"stem.weight": torch.randn(8, 3, 4, 4), "head.weight": torch.randn(200, 250)}, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def ssh_key(tmp_path: Path, kind: str) -> tuple[Path, str]:
    path = tmp_path / f"id_{kind}"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    return path, path.with_suffix(".pub").read_text()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_there_and_back(encrypted_folder, identity, recipient, tmp_path, key):
    te.seal_model(encrypted_folder, tmp_path / "m.age", recipients=[recipient])
    assert (tmp_path / "m.age").read_bytes().startswith(b"age-encryption.org/v1\n")
    assert b"encmixer" not in (tmp_path / "m.age").read_bytes()
    te.open_model(tmp_path / "m.age", tmp_path / "opened", identity=identity)
    assert files(tmp_path / "opened") == files(encrypted_folder)
    te.open_model(tmp_path / "m.age", tmp_path / "again", identity=identity.read_text().splitlines()[-1])
    assert files(tmp_path / "again") == files(encrypted_folder)
    assert_no_secret(key, tmp_path / "m.age", tmp_path / "opened")
    with pytest.raises(TargetExistsError):
        te.open_model(tmp_path / "m.age", tmp_path / "opened", identity=identity)
    with pytest.raises(TargetExistsError):
        te.seal_model(encrypted_folder, tmp_path / "m.age", recipients=[recipient])
    te.open_model(tmp_path / "m.age", tmp_path / "opened", identity=identity, force=True)


@pytest.mark.nightly
def test_a_single_file_and_a_passphrase(small, tmp_path, monkeypatch):
    monkeypatch.setattr(age_passphrase, "WORK_FACTOR", WORK_FACTOR)
    te.seal_model(small, tmp_path / "m.age", passphrase="correct horse")
    te.open_model(tmp_path / "m.age", tmp_path / "opened.safetensors", passphrase="correct horse")
    assert (tmp_path / "opened.safetensors").read_bytes() == small.read_bytes()
    assert pyrage.passphrase.decrypt((tmp_path / "m.age").read_bytes(), "correct horse") == small.read_bytes()
    (tmp_path / "theirs.age").write_bytes(pyrage.passphrase.encrypt(small.read_bytes(), "battery"))
    te.open_model(tmp_path / "theirs.age", tmp_path / "theirs.safetensors", passphrase="battery")
    assert (tmp_path / "theirs.safetensors").read_bytes() == small.read_bytes()
    with pytest.raises(SealError, match="a wrong passphrase"):
        te.open_model(tmp_path / "m.age", tmp_path / "x.safetensors", passphrase="wrong")
    with pytest.raises(SealError, match=r"ends in \.safetensors"):
        te.open_model(tmp_path / "m.age", tmp_path / "folder", passphrase="correct horse")


@pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 131072, 200_000])
def test_the_passphrase_stream_at_every_chunk_boundary(length, tmp_path):
    plain = random.Random(length).randbytes(length)
    (tmp_path / "plain").write_bytes(plain)
    with (tmp_path / "plain").open("rb") as source, (tmp_path / "m.age").open("wb") as target:
        age_passphrase.encrypt(source, target, "secret")
    assert pyrage.passphrase.decrypt((tmp_path / "m.age").read_bytes(), "secret") == plain
    with (tmp_path / "m.age").open("rb") as source, (tmp_path / "back").open("wb") as target:
        age_passphrase.decrypt(source, target, "secret")
    assert (tmp_path / "back").read_bytes() == plain


@needs_age
@pytest.mark.parametrize("kind", ["x25519", "ed25519", "rsa"])
def test_the_age_command_line_opens_ours_and_we_open_its(kind, encrypted_folder, identity, recipient, tmp_path):
    secret, public = (identity, recipient) if kind == "x25519" else ssh_key(tmp_path, kind)
    te.seal_model(encrypted_folder, tmp_path / "ours.age", recipients=[public])
    tar = subprocess.run([AGE, "-d", "-i", secret, tmp_path / "ours.age"], capture_output=True, check=True).stdout
    (tmp_path / "ours.tar").write_bytes(tar)
    with tarfile.open(tmp_path / "ours.tar") as archive:
        archive.extractall(tmp_path / "by-age", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    assert files(tmp_path / "by-age") == files(encrypted_folder)
    subprocess.run([AGE, "-r", public.strip(), "-o", tmp_path / "theirs.age", WEIGHTS], check=True)
    te.open_model(tmp_path / "theirs.age", tmp_path / "opened.safetensors", identity=secret)
    assert (tmp_path / "opened.safetensors").read_bytes() == WEIGHTS.read_bytes()


def age_with_passphrase(arguments: list, passphrase: str) -> None:
    """age asks for passphrases on a terminal, so give it one."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(AGE, [AGE, *map(str, arguments)])
    waiting = 2 if "-p" in arguments else 1
    seen = b""
    while True:
        try:
            block = os.read(terminal, 1024)
        except OSError:
            break
        if not block:
            break
        seen += block
        if waiting and b"passphrase" in seen.lower() and b":" in seen:
            os.write(terminal, passphrase.encode() + b"\n")
            waiting, seen = waiting - 1, b""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen


@pytest.mark.nightly
@needs_age
def test_the_age_command_line_and_passphrases(small, tmp_path):
    te.seal_model(small, tmp_path / "ours.age", passphrase="correct horse")
    age_with_passphrase(["-d", "-o", tmp_path / "by-age", tmp_path / "ours.age"], "correct horse")
    assert (tmp_path / "by-age").read_bytes() == small.read_bytes()
    age_with_passphrase(["-p", "-o", tmp_path / "theirs.age", small], "battery staple")
    te.open_model(tmp_path / "theirs.age", tmp_path / "opened.safetensors", passphrase="battery staple")
    assert (tmp_path / "opened.safetensors").read_bytes() == small.read_bytes()


def armored(content: bytes) -> bytes:
    """What `age -a` makes of a file."""
    lines = base64.encodebytes(content).replace(b"\n", b"")
    body = b"\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    return b"-----BEGIN AGE ENCRYPTED FILE-----\n" + body + b"\n-----END AGE ENCRYPTED FILE-----\n"


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("kind", ["recipient", "passphrase"])
def test_age_files_in_the_text_form(kind, ends, small, identity, recipient, tmp_path):
    how = {"recipients": [recipient]} if kind == "recipient" else {"passphrase": "secret"}
    opening = {"identity": identity} if kind == "recipient" else {"passphrase": "secret"}
    te.seal_model(small, tmp_path / "m.age", **how)
    text = armored((tmp_path / "m.age").read_bytes()).replace(b"\n", ends)
    (tmp_path / "arm.age").write_bytes(text)
    te.open_model(tmp_path / "arm.age", tmp_path / "opened.safetensors", **opening)
    assert (tmp_path / "opened.safetensors").read_bytes() == small.read_bytes()
    for damaged in (
        text[: len(text) // 2],
        text.replace(b"A", b"!", 1),
        text[:-20],
        text + b"more",
        text.replace(ends, b"", 3),
    ):
        (tmp_path / "bad.age").write_bytes(damaged)
        with pytest.raises(SealError, match=r"bad\.age: expected a (whole armored age file|file that age sealed)"):
            te.open_model(tmp_path / "bad.age", tmp_path / "x.safetensors", **opening)
    assert not (tmp_path / "x.safetensors").exists()


def test_what_was_never_sealed(small, tmp_path):
    for opening in ({"passphrase": "secret"}, {"identity": tmp_path / "none"}):
        with pytest.raises((SealError, FileAccessError), match=r"a file that age sealed, got something else|an identity file"):
            te.open_model(small, tmp_path / "x.safetensors", **opening)


@pytest.mark.parametrize("how", [["--to", "RECIPIENT"], ["--passphrase"]])
def test_sealing_into_a_full_disk(how, encmixer, recipient, tmp_path):
    words = [recipient if word == "RECIPIENT" else word for word in how]
    result = encmixer("model", "seal", BUNDLED_FOLDER, "m.age", *words, file_bytes=100_000, TIMM_ENCMIXER_PASSPHRASE="secret")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "File too large" in result.stderr
    assert not [path for path in tmp_path.iterdir() if "age" in path.name or "encmixer" in path.name]


def test_several_recipients_and_files_of_them(small, identity, recipient, tmp_path):
    other = pyrage.x25519.Identity.generate()
    ssh, ssh_public = ssh_key(tmp_path, "ed25519")
    (tmp_path / "team.txt").write_text(f"# the team\n{recipient}\n\n{other.to_public()}\n")
    te.seal_model(small, tmp_path / "m.age", recipients=[str(tmp_path / "team.txt"), ssh_public])
    for index, secret in enumerate([identity, str(other), ssh]):
        te.open_model(tmp_path / "m.age", tmp_path / f"{index}.safetensors", identity=secret)
        assert (tmp_path / f"{index}.safetensors").read_bytes() == small.read_bytes()


def mutations(sealed: bytes, header: int) -> dict[str, bytes]:
    """1,000 flipped bits, 100 truncations and 100 reorderings of chunks."""
    rng, chunk = random.Random(0), 65536 + 16
    found = {}
    for number in range(1000):
        bad = bytearray(sealed)
        place = rng.randrange(header if number % 4 == 0 else len(sealed))  # a quarter of them in the header
        bad[place] ^= 1 << rng.randrange(8)
        found[f"flip {number} at {place}"] = bytes(bad)
    for number in range(100):
        found[f"truncation {number}"] = sealed[: rng.randrange(len(sealed))]
    start = header + 16
    chunks = [sealed[at : at + chunk] for at in range(start, len(sealed), chunk)]
    assert len(chunks) >= 4
    found["without the last chunk"] = sealed[: start + chunk * (len(chunks) - 1)]
    for number in range(100):
        order = [*range(len(chunks))]
        while order == [*range(len(chunks))]:
            rng.shuffle(order)
            order = order[: rng.randrange(1, len(chunks) + 1)]
        found[f"chunks {number} {order}"] = sealed[:start] + b"".join(chunks[index] for index in order)
    found["twice"] = sealed + sealed
    found["with more"] = sealed + b"\0"
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["recipient", "passphrase"])
def test_no_changed_file_is_ever_opened(kind, small, identity, recipient, tmp_path):
    how = {"recipients": [recipient]} if kind == "recipient" else {"passphrase": "secret"}
    opening = {"identity": identity} if kind == "recipient" else {"passphrase": "secret"}
    te.seal_model(small, tmp_path / "m.age", **how)
    sealed = (tmp_path / "m.age").read_bytes()
    header = sealed.index(b"\n", sealed.index(b"\n---") + 1) + 1
    work = tmp_path / "work"
    work.mkdir()
    for name, content in mutations(sealed, header).items():
        (tmp_path / "bad.age").write_bytes(content)
        with pytest.raises((SealError, IntegrityError)):
            te.open_model(tmp_path / "bad.age", work / "opened.safetensors", **opening)
        assert not list(work.iterdir()), name
    te.open_model(tmp_path / "m.age", work / "opened.safetensors", **opening)


def test_what_was_sealed_must_be_a_model(identity, recipient, tmp_path):
    def sealed(content: bytes) -> Path:
        (tmp_path / "x.age").write_bytes(pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(recipient)]))
        return tmp_path / "x.age"

    with pytest.raises(IntegrityError, match="a sealed model"):
        te.open_model(sealed(b"hello"), tmp_path / "o.safetensors", identity=identity)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "escaped").write_text("x")
    for name in ("../escaped", "/tmp/escaped", "link"):
        with tarfile.open(tmp_path / "evil.tar", "w") as archive:
            entry = archive.gettarinfo(tmp_path / "evil" / "escaped", arcname=name)
            entry.name = name
            if name == "link":
                entry.name, entry.type, entry.linkname, entry.size = "config.json", tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(entry, None if name == "link" else (tmp_path / "evil" / "escaped").open("rb"))
        with pytest.raises(IntegrityError):
            te.open_model(sealed((tmp_path / "evil.tar").read_bytes()), tmp_path / "out", identity=identity)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "escaped").exists()


def test_bad_arguments(small, identity, recipient, tmp_path):
    for recipients, message in (
        ([], "recipients or a passphrase, got neither"),
        (["age1nonsense"], "an age public key"),
        (["ssh-rsa AAAA"], "an age public key"),
        ([identity.read_text().splitlines()[-1]], "got a secret key"),
    ):
        with pytest.raises(SealError, match=message):
            te.seal_model(small, tmp_path / "m.age", recipients=recipients)
    with pytest.raises(SealError, match="a file of recipients to read, got UnicodeDecodeError"):
        te.seal_model(small, tmp_path / "m.age", recipients=[str(small)])
    with pytest.raises(SealError, match="got both"):
        te.seal_model(small, tmp_path / "m.age", recipients=[recipient], passphrase="x")
    assert not (tmp_path / "m.age").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetExistsError, match="folder: expected a file to replace, got a folder; choose another target"):
        te.seal_model(small, tmp_path / "folder", recipients=[recipient], force=True)
    te.seal_model(small, tmp_path / "m.age", recipients=[recipient])
    stranger = str(pyrage.x25519.Identity.generate())
    with pytest.raises(SealError, match="No matching keys") as error:
        te.open_model(tmp_path / "m.age", tmp_path / "o.safetensors", identity=stranger)
    assert stranger not in str(error.value)
    with pytest.raises(SealError, match="expected an identity"):
        te.open_model(tmp_path / "m.age", tmp_path / "o.safetensors", passphrase="x")
    with pytest.raises(SealError, match="an age identity or an ssh private key"):
        te.open_model(tmp_path / "m.age", tmp_path / "o.safetensors", identity=small)
    with pytest.raises(FileAccessError):
        te.open_model(tmp_path / "m.age", tmp_path / "o.safetensors", identity=tmp_path / "nothing")
    with pytest.raises(FileAccessError):
        te.open_model(tmp_path / "nothing.age", tmp_path / "o.safetensors", identity=identity)


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["recipient", "passphrase"])
def test_memory_does_not_grow_with_the_file(how, identity, recipient, tmp_path):
    """400 MB, in a fresh interpreter: a fork's libraries count as growth. scrypt takes 256 MiB, whatever the size."""
    save_file({"a": torch.zeros(100_000_000)}, tmp_path / "large.safetensors")
    seal, opened = (
        (f"recipients=['{recipient}']", f"identity='{identity}'")
        if how == "recipient"
        else ("passphrase='secret'", "passphrase='secret'")
    )
    code = f"""
import sys
sys.path.insert(0, "{ROOT}/tests")
import timm_encmixer as te
from peak_memory import grown_bytes
te.seal_model, te.open_model
def there_and_back():
    te.seal_model("{tmp_path}/large.safetensors", "{tmp_path}/m.age", {seal})
    te.open_model("{tmp_path}/m.age", "{tmp_path}/opened.safetensors", {opened})
print(grown_bytes(there_and_back) // 2**20)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(result.stdout) < (60 if how == "recipient" else 330)
    assert (tmp_path / "opened.safetensors").stat().st_size == (tmp_path / "large.safetensors").stat().st_size


def test_the_command_line(encmixer, encrypted_folder, identity, recipient, tmp_path):
    assert encmixer("model", "seal", encrypted_folder, "m.age", "--to", recipient).returncode == 0
    opened = encmixer("model", "open", "m.age", "opened", "--identity", identity)
    assert opened.returncode == 0, opened.stderr
    assert files(tmp_path / "opened") == files(encrypted_folder)
    sealed = encmixer("model", "seal", WEIGHTS, "p.age", "--passphrase", TIMM_ENCMIXER_PASSPHRASE="secret")
    assert sealed.returncode == 0, sealed.stderr
    assert "secret" not in sealed.stdout + sealed.stderr
    wrong = encmixer("model", "open", "p.age", "p.safetensors", "--passphrase", TIMM_ENCMIXER_PASSPHRASE="wrong")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("encmixer: error: p.age: expected a whole file that was sealed to this")
    assert len(wrong.stderr.splitlines()) == 1
    assert encmixer("model", "seal", encrypted_folder, "q.age").returncode == 2


def test_what_is_no_recipient_is_not_repeated(small, key, key_file, tmp_path):
    """A key file given by mistake for a file of recipients."""
    text = key_file.read_text().strip()
    other = tmp_path / "other"
    other.write_text("a diary: nobody should read it")
    for recipients, where, got in (
        (str(key_file), str(key_file), "a secret key"),
        (text, "recipient", "a secret key"),
        (key.reveal().hex(), "recipient", "a secret key"),
        (str(other), str(other), "something else"),
    ):
        with pytest.raises(SealError, match=f"got {got}") as caught:
            te.seal_model(small, tmp_path / "m.age", recipients=[recipients])
        assert caught.value.where == where
        for start in range(len(text) - 7):
            assert text[start : start + 8] not in str(caught.value).replace(str(key_file), "").replace(text[:15], "")
        assert "diary" not in str(caught.value)
