"""One name, one meaning: what reads images and what converts data sets take the same names."""

from __future__ import annotations

import pytest

from timm_encmixer.datasets.sources import open_source
from timm_encmixer.errors import DataError, FileAccessError, SourceError
from timm_encmixer.hub.client import dataset_in, is_repository
from timm_encmixer.images.data_source import DataSource, find_data, find_data_source
from timm_encmixer.images.labelled import open_images


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "table" / "deep").mkdir(parents=True)
    (tmp_path / "table" / "deep" / "a.parquet").write_bytes(b"")
    (tmp_path / "file.zip").write_bytes(b"")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["me/photos", "hf://datasets/me/photos", "hf-hub:me/photos", "HF_HUB:me/photos"])
@pytest.mark.parametrize("revision", [None, "main", "refs/convert/parquet"])
def test_a_repository_may_have_a_prefix_and_a_revision(name, revision):
    source = find_data_source(name if revision is None else f"{name}@{revision}", token="mine")
    assert (source.repo_id, source.revision, source.token) == ("me/photos", revision, "mine")
    assert (source.path, source.url) == (None, None)
    assert source.is_table
    assert "mine" not in repr(source)


def test_folders_and_addresses(tmp_path):
    assert find_data_source("photos").path == find_data_source(tmp_path / "photos").path.relative_to(tmp_path)
    assert not find_data("photos").is_table
    assert find_data_source("table").is_table
    assert find_data_source("s3://bucket/folder").url == "s3://bucket/folder"
    source = DataSource("me/x", repository="me/x")
    assert find_data_source(source) is source
    (tmp_path / "me" / "photos").mkdir(parents=True)
    assert find_data_source("me/photos").path is not None  # what is here is meant, and the Hub's by its prefix
    assert find_data_source("hf://datasets/me/photos").repo_id == "me/photos"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file.zip", "got a file; give the folder that it lies in"),
        ("phtos", "got no such folder; did you mean photos"),
        ("./a", "got no such folder; check the path; a data set of the Hub is written owner/name"),
        ("a/b/c", "got no such folder"),
        (".a/b", "got no such folder"),
    ],
)
def test_both_refuse_the_same_names(name, said):
    with pytest.raises(SourceError, match=f"expected a folder, a Hub data set .owner/name. or a URL, {said}"):
        open_source(name)
    for read in (find_data, open_images):
        with pytest.raises(DataError, match=f"expected a folder or a Hub data set, {said}"):
            read(name)


def test_what_each_of_them_cannot_read():
    with pytest.raises(DataError, match=r"s3://a/b: expected a folder or a Hub data set, got a URL; download it first"):
        open_images("s3://a/b")
    assert find_data_source("table/other").may_be_path  # what converts data sets asks the Hub for it all the same
    assert not find_data_source("hf://datasets/table/other").may_be_path
    with pytest.raises(DataError, match=r"got no such folder; check .*; if the Hub's is meant, give hf://datasets/table/other"):
        find_data("table/other")  # not asked on the Hub: it may be a path of this machine, mistyped
    with pytest.raises(DataError, match=r"got no such folder; did you mean table/deep\?"):
        find_data("table/dep")
    with pytest.raises(FileAccessError, match="data: expected a path, got int"):
        open_source(3)
    with pytest.raises(DataError, match="data: expected a folder or a Hub data set, got ''"):
        find_data("")
    with pytest.raises(SourceError, match="photos: expected a Hub data set, got another source"):
        find_data_source("photos").snapshot()


def test_one_pattern_of_repositories():
    assert all(map(is_repository, ("me/m", "me/m.v2@refs/pr/1", "-/a", "_x/y")))
    assert not any(map(is_repository, ("m", "./m", "../m", "me/", "me/m/n", "me/m@", "me m/n", "hf-hub:me/m")))
    assert [dataset_in(name) for name in ("hf://datasets/a/b", "hf-hub:a/b@c")] == ["a/b", "a/b@c"]
    assert [dataset_in(name) for name in ("a/b", "s3://a/b")] == [None, None]
