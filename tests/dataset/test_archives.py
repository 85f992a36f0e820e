"""Tars from anybody: what members claim is held against the tar, and hidden members are no part of a data set."""

from __future__ import annotations

import io
import resource
import tarfile
from pathlib import Path

import pytest

from timm_encmixer.checkpoints.seal import _unpack
from timm_encmixer.datasets import verify_dataset
from timm_encmixer.errors import DataError, ImageError, IntegrityError

datasets = pytest.importorskip("datasets")
from test_reading import encrypt, model, numbers, picture  # noqa: E402, F401  # fixtures

MOST_GROWTH = 100_000  # kB


def add(tar: tarfile.TarFile, name: str, content: bytes, **pax: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = len(content), pax
    tar.addfile(info, io.BytesIO(content))


def sparse(root: Path) -> Path:
    """Ten kilobytes, which claim two gigabytes of zeros by a sparse map, version 1.0 of GNU's."""
    with tarfile.open(root, "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "model.safetensors", picture(1))
        gnu = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "config.json"}
        add(tar, "config.json", b"1\n0\n0\n".ljust(512, b"\0"), **gnu, **{"GNU.sparse.realsize": str(2 << 30)})
    return root


def sparse_of_gnu(root: Path) -> Path:
    """The same by GNU's old header, in which the map is part of the header."""
    info = tarfile.TarInfo("config.json")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"%011o\0" % (2 << 30), b"%011o\0" % 0
    header[483:495] = b"%011o\0" % (2 << 30)
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:512])
    root.write_bytes(bytes(header) + bytes(1024))
    return root


def oversize(root: Path, kind: bytes = tarfile.REGTYPE) -> Path:
    """A header that claims 99,999,999,999 bytes."""
    info = tarfile.TarInfo("config.json")
    info.type, info.size = kind, 99_999_999_999
    root.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + picture(1).ljust(10_240, b"\0"))
    return root


def negative(root: Path) -> Path:
    with tarfile.open(root, "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "model.safetensors", picture(1))
        add(tar, "config.json", picture(2), size="-2048")
    return root


def cut(root: Path) -> Path:
    """A tar that ends behind the bytes of its first member, before two more."""
    with tarfile.open(root, "w") as tar:
        for number in range(3):
            add(tar, f"{number}.jpg", picture(number))
    root.write_bytes(root.read_bytes()[: 512 + len(picture(0)) + 40])
    return root


HOSTILE = {
    "sparse": sparse,
    "sparse of GNU": sparse_of_gnu,
    "oversize": oversize,
    "oversize name": lambda root: oversize(root, tarfile.GNUTYPE_LONGNAME),
    "oversize header": lambda root: oversize(root, tarfile.XHDTYPE),
    "negative": negative,
    "cut behind a member": cut,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_tars_that_claim_more_than_they_have_and_cut_ones_are_refused(case, encrypt, tmp_path):  # noqa: F811
    (tmp_path / "src").mkdir()
    tar = HOSTILE[case](tmp_path / "src" / "train.tar")
    assert tar.stat().st_size < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"train.tar: expected a readable shard, got a damaged one"):
        encrypt(tmp_path / "src", tmp_path / "ct")
    with pytest.raises(IntegrityError, match=r"expected (a tar of one model|config.json and)"):
        _unpack(Path("m.age"), tar, tmp_path / "m", False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1_000_000
    assert not (tmp_path / "m").exists()


def test_hidden_members_of_a_tar_are_left_out_and_counted(encrypt, tmp_path):  # noqa: F811
    """macOS puts `._x.jpg` beside `x.jpg`."""
    (tmp_path / "src").mkdir()
    with tarfile.open(tmp_path / "src" / "train.tar", "w") as tar:
        add(tar, "./._.DS_Store", b"\0\5\x16\7")
        for number in range(3):
            add(tar, f"./._{number}.jpg", b"\0\5\x16\7" + picture(number))
            add(tar, f"./{number}.jpg", picture(number))
    with pytest.warns(UserWarning, match=r"train.tar: left out 4 hidden members, .* such as ./\._\.DS_Store"):
        counts = encrypt(tmp_path / "src", tmp_path / "ct")
    assert (counts.samples, counts.images, counts.bad) == (3, 3, 0)
    with tarfile.open(tmp_path / "ct" / "train.tar") as tar:
        assert tar.getnames() == ["./0.jpg", "./1.jpg", "./2.jpg"]
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds


def test_images_that_a_table_only_names_are_told_so(encrypt, tmp_path):  # noqa: F811
    (tmp_path / "0.png").write_bytes(picture(0, ".png"))
    cells = [{"bytes": None, "path": str(tmp_path / "0.png")}, {"bytes": picture(1), "path": None}]
    table = datasets.Dataset.from_dict({"image": cells}).cast_column("image", datasets.Image())
    (tmp_path / "src").mkdir()
    table.to_parquet(tmp_path / "src" / "train.parquet")
    with pytest.raises(ImageError, match=r"row 0: image: expected the image itself, got a path alone, .*0\.png; embed"):
        encrypt(tmp_path / "src", tmp_path / "ct")
    assert encrypt(tmp_path / "src", tmp_path / "ct", on_error="skip").bad == 1
    table.save_to_disk(tmp_path / "saved")  # as the remedy says
    assert encrypt(tmp_path / "saved", tmp_path / "ct2").images == 2
