"""What `datasets.load_dataset` reads in the source it reads in the result: splits, configurations, rows, columns, features."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import timm_encmixer as te
from timm_encmixer.datasets import verify_dataset
from timm_encmixer.errors import DataError, EncMixerError, SourceError

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402
from sources import tree  # noqa: E402

BOM = "\ufeff"
Rows = list[dict[str, Any]]


@pytest.fixture
def model(encrypted) -> Path:
    return encrypted


@pytest.fixture
def encrypt(model, key_file) -> Callable[..., Any]:
    return lambda src, dst, **options: te.encrypt_dataset(src, dst, key_file, model, progress=False, **options)


def picture(number: int, suffix: str = ".jpg") -> bytes:
    """A small image that differs from all others."""
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=Image.registered_extensions()[suffix.lower()])
    return buffer.getvalue()


def write(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def jsonl(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def csv_of(rows: Rows) -> str:
    return "".join(",".join(map(str, row)) + "\r\n" for row in (rows[0], *(row.values() for row in rows)))


def parquet_of(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def readme(*configs: Mapping[str, Any]) -> str:
    return f"---\nlicense: mit\nconfigs: {json.dumps(list(configs))}\n---\n# Photos\n"  # JSON is YAML


def split(name: str, *paths: str) -> dict[str, Any]:
    return {"split": name, "path": paths[0] if len(paths) == 1 else list(paths)}


FOUR = {f"{n}{suffix}": picture(n, suffix) for n, suffix in enumerate((".jpg", ".JPEG", ".png", ".webp"))}
ROWS = [{"file_name": name, "text": f"été {name}, told"} for name in FOUR]
QUOTED = [{"file_name": name, "text": f'"été, {name}"'} for name in FOUR]
PLAIN = [{"file_name": name, "n": number} for number, name in enumerate(FOUR)]
RENAMED = [{"photo_file_name": name, "n": number} for number, name in enumerate(FOUR)]
NESTED = [{"info": {"photo_file_name": name, "by": "me"}, "n": n} for n, name in enumerate(FOUR)]
JPEGS = {f"{n}.jpg": picture(n) for n in range(4)}
LISTS = [{"file_names": ["0.jpg", "1.JPEG"], "n": 1}, {"file_names": ["2.png"], "n": 2}]
IN_A = {f"a/{name}": content for name, content in FOUR.items()}
A_AND_B = {f"{folder}/{n}.jpg": picture(n + 10 * ord(folder)) for folder in "ab" for n in range(2)}

LAYOUTS: dict[str, dict[str, bytes | str]] = {
    "csv": {**FOUR, "metadata.csv": csv_of(QUOTED)},
    "csv_bom": {**FOUR, "metadata.csv": BOM + csv_of(QUOTED)},
    "csv_twice_one_name": {**FOUR, "metadata.csv": "file_name,n,n\r\n" + "".join(f"{name},1,2\r\n" for name in FOUR)},
    "csv_long_cell": {**FOUR, "metadata.csv": csv_of(PLAIN) + f'0.jpg,"{"x" * 200_000}"\r\n'},
    "csv_odd_cells": {
        **FOUR,
        "metadata.csv": 'file_name,text\r\n0.jpg,"a\rb"\r\n\r\n1.JPEG,"say ""no"""\r\n2.png,\r\n3.webp,NA\r\n',
    },
    "jsonl": {**FOUR, "metadata.jsonl": jsonl(ROWS)},
    "jsonl_bom": {**FOUR, "metadata.jsonl": BOM + jsonl(ROWS)},
    "jsonl_renamed": {**FOUR, "metadata.jsonl": jsonl(RENAMED)},
    "jsonl_nested": {**FOUR, "metadata.jsonl": jsonl(NESTED)},
    "jsonl_lists": {**FOUR, "metadata.jsonl": jsonl(LISTS)},
    "parquet": {**FOUR, "metadata.parquet": parquet_of(ROWS)},
    "parquet_nested": {**FOUR, "metadata.parquet": parquet_of(NESTED)},
    "parquet_lists": {**FOUR, "metadata.parquet": parquet_of(LISTS)},
    "a_table_for_each_split": {
        f"{name}/{file}": content
        for name in ("train", "test")
        for file, content in {**FOUR, "metadata.csv": csv_of(PLAIN)}.items()
    },
    "patterns_that_become_one": {
        **FOUR,
        "README.md": readme({"config_name": "default", "data_files": ["*.jpg", "*.JPEG", "*.png", "*.webp"]}),
    },
    "names_in_capitals": {"a.jpg": picture(1), "b.JPG": picture(2, ".JPG"), "notes.txt": b"of an image"},
    "class_folders": {f"{part}/{label}/{n}.jpg": picture(n) for part in ("train", "test") for label in "xy" for n in range(2)},
    "pattern": {**A_AND_B, "README.md": readme({"config_name": "default", "data_files": "a/*.jpg"})},
    "patterns": {
        **A_AND_B,
        "README.md": readme(
            {"config_name": "one", "data_files": [split("train", "a/*.jpg"), split("test", "b/0.jpg", "b/1.jpg")]},
            {"config_name": "two", "data_files": ["b/*.jpg"]},
        ),
    },
    "folders_as_configurations": {
        **A_AND_B,
        "README.md": readme({"config_name": "one", "data_dir": "a"}, {"config_name": "two", "data_dir": "b"}),
    },
    "captions": {
        **JPEGS,
        "captions.jsonl": jsonl([{"file_name": name, "text": f"told {name}"} for name in JPEGS]),
        "README.md": readme({"config_name": "default", "data_files": "*", "metadata_filenames": ["captions.jsonl"]}),
    },
    "infos": {
        **A_AND_B,
        "dataset_infos.json": json.dumps(
            {
                "default": {
                    "features": {
                        "image": {"_type": "Image"},
                        "label": {"names": ["b", "a"], "_type": "ClassLabel"},
                    },
                    "splits": {"train": {"name": "train", "num_bytes": 7, "num_examples": 4, "dataset_name": "src"}},
                    "download_size": 7,
                }
            }
        ),
    },
    "sizes": {
        **A_AND_B,
        "README.md": "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': a\n          '1': b\n"
        "  splits:\n  - name: train\n    num_bytes: 7\n    num_examples: 4\n---\n",
    },
}


