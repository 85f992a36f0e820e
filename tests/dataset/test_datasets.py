"""Whole data sets: the same kind, columns, labels, splits and shards; every image exact; nothing lost, nothing leaked."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import assert_no_secret
from PIL import Image

import timm_encmixer as te
from timm_encmixer.datasets import describe_dataset, verify_dataset
from timm_encmixer.errors import (
    DataError,
    FileAccessError,
    ImageError,
    KeyMismatchError,
    NotEncryptedError,
    SchemeError,
    SourceError,
    TargetExistsError,
)
from timm_encmixer.images.codec import ENCRYPT, make_codec
from timm_encmixer.scheme import Preprocessing

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402
from sources import KINDS, imagefolder, jpeg, read, table, tree, webdataset  # noqa: E402
from sources import parquet as parquet_folder  # noqa: E402


@pytest.fixture
def model(encrypted) -> Path:
    """The folder of the bundled model, encrypted with `key`."""
    return encrypted


def image_of(row: dict) -> np.ndarray:
    value = row["image"] if "image" in row else row["img"] if "img" in row else row["jpg"]
    return np.array(value.convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_shape_and_encrypts_every_image(kind, model, key, key_file, tmp_path):
    src = KINDS[kind](tmp_path / "src")
    counts = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    assert (counts.kind, counts.kept, counts.bad) == (kind, 0, 0)
    back = te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    assert (back.samples, back.images, back.shards) == (counts.samples, counts.images, counts.shards)
    transform = te.create_transform(str(model), key=key, output="image")
    for split in ("train",) if kind == "webdataset" else ("train", "test"):
        plain, ciphertext, decrypted = (read(tmp_path / name, split) for name in ("src", "ct", "back"))
        assert plain.features == ciphertext.features == decrypted.features
        assert len(plain) == len(ciphertext) == len(decrypted) > 0
        others = [name for name in plain.column_names if name not in ("img", "image", "jpg", "__url__")]
        for name in others:
            assert list(plain[name]) == list(ciphertext[name]) == list(decrypted[name])
        for before, encrypted, after in zip(plain, ciphertext, decrypted, strict=True):
            source = before.get("image") or before.get("img") or before.get("jpg")
            assert np.array_equal(image_of(encrypted), np.array(transform(source)))
            assert np.array_equal(image_of(after), transform.preprocess(source).permute(1, 2, 0).numpy())
    assert_no_secret(key, tmp_path / "ct", tmp_path / "back")
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds
    shards = {path for path in tree(tmp_path / "src") if path.endswith((".parquet", ".arrow", ".tar"))}
    assert shards <= set(tree(tmp_path / "ct"))


def test_a_second_run_keeps_everything_and_another_job_is_refused(model, key, key_file, other_key, tmp_path):
    src = parquet_folder(tmp_path / "src")
    first = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    before = tree(tmp_path / "ct")
    again = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    assert (again.written, again.kept, again.images) == (0, first.shards, first.images)
    assert tree(tmp_path / "ct") == before
    with pytest.raises(SourceError, match=r"different options \(resize\)"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, resize=False, progress=False)
    (src / "train-00007.parquet").write_bytes((src / "test-00000-of-00001.parquet").read_bytes())
    with pytest.raises(SourceError, match=r"train-00007.parquet appeared"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    with pytest.raises(KeyMismatchError):
        te.encrypt_dataset(src, tmp_path / "ct2", other_key, model, progress=False)
    assert not (tmp_path / "ct2").exists()


def test_timm_reads_the_result(model, key, key_file, tmp_path):
    te.encrypt_dataset(parquet_folder(tmp_path / "src"), tmp_path / "ct", key_file, model, progress=False)
    data = timm.data.create_dataset(
        f"hfds/{tmp_path / 'ct'}", root=None, split="test", input_key="img", target_key="label", download=False
    )
    image, label = data[0]
    assert image.size == (32, 32)
    assert isinstance(label, int)
    server = timm.create_model("encmixer_256_8_ks5_p4", checkpoint_path=str(model / "model.safetensors")).eval()
    with torch.inference_mode():
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(server))
        answers = [int(server(transform(data[index][0])[None]).argmax()) == data[index][1] for index in range(len(data))]
    assert sum(answers) > 0.6 * len(answers)


def test_a_job_of_which_nothing_is_done_may_change(model, key_file, tmp_path):
    src = parquet_folder(tmp_path / "src")
    with pytest.raises(DataError, match="the column nope"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, image_columns=["nope"], progress=False)
    assert te.encrypt_dataset(src, tmp_path / "ct", key_file, model, image_columns=["img"], progress=False).shards == 3


def bad_parquet(folder: Path) -> Path:
    """Two bad cells: no image, and half of one; and a missing image, which is none."""
    parquet_folder(folder)
    path = folder / "train-00000-of-00002.parquet"
    rows = parquet.read_table(path)
    cells = rows.column("img").to_pylist()
    cells[3]["bytes"], cells[5], cells[9]["bytes"] = b"not an image", None, cells[9]["bytes"][:200]
    column = pyarrow.array(cells, rows.schema.field("img").type)
    parquet.write_table(rows.set_column(0, rows.schema.field("img"), column), path)
    return folder


def test_bad_cells_stop_the_run_by_default_and_are_named(model, key_file, tmp_path):
    with pytest.raises(ImageError, match=r"train-00000-of-00002.parquet: row 3: img: expected an image.*--on-error"):
        te.encrypt_dataset(bad_parquet(tmp_path / "src"), tmp_path / "ct", key_file, model, progress=False)
    assert not [name for name in tree(tmp_path / "ct") if name.endswith(".parquet") and "train-00000" in name]
    counts = te.encrypt_dataset(tmp_path / "src", tmp_path / "ct", key_file, model, on_error="skip", progress=False)
    assert counts.bad == 2


@pytest.mark.parametrize("policy", ["skip", "quarantine"])
def test_bad_cells_are_left_out_and_listed(policy, model, key, key_file, tmp_path):
    src = bad_parquet(tmp_path / "src")
    counts = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, on_error=policy, progress=False)
    manifest = json.loads((tmp_path / "ct" / ".encmixer" / "manifest.json").read_text())
    listed = [bad["sample"] for shard in manifest["shards"] for bad in shard["bad"]]
    assert (counts.bad, listed) == (2, ["row 3", "row 9"])
    plain, ciphertext = read(src, "train"), read(tmp_path / "ct", "train")
    assert len(ciphertext) == len(plain) - 2
    captions = plain.remove_columns("img")["caption"]
    assert list(ciphertext["caption"]) == [text for row, text in enumerate(captions) if row not in (3, 9)]
    assert ciphertext[4]["img"] is None  # row 5 had none
    quarantined = tree(tmp_path / "ct.quarantine") if policy == "quarantine" else {}
    assert list(quarantined.values())[:1] == ([b"not an image"] if quarantined else [])
    assert len(quarantined) == (2 if policy == "quarantine" else 0)
    assert "2 samples could not be used" in (tmp_path / "ct" / "README.md").read_text()


def test_bad_files_and_members_too(model, key_file, tmp_path):
    folder = imagefolder(tmp_path / "images")
    bad = next(folder.rglob("0003.jpg"))
    bad.write_bytes(b"GIF89a")
    counts = te.encrypt_dataset(folder, tmp_path / "ct", key_file, model, on_error="quarantine", progress=False)
    assert (counts.bad, counts.images) == (1, 17)
    assert not list((tmp_path / "ct").rglob("0003.*"))
    assert list(tree(tmp_path / "ct.quarantine").values()) == [b"GIF89a"]
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds

    tars = webdataset(tmp_path / "tars", shards=1)
    with tarfile.open(tars / "train-0000.tar", "a") as tar:
        for name, content in (("zz.jpg", b"junk"), ("zz.cls", b"3")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    counts = te.encrypt_dataset(tars, tmp_path / "ct2", key_file, model, on_error="skip", progress=False)
    assert (counts.bad, counts.images) == (1, 20)
    with tarfile.open(tmp_path / "ct2" / "train-0000.tar") as tar:
        assert not [name for name in tar.getnames() if name.startswith("zz")]


def test_without_resizing_sizes_are_kept_or_bad(model, key, key_file, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    for name, size in (("a", (40, 24)), ("b", (41, 24))):
        Image.effect_noise(size, 50).convert("RGB").save(src / f"{name}.png")
    with pytest.raises(ImageError, match=r"b.png: expected height and width that are multiples of 4"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, resize=False, progress=False)
    counts = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, resize=False, on_error="skip", progress=False)
    assert (counts.images, counts.bad) == (1, 1)
    te.decrypt_dataset(tmp_path / "ct", tmp_path / "back", key, progress=False)
    assert np.array_equal(np.array(Image.open(tmp_path / "back" / "a.png")), np.array(Image.open(src / "a.png")))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_metadata_tables_follow_their_files(suffix, model, key_file, tmp_path):
    src = tmp_path / "src" / "train"
    src.mkdir(parents=True)
    rows = [{"file_name": f"{row}.jpg", "text": f"été {row}, told"} for row in range(3)]
    for row in rows:
        (src / row["file_name"]).write_bytes(jpeg(Image.effect_noise((32, 32), 50).convert("RGB")))
    if suffix == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), src / "metadata.parquet")
    else:
        head = [] if suffix == "jsonl" else ["file_name,text"]
        lines = [json.dumps(row) if suffix == "jsonl" else f'{row["file_name"]},"{row["text"]}"' for row in rows]
        (src / f"metadata.{suffix}").write_text("\n".join([*head, *lines]) + "\n")
    (src / "notes.txt").write_text("nobody knows what this shows")
    counts = te.encrypt_dataset(src.parent, tmp_path / "ct", key_file, model, progress=False)
    assert counts.passed_over == ("train/notes.txt",)
    assert "train/notes.txt" not in tree(tmp_path / "ct")
    assert list(read(tmp_path / "ct", "train")["text"]) == [row["text"] for row in rows]


def test_the_card_keeps_configurations_and_licence_but_not_the_plain_sizes(model, key_file, tmp_path):
    src = parquet_folder(tmp_path / "src")
    (src / "hold-out.parquet").write_bytes((src / "test-00000-of-00001.parquet").read_bytes())
    (src / "README.md").write_text(
        "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: mine\n    path: hold-out.parquet\n"
        "dataset_info:\n  features: []\n  splits:\n  - name: mine\n    num_bytes: 1\n    num_examples: 99\n---\n# Mine\n"
    )
    te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    card = (tmp_path / "ct" / "README.md").read_text()
    assert "license: mit" in card
    assert "num_examples" not in card
    assert card.index("# Mine") < card.index("## Encrypted images")
    assert datasets.get_dataset_split_names(str(tmp_path / "ct")) == ["mine"]


def nested() -> datasets.Dataset:
    return table(0, 4).add_column("more", [[]] * 4).cast_column("more", datasets.Sequence(datasets.Image()))


def test_images_in_places_that_would_stay_plain_are_refused(model, key_file, tmp_path):
    (tmp_path / "src").mkdir()
    nested().to_parquet(tmp_path / "src" / "train.parquet")
    with pytest.raises(DataError, match=r"images inside of more.*--image-column"):
        te.encrypt_dataset(tmp_path / "src", tmp_path / "ct", key_file, model, progress=False)
    table(0, 4).remove_columns("img").to_parquet(tmp_path / "src" / "train.parquet")
    with pytest.raises(DataError, match="an image column, got the columns label, caption"):
        te.encrypt_dataset(tmp_path / "src", tmp_path / "ct2", key_file, model, progress=False)
    folder = webdataset(tmp_path / "tars", shards=1)
    with tarfile.open(folder / "train-0000.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("zz.jpg.gz"))
    with pytest.raises(DataError, match="compressed member"):
        te.encrypt_dataset(folder, tmp_path / "ct3", key_file, model, progress=False)


def test_files_without_the_features_of_datasets(model, key_file, tmp_path):
    """Parquet as others write it: a struct of bytes and path, and a bare binary column that is named."""
    (tmp_path / "src").mkdir()
    rows = table(0, 6)
    bare = pyarrow.table({"photo": [jpeg(row["img"]) for row in rows], "n": list(range(6))})
    parquet.write_table(bare, tmp_path / "src" / "train.parquet", compression="zstd")
    with pytest.raises(DataError, match="an image column"):
        te.encrypt_dataset(tmp_path / "src", tmp_path / "ct", key_file, model, progress=False)
    te.encrypt_dataset(tmp_path / "src", tmp_path / "ct2", key_file, model, image_columns=["photo"], progress=False)
    after = parquet.read_table(tmp_path / "ct2" / "train.parquet")
    assert after.schema == bare.schema
    assert all(cell.as_py().startswith(b"\x89PNG") for cell in after.column("photo"))
    assert parquet.ParquetFile(tmp_path / "ct2" / "train.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_damaged_shards_are_named(model, key_file, tmp_path):
    src = parquet_folder(tmp_path / "src")
    shard = src / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: expected a readable shard, got a damaged one"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    assert not (tmp_path / "ct" / shard.name).exists()
    folder = webdataset(tmp_path / "tars", shards=1)
    tar = folder / "train-0000.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train-0000.tar: expected a readable shard"):
        te.encrypt_dataset(folder, tmp_path / "ct2", key_file, model, progress=False)


def test_a_shard_that_was_lost_or_cut_short_is_made_again_before_the_end(model, key, key_file, tmp_path):
    src = bad_parquet(tmp_path / "src")  # stops, with the other shards done
    with pytest.raises(ImageError):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    info = describe_dataset(str(tmp_path / "ct"))
    assert info["finished"] is False
    whole = te.encrypt_dataset(src, tmp_path / "whole", key_file, model, on_error="skip", progress=False)
    te.encrypt_dataset(src, tmp_path / "ct", key_file, model, on_error="skip", progress=False)
    assert tree(tmp_path / "ct") == tree(tmp_path / "whole")
    (tmp_path / "ct" / "test-00000-of-00001.parquet").write_bytes(b"cut short")
    assert verify_dataset(str(tmp_path / "ct"), progress=False).differing == ("test-00000-of-00001.parquet",)
    assert whole.shards == 3


def test_targets_that_hold_something_else_are_left_alone(model, key_file, tmp_path):
    src = imagefolder(tmp_path / "src", count=4)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(TargetExistsError, match="holds something else"):
        te.encrypt_dataset(src, tmp_path / "taken", key_file, model, progress=False)
    assert list(tree(tmp_path / "taken")) == ["mine.txt"]
    with pytest.raises(SourceError, match="inside"):
        te.encrypt_dataset(src, src / "ct", key_file, model, progress=False)
    shutil.copy(next(src.rglob("0000.jpg")), next(src.rglob("0000.jpg")).with_suffix(".jpeg"))
    with pytest.raises(SourceError, match="one image per PNG"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)


def test_what_cannot_be_a_png_or_is_no_encrypted_data_set(plain_model, model, key, key_file, tmp_path):
    src = imagefolder(tmp_path / "src", count=4)
    rotated = te.encrypt_model(plain_model, key, cipher="orthogonal")
    with pytest.raises(SchemeError, match="orthogonal"):
        te.encrypt_dataset(src, tmp_path / "ct", key_file, rotated, progress=False)
    with pytest.raises(SchemeError, match="--model"):
        te.decrypt_dataset(src, tmp_path / "back", key, progress=False)
    with pytest.raises(ImageError, match="ciphertext PNG"):
        te.decrypt_dataset(src, tmp_path / "back", key, model, progress=False)
    te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    te.decrypt_dataset(tmp_path / "ct", tmp_path / "plain", key, progress=False)
    with pytest.raises(NotEncryptedError):
        te.push_dataset(tmp_path / "plain", "me/plain")
    with pytest.raises(SourceError, match="manifest"):
        te.push_dataset(src, "me/plain")


def test_fsspec_reads_the_source(model, key_file, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    src = parquet_folder(tmp_path / "src")
    memory = fsspec.filesystem("memory")
    memory.put(f"{src}/", "/bucket/", recursive=True)
    counts = te.encrypt_dataset("memory://bucket", tmp_path / "ct", key_file, model, progress=False)
    te.encrypt_dataset(src, tmp_path / "local", key_file, model, progress=False)
    assert counts.shards == 3
    one, other = ({n: c for n, c in tree(tmp_path / name).items() if n.endswith(".parquet")} for name in ("ct", "local"))
    assert one == other
    with pytest.raises(SourceError, match="fsspec"):
        te.encrypt_dataset("nosuch://bucket", tmp_path / "ct2", key_file, model, progress=False)


def test_one_channel_and_every_png_level(key):
    grey = Preprocessing(input_size=(1, 32, 32), mean=(0.5,), std=(0.5,), crop_pct=1.0)
    scheme = te.Scheme(patch_size=4, in_chans=1, plain=grey)
    picture = Image.effect_noise((32, 32), 50)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    results = [
        make_codec(ENCRYPT, te.ImageCipher(key, scheme), setting=level)([buffer.getvalue()], ["x"])[0] for level in (0, 1, 9)
    ]
    pixels = [np.array(Image.open(io.BytesIO(result))) for result in results]
    assert np.array_equal(pixels[0], te.BlockCipher(key, scheme).encrypt(np.array(picture)[:, :, None])[:, :, 0])
    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])


def test_the_command_line(encmixer, model, key, key_file, tmp_path):
    imagefolder(tmp_path / "src", count=4)
    done = encmixer("dataset", "encrypt", "src", "ct", "--key", key_file, "--model", model, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 6
    info = encmixer("dataset", "info", "ct", "--verify", "--json")
    assert json.loads(info.stdout)["encmixer"]["fingerprint"] == key.fingerprint
    next((tmp_path / "ct").rglob("*.png")).write_bytes(b"")
    assert encmixer("dataset", "info", "ct", "--verify").returncode == 1
    bad = encmixer("dataset", "encrypt", "nowhere/here/x", "ct3", "--key", key_file, "--model", model)
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
    assert_no_secret(key, done.stdout, done.stderr, info.stdout, bad.stderr)


def test_runs_of_image_files_are_verified_whatever_their_names(model, key_file, tmp_path, monkeypatch):
    """Names whose order changes with the suffix, cut into several runs."""
    src = tmp_path / "src"
    src.mkdir()
    picture = Image.effect_noise((32, 32), 50).convert("RGB")
    for name in ("a.jpg", "a.k.jpg", "a.z.png", "B.PNG", "b.webp", "c-1.jpg", "c.jpg"):
        picture.save(src / name)
    monkeypatch.setattr("timm_encmixer.datasets.layout.FILES_PER_SHARD", 2)
    counts = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    assert (counts.shards, counts.images) == (4, 7)
    assert verify_dataset(str(tmp_path / "ct"), progress=False).holds
    (tmp_path / "ct" / "c.png").unlink()
    assert len(verify_dataset(str(tmp_path / "ct"), progress=False).differing) == 1


def test_links_in_a_tree(model, key_file, tmp_path):
    src, elsewhere = imagefolder(tmp_path / "src", count=4), imagefolder(tmp_path / "elsewhere", count=2)
    (src / "train" / "linked").symlink_to(elsewhere / "train", target_is_directory=True)
    (src / "train" / "loop").symlink_to(src, target_is_directory=True)
    (src / "train" / "0000-again.jpg").symlink_to(next(src.rglob("0000.jpg")))
    counts = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    assert counts.images == 4 + 2 + 1  # links to files are followed, links to folders are not
    assert counts.left_out == {"linked": ("train/linked/", "train/loop/")}
    (src / "train" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(FileAccessError, match=r"gone.jpg: expected a file to read"):
        te.encrypt_dataset(src, tmp_path / "ct3", key_file, model, progress=False)