def everything(folder: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """All configurations and splits of a data set, read by the real library."""
    if (folder / "dataset_dict.json").exists():
        return {"default": datasets.load_from_disk(str(folder))}
    configs = datasets.get_dataset_config_names(str(folder))
    return {name: datasets.load_dataset(str(folder), name, cache_dir=str(cache)) for name in configs}


def images_of(value: Any) -> list[Image.Image]:
    if isinstance(value, Image.Image):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [image for item in inner for image in images_of(item)]


def words(value: Any) -> Any:
    """A row without its images, and without their paths, which end in .png."""
    if isinstance(value, Image.Image):
        return "image"
    if isinstance(value, dict):
        return {name: words(item) for name, item in value.items() if name != "__url__"}
    return [words(item) for item in value] if isinstance(value, list) else value


def assert_the_same(src: Path, result: Path, transform: Any, bad: Callable[[Any], bool] = lambda row: False) -> int:
    """Compare two data sets row by row; `bad` says which rows of the source are not in the result. Returns the rows."""
    before, after = (everything(folder, result.parent / f"cache-{folder.name}") for folder in (src, result))
    assert list(before) == list(after)
    count = 0
    for config, splits in before.items():
        assert list(splits) == list(after[config])
        for name, plain in splits.items():
            ciphertext = after[config][name]
            assert plain.features == ciphertext.features
            rows = [row for row in plain if not bad(row)]
            assert [words(row) for row in rows] == [words(row) for row in ciphertext]
            for row, other in zip(rows, ciphertext, strict=True):
                for image, encrypted in zip(images_of(row), images_of(other), strict=True):
                    assert np.array_equal(np.array(transform(image)), np.array(encrypted))
            count += len(rows)
    return count


@pytest.fixture
def transform(model, key) -> Any:
    return te.create_transform(str(model), key=key, output="image")


@pytest.mark.nightly(
    but=(
        "jsonl",
        "csv_twice_one_name",
        "parquet",
        "folders_as_configurations",
        "a_table_for_each_split",
        "patterns",
    )
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_image_folders_are_read_as_before_or_refused_at_once(layout, encrypt, transform, tmp_path):
    src = write(tmp_path / "src", LAYOUTS[layout])
    encrypt(src, tmp_path / "ct")
    assert assert_the_same(src, tmp_path / "ct", transform) > 0
    verified = verify_dataset(str(tmp_path / "ct"), progress=False)
    assert verified.holds, verified
    assert verified.source_compared


REFUSED: dict[str, tuple[dict[str, bytes | str], str]] = {
    "a pattern that would match more": (
        {**IN_A, "README.md": readme({"config_name": "default", "data_files": "a/*.jpg"})},
        "another choice of files",
    ),
    "a pattern in other words": (
        {**A_AND_B, "README.md": readme({"config_name": "default", "data_files": "a/*.[jJ][pP][gG]"})},
        "cannot read there",
    ),
    "a pattern of files elsewhere": (
        {**FOUR, "README.md": readme({"config_name": "default", "data_files": "hf://datasets/me/plain/a.jpg"})},
        "expected data_files below the data set",
    ),
    "a table that is no text": ({**FOUR, "metadata.csv": b"file_name,n\r\n0.jpg,\xff\r\n"}, "metadata.csv: expected the text"),
    "a table that is no JSON": ({**FOUR, "metadata.jsonl": "{"}, "metadata.jsonl: expected the text"),
    "a table of no objects": ({**FOUR, "metadata.jsonl": "[1]"}, "a line that is no object"),
    "a table that is no parquet": ({**FOUR, "metadata.parquet": b"PAR1"}, "metadata.parquet: expected the text"),
    "metadata of a card that is no YAML": ({**FOUR, "README.md": "---\na: [\n---\n"}, "README.md: expected a card"),
    "configurations that are none": ({**FOUR, "README.md": "---\nconfigs: 5\n---\n"}, "README.md: expected configs"),
    "a card that is no UTF-8": ({**FOUR, "README.md": b"# caf\xe9"}, "README.md: expected text in UTF-8"),
    "a table with a number that no float holds": (
        {**FOUR, "metadata.jsonl": '{"file_name": "0.jpg", "n": 1e400}\n'},
        "a number that no float holds: 1e400",
    ),
    "a table with a name twice": (
        {**FOUR, "metadata.jsonl": '{"file_name": "0.jpg", "file_name": "2.png"}\n'},
        "a name twice in one object: file_name",
    ),
    "a row of no file": (
        {**FOUR, "metadata.csv": csv_of([*PLAIN, {"file_name": "9.png", "n": 9}])},
        "9.png, which is not there",
    ),
    "a row of no file in JSON": ({**FOUR, "metadata.jsonl": jsonl([{"file_name": "9.png"}])}, "9.png, which is not there"),
    "a row of no file in parquet": (
        {**FOUR, "metadata.parquet": parquet_of([{"file_name": "../0.jpg"}])},
        r"\.\./0\.jpg, which is not there",
    ),
    "a table with other separators": (
        {**FOUR, "metadata.csv": "file_name;n\r\n0.jpg;1\r\n"},
        "one that it does not read plain",
    ),
    "a table of lists in CSV": ({**FOUR, "metadata.csv": "file_names,n\r\n0.jpg,1\r\n"}, "one that it does not read plain"),
    "a pattern that matches nothing": (
        {**FOUR, "README.md": readme({"config_name": "default", "data_files": "*.JPG"})},
        "one that it does not read plain",
    ),
    "an archive beside the images": ({**FOUR, "more.zip": b""}, "more.zip: expected image files, got an archive"),
    "a state that is no JSON": ({"data.arrow": b"", "state.json": "{"}, "state.json: expected the text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_so_is_refused_before_the_first_image_and_can_be_mended(case, encrypt, tmp_path):
    files, message = REFUSED[case]
    src = write(tmp_path / "src", files)
    with pytest.raises((DataError, SourceError), match=message):
        encrypt(src, tmp_path / "ct")
    assert not [name for name in tree(tmp_path / "ct") if not name.startswith(".encmixer/")]
    for name in files:
        if name.partition(".")[0] in ("metadata", "README", "more"):
            (src / name).unlink()
    if "data.arrow" not in files:
        assert encrypt(src, tmp_path / "ct").images == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x/a.jpg": picture(1), "x/b.Jpg": picture(2), "y/c.jpg": picture(3)}, "2 files|2 rows of .*, then 3 rows"),
        ({"train/a.jpg": picture(1), "train/a.txt": b"told", "train/b.txt": b"told"}, "of the kind text, then imagefolder"),
        ({"a.jpg": picture(1), "a.json": b"{}", "b.json": b"{}"}, "of the kind json, then imagefolder"),
    ],
)
def test_names_by_which_the_source_is_read_otherwise_are_refused(files, message, encrypt, tmp_path):
    src = write(tmp_path / "src", files)
    with pytest.raises(DataError, match=message):
        encrypt(src, tmp_path / "ct")
    assert not [name for name in tree(tmp_path / "ct") if not name.startswith(".encmixer/")]
    if "a.txt" in str(files):
        assert encrypt(src, tmp_path / "ct2", include=["*.jpg"]).images == 1  # so that it is said which files are meant


def test_a_folder_that_datasets_does_not_read_at_all_is_encrypted_for_others(encrypt, tmp_path):
    src = write(tmp_path / "src", {"a.Jpg": picture(1), "b.Jpg": picture(2)})
    assert encrypt(src, tmp_path / "ct").images == 2


def test_a_run_that_has_begun_goes_on_when_a_side_file_was_mended(encrypt, transform, tmp_path):
    """The table is damaged after the first images are encrypted: what is done stays."""
    src = write(tmp_path / "src", {**FOUR, "more/9.jpg": b"no image", "metadata.jsonl": jsonl(ROWS)})
    with pytest.raises(EncMixerError, match=r"9.jpg: expected an image"):
        encrypt(src, tmp_path / "ct")
    write(src, {"more/9.jpg": picture(9), "metadata.jsonl": jsonl(ROWS[:1]) + "{"})
    with pytest.raises(DataError, match=r"metadata.jsonl"):
        encrypt(src, tmp_path / "ct")
    write(src, {"metadata.jsonl": jsonl(ROWS)})
    counts = encrypt(src, tmp_path / "ct")
    assert (counts.kept, counts.written, counts.images) == (1, 1, 5)
    assert assert_the_same(src, tmp_path / "ct", transform) == 4


def test_a_table_that_names_a_file_that_is_left_out_is_refused(encrypt, tmp_path):
    src = write(tmp_path / "src", {**FOUR, "more/4.jpg": picture(4)})
    (src / "linked").symlink_to(src / "more", target_is_directory=True)
    for name in ("linked/4.jpg", ".hidden/4.jpg", "more/x.txt"):
        write(src, {name.replace("linked", "more"): picture(4)})
        write(src, {"metadata.csv": csv_of([*PLAIN, {"file_name": name, "n": 9}])})
        with pytest.raises(DataError, match=f"a row of the file {name}, which is left out"):
            encrypt(src, tmp_path / "ct")


BAD = b"\xff\xd8\xff no image"


def numbers(count: int, bad: int | None) -> list[bytes]:
    return [BAD if n == bad else picture(n) for n in range(count)]


def as_parquet(root: Path, cells: list[bytes], name: str = "train-00000-of-00001.parquet") -> Path:
    table = pyarrow.table({"image": [{"bytes": cell, "path": None} for cell in cells], "n": list(range(len(cells)))})
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int64")})
    root.mkdir(exist_ok=True)
    parquet.write_table(table.cast(features.arrow_schema), root / name)
    return root


def as_arrow(root: Path, cells: list[bytes]) -> Path:
    rows = {"image": [{"bytes": cell, "path": None} for cell in cells], "n": list(range(len(cells)))}
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int64")})
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)})
    splits.save_to_disk(root, num_shards={"train": 2})
    return root


def as_tar(root: Path, cells: list[bytes]) -> Path:
    root.mkdir()
    with tarfile.open(root / "train.tar", "w") as tar:
        for n, cell in enumerate(cells):
            for suffix, content in (("jpg", cell), ("json", json.dumps({"n": n}).encode())):
                info = tarfile.TarInfo(f"{n:03d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return root


def as_images(root: Path, cells: list[bytes]) -> Path:
    files = {f"{n}.jpg": cell for n, cell in enumerate(cells)}
    rows = [{"file_name": name, "n": n} for n, name in enumerate(files)]
    return write(root, {**files, "metadata.csv": csv_of(rows)})


def number_of(row: dict[str, Any]) -> int:
    return row["n"] if "n" in row else row["json"]["n"]


@pytest.mark.parametrize("make", [as_parquet, as_arrow, as_tar, as_images])
@pytest.mark.parametrize("position", range(4))
def test_a_bad_image_is_left_out_with_its_row_wherever_it_is(make, position, encrypt, transform, tmp_path):
    src, whole = make(tmp_path / "src", numbers(4, position)), make(tmp_path / "whole", numbers(4, None))
    assert encrypt(src, tmp_path / "ct", on_error="skip").bad == 1
    assert assert_the_same(whole, tmp_path / "ct", transform, bad=lambda row: number_of(row) == position) == 3
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds


def test_files_that_a_configuration_names_go_when_they_are_bad(encrypt, tmp_path):
    test = split("test", "b/*.jpg")
    files = {"config_name": "default", "data_files": [split("train", "a/0.jpg", "a/1.jpg", "a/0.jpg"), test]}
    src = write(tmp_path / "src", {**A_AND_B, "a/1.jpg": BAD, "README.md": readme(files)})
    assert encrypt(src, tmp_path / "ct", on_error="skip").bad == 1
    rows = everything(tmp_path / "ct", tmp_path / "cache")["default"]
    assert {name: len(list(table)) for name, table in rows.items()} == {"train": 2, "test": 2}
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds
    write(src, {"README.md": readme({**files, "data_files": [split("train", "a/1.jpg"), test]})})
    with pytest.raises(DataError, match="an image that can be used in each split"):
        encrypt(src, tmp_path / "ct2", on_error="skip")


def test_a_table_in_parquet_may_lose_all_its_rows_and_have_columns_without_values(encrypt, tmp_path):
    rows = [{"file_name": "0.jpg", "text": None}]
    src = write(tmp_path / "src", {"0.jpg": BAD, "1.jpg": picture(1), "metadata.parquet": parquet_of(rows)})
    assert encrypt(src, tmp_path / "ct", on_error="skip").images == 1
    assert parquet.read_table(tmp_path / "ct" / "metadata.parquet").num_rows == 0


@pytest.mark.parametrize("bad", range(2))
def test_shards_of_which_all_rows_are_bad_are_read_as_empty(bad, encrypt, tmp_path):
    src = tmp_path / "src"
    for part in range(2):
        as_parquet(src, [BAD] * 70 if part == bad else numbers(2, None), f"train-0000{part}-of-00002.parquet")
    assert encrypt(src, tmp_path / "ct", on_error="skip").bad == 70
    assert [len(rows) for rows in everything(tmp_path / "ct", tmp_path / "cache")["default"].values()] == [2]
    saved = as_arrow(tmp_path / "saved", [*[BAD] * 2, *numbers(2, None)] if bad == 0 else [*numbers(2, None), *[BAD] * 2])
    assert encrypt(saved, tmp_path / "ct2", on_error="skip").bad == 2
    assert len(everything(tmp_path / "ct2", tmp_path / "cache2")["default"]["train"]) == 2
    assert verify_dataset(str(tmp_path / "ct2"), progress=False).holds


def test_a_split_or_a_class_folder_of_which_nothing_is_left_stops_the_run(encrypt, tmp_path):
    """A split without samples cannot be read; without a class folder the others have other numbers."""
    with pytest.raises(DataError, match="split train: expected a sample that can be used in each split"):
        encrypt(as_tar(tmp_path / "tars", [BAD] * 3), tmp_path / "ct", on_error="skip")
    with pytest.raises(DataError, match="split train: expected a sample that can be used in each split"):
        encrypt(as_parquet(tmp_path / "tables", [BAD] * 3), tmp_path / "ct1", on_error="skip")
    src = write(tmp_path / "src", {"a/0.jpg": BAD, "b/1.jpg": picture(1), "c/2.jpg": picture(2)})
    with pytest.raises(DataError, match="a: expected an image that can be used in each folder"):
        encrypt(src, tmp_path / "ct2", on_error="skip")
    write(src, {"a/0.jpg": picture(0)})
    counts = encrypt(src, tmp_path / "ct2", on_error="skip")
    assert (counts.written, counts.kept, counts.bad) == (1, 2, 0)


def test_included_parts_are_read_as_they_are_in_the_whole(encrypt, transform, tmp_path):
    src = as_parquet(as_parquet(tmp_path / "src", [picture(1)], "first.parquet"), [picture(2), picture(3)], "second.parquet")
    configs = [
        {"config_name": "both", "data_files": [split("train", "first.parquet"), split("test", "second.parquet")]},
        {"config_name": "one", "data_files": "first.parquet"},
    ]
    write(src, {"README.md": readme(*configs)})
    counts = encrypt(src, tmp_path / "ct", include=["second.*"])
    assert counts.left_out == {"include": ("first.parquet",)}
    result = everything(tmp_path / "ct", tmp_path / "cache")
    assert {name: {part: len(rows) for part, rows in splits.items()} for name, splits in result.items()} == {
        "both": {"test": 2}
    }

    images = write(tmp_path / "images", {**FOUR, "metadata.csv": csv_of(PLAIN)})
    encrypt(images, tmp_path / "ct2", include=["[01].*"])
    assert everything(tmp_path / "ct2", tmp_path / "cache2")["default"]["train"]["n"][:] == [0, 1]

    saved = as_arrow(tmp_path / "saved", numbers(4, None))
    encrypt(saved, tmp_path / "ct3", include=["*-00001-of-*"])
    assert everything(tmp_path / "ct3", tmp_path / "cache3")["default"]["train"]["n"][:] == [2, 3]


def test_a_table_called_metadata_is_a_shard_where_there_are_no_image_files(encrypt, transform, tmp_path):
    src = as_parquet(tmp_path / "src", numbers(2, None), "metadata.parquet")
    assert encrypt(src, tmp_path / "ct").images == 2
    assert assert_the_same(src, tmp_path / "ct", transform) == 2
