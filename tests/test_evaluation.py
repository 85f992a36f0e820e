from __future__ import annotations

import copy
import json
import re
import shutil

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.overrides import TorchFunctionMode

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.errors import (
    AlreadyEncryptedError,
    DataError,
    ImageError,
    KeyMismatchError,
    MissingExtraError,
    NotEncryptedError,
    SchemeMismatchError,
    SourceError,
)
from timm_encmixer.evaluation.accuracy import evaluate, wrong_key
from timm_encmixer.evaluation.depthwise import ShiftedDepthwise
from timm_encmixer.evaluation.exactness import verification_table, verify
from timm_encmixer.images.labelled import UNLABELLED, MemoryImages, TableImages, open_images, open_labelled_images


@pytest.fixture(scope="module")
def data():
    images, labels, _ = bundled_images()
    return MemoryImages(images[:200], labels[:200])


@pytest.fixture
def class_folders(tmp_path):
    images, labels, classes = bundled_images()
    for index in range(0, 480, 8):
        folder = tmp_path / "data" / classes[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        images[index].save(folder / f"{index}.png")
    return tmp_path / "data"


def test_right_key_no_key_and_wrong_keys(plain_model, key, data):
    result = evaluate(plain_model, key, data, wrong_keys=3, progress=False)
    assert result.right_key == result.plain > 0.7
    assert result.changed_top1 == 0
    assert result.max_logit_difference < 1e-4
    assert result.no_key < 0.3
    assert len(result.wrong_keys) == 3
    assert max(result.wrong_keys.values()) < 0.25
    assert json.loads(json.dumps(result.to_dict()))["cipher"] == "shuffle+negpos"


def test_encrypted_and_plain_models_give_the_same_figures(plain_model, key, data):
    from_plain = evaluate(plain_model, key, data, wrong_keys=1, limit=50, progress=False)
    from_encrypted = evaluate(te.encrypt_model(plain_model, key), key, data, wrong_keys=1, limit=50, progress=False)
    assert (from_plain.plain, from_plain.right_key, from_plain.no_key) == (
        from_encrypted.plain,
        from_encrypted.right_key,
        from_encrypted.no_key,
    )
    assert from_plain.wrong_keys == from_encrypted.wrong_keys


def test_wrong_keys_are_reproducible_and_distinct():
    assert wrong_key(0) == wrong_key(0)
    assert len({wrong_key(index).fingerprint for index in range(20)}) == 20


@pytest.mark.nightly
def test_uneven_last_batches_count_every_image_once(plain_model, key, data):
    figures = {evaluate(plain_model, key, data, limit=33, batch_size=size, progress=False).plain for size in (1, 7, 33, 64)}
    assert len(figures) == 1  # exactly: what is printed has no digits of rounding


def test_other_classes_than_the_models_are_said(plain_model, key, class_folders, recwarn):
    evaluate(plain_model, key, open_labelled_images(str(class_folders)), limit=5, progress=False)
    assert not recwarn
    for name in ("airplane", "bird"):
        shutil.rmtree(class_folders / name)
    fewer = open_labelled_images(str(class_folders))
    assert fewer.classes[:2] == ("automobile", "cat")
    words = "data: 8 classes, and the model has 10 outputs. The labels are 0 automobile, 1 cat, 2 deer, ...: where"
    with pytest.warns(UserWarning, match=words) as said:
        evaluate(plain_model, key, fewer, limit=10, batch_size=5, progress=False)
    assert len(said) == 1


def test_errors(plain_model, key, other_key, data):
    with pytest.raises(KeyMismatchError):
        evaluate(te.encrypt_model(plain_model, key), other_key, data)
    with pytest.raises(DataError, match="at least one image"):
        evaluate(plain_model, key, MemoryImages([], []))
    with pytest.raises(DataError, match="labels from 0 to 9"):
        evaluate(plain_model, key, MemoryImages([Image.new("RGB", (32, 32))], [10]))


def test_class_folders(class_folders):
    data = open_labelled_images(str(class_folders))
    _, labels, classes = bundled_images()
    assert len(data) == 60
    assert sorted(label for _, label in data) == sorted(labels[:480:8])
    assert sorted(entry.name for entry in class_folders.iterdir()) == classes


def test_parquet_folders(tmp_path):
    datasets = pytest.importorskip("datasets")
    images, labels, classes = bundled_images()
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    table = datasets.Dataset.from_dict({"img": images[:20], "label": labels[:20]}, features=features)
    (tmp_path / "t").mkdir()
    table.to_parquet(tmp_path / "t" / "test-00000-of-00001.parquet")
    table.select(range(5)).to_parquet(tmp_path / "t" / "train-00000-of-00001.parquet")
    data = open_labelled_images(str(tmp_path / "t"))
    assert isinstance(data, TableImages)
    assert len(data) == 20
    assert [label for _, label in data] == labels[:20]
    assert len(open_labelled_images(str(tmp_path / "t"), split="train")) == 5
    with pytest.raises(DataError):
        open_labelled_images(str(tmp_path / "t"), split="none")


def test_reading_a_table_leaves_no_copy_of_its_images_and_no_lines(tmp_path, monkeypatch, capfd):
    datasets = pytest.importorskip("datasets")
    images, labels, _ = bundled_images()
    features = datasets.Features({"picture": datasets.Image(), "number": datasets.ClassLabel(10)})
    table = datasets.Dataset.from_dict({"picture": images[:6], "number": labels[:6]}, features=features)
    table.to_parquet(tmp_path / "t" / "test.parquet")
    (tmp_path / "t" / "train.parquet").write_bytes(b"PAR1 damaged, and of another split")
    capfd.readouterr()
    for name in ("cache", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    data = open_labelled_images(str(tmp_path / "t"))
    assert [label for _, label in data] == list(labels[:6])
    assert np.array_equal(np.asarray(data[5][0]), np.asarray(images[5]))
    assert [path for name in ("cache", "tmp") for path in (tmp_path / name).rglob("*") if path.is_file()] == []
    assert capfd.readouterr().err == ""


def test_a_missing_extra_names_its_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[data\]"'):
        open_labelled_images("owner/name")


def test_data_that_is_none(tmp_path):
    with pytest.raises(DataError, match="one folder of images per class"):
        open_labelled_images(str(tmp_path))
    (tmp_path / "x.png").touch()
    with pytest.raises(DataError, match="got a file"):
        open_labelled_images(str(tmp_path / "x.png"))


def test_verification_holds_and_notices_a_difference(plain_model, key, photos):
    images = [(str(index), photo) for index, photo in enumerate(photos[:12])]
    encrypted = te.encrypt_model(plain_model, key)
    result = verify(plain_model, encrypted, key, images, batch_size=5)
    assert result.holds
    assert len(result.rows) == 12
    assert result.spread > 1000 * result.noise_floor > 0
    off = copy.deepcopy(encrypted)
    off.stem[0].bias.data += 1e-3
    assert not verify(plain_model, off, key, images).holds
    assert not verify(torch.nn.Sequential(copy.deepcopy(plain_model).half().float()), encrypted, key, images).holds
    with pytest.raises(DataError):
        verify(plain_model, encrypted, key, [])
    with pytest.raises(AlreadyEncryptedError, match="first model: expected a plain model"):
        verify(encrypted, encrypted, key, images)
    with pytest.raises(NotEncryptedError, match="second model: expected an encrypted model"):
        verify(plain_model, plain_model, key, images)


def without_answers():
    """Its head is zero: every image has the same logits, whatever the stem does."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2).eval()
    torch.nn.init.zeros_(model.head.weight)
    return model


def test_a_model_that_answers_all_images_alike_is_not_called_exact(key, key_file, photos, tmp_path, encmixer):
    plain = without_answers()
    encrypted = te.encrypt_model(plain, key)
    for destroyed in (False, True):
        if destroyed:
            torch.nn.init.normal_(encrypted.patch_embed.proj.weight)
        result = verify(plain, encrypted, key, photos[:3], progress=False)
        assert (result.verdict, result.holds, result.images, result.drawn) == ("cannot tell", False, 11, 8)
        assert result.stem_is_near is not destroyed
    te.save_model(plain, tmp_path / "plain")
    te.save_model(te.encrypt_model(plain, key), tmp_path / "encrypted")
    (tmp_path / "photos").mkdir()
    photos[0].save(tmp_path / "photos" / "0.png")
    run = encmixer("model", "verify", "plain", "encrypted", "--key", key_file, "--images", "photos")
    assert run.returncode == 3
    assert "8 of the images were drawn here" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("CANNOT TELL")


def test_images_without_power_get_others_beside_them(plain_model, key, photos):
    """One image, or one image twice: a wrong model might agree on it by chance."""
    encrypted = te.encrypt_model(plain_model, key)
    for images in ([photos[0]], [photos[0]] * 3):
        result = verify(plain_model, encrypted, key, images, progress=False)
        assert (result.verdict, result.drawn, result.images) == ("exact", 8, len(images) + 8)
    for precision in ("bf16", "fp16"):  # whose own error is larger
        assert verify(plain_model, encrypted, key, photos[:4], precision=precision, progress=False).verdict == "exact"
    dead = copy.deepcopy(encrypted)
    dead.stem[0].weight.data.zero_()
    assert verify(plain_model, dead, key, [photos[0]], progress=False).verdict == "differs"
    dead.stem[0].weight.data.fill_(torch.nan)
    result = verify(plain_model, dead, key, photos[:2], progress=False)
    assert (result.verdict, result.max_logit_difference) == ("differs", torch.inf)
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_stem_that_its_sketch_does_not_know_is_part_of_the_verdict(key, photos):
    """Both stems are replaced alike after the encryption: the logits agree, and the record's claim is not shown."""
    plain = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2).eval()
    encrypted = te.encrypt_model(plain, key)
    torch.nn.init.normal_(plain.patch_embed.proj.weight, std=0.1)
    again = te.encrypt_model(plain, key)
    encrypted.load_state_dict(again.state_dict())
    result = verify(plain, encrypted, key, photos[:4], progress=False)
    assert result.has_power
    assert (result.stem_is_near, result.verdict) == (False, "cannot tell")
    assert "far from the one that was encrypted" in verification_table(result)


def test_a_device_that_torch_has_not(plain_model):
    with pytest.raises(SourceError, match="device: expected a device that torch has here, got 'nonsense'"):
        load_model(BUNDLED_MODEL, device="nonsense")
    assert load_model(plain_model, device="cpu") is plain_model


def test_verification_of_two_architectures_says_so(plain_model, key, photos, key_file, tmp_path, encmixer):
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, embed_dim=48, depth=1, num_heads=3, num_classes=10
    )
    te.save_model(plain_model, tmp_path / "plain")
    te.save_model(te.encrypt_model(vit, key), tmp_path / "encrypted")
    (tmp_path / "photos").mkdir()
    photos[0].save(tmp_path / "photos" / "0.png")
    run = encmixer(
        "model", "verify", tmp_path / "plain", tmp_path / "encrypted", "--key", key_file, "--images", tmp_path / "photos"
    )
    assert run.returncode == 2
    assert re.fullmatch(r".*ConvMixer with .* got VisionTransformer with .* two architectures.*\n", run.stderr)
    other = timm.create_model("convmixer_256_8_ks5_p4", num_classes=7)
    with pytest.raises(
        SourceError, match=r"head.weight of shape \(10, 256\), got ConvMixer with head.weight of shape \(7, 256\)"
    ):
        verify(plain_model, te.encrypt_model(other, key), key, [("0", photos[0])])


@settings(max_examples=60, deadline=None, database=None)
@given(data=st.data())
@torch.no_grad()
def test_depthwise_convolutions_in_float64_are_torchs_own(data):
    channels, side, kernel = (data.draw(st.integers(low, high)) for low, high in ((2, 5), (1, 9), (1, 4)))
    stride, dilation = (data.draw(st.one_of(st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * 2))) for _ in range(2))
    padding = data.draw(st.one_of(st.integers(0, 3), st.tuples(*[st.integers(0, 3)] * 2), st.sampled_from(["valid", "same"])))
    if padding == "same":
        stride = 1
    shape = {"kernel_size": (kernel, data.draw(st.integers(1, 4))), "stride": stride, "dilation": dilation, "padding": padding}
    mode = data.draw(st.sampled_from(["zeros", "reflect", "circular"]))
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(
        channels, channels, groups=channels, bias=data.draw(st.booleans()), padding_mode=mode, dtype=torch.float64, **shape
    )
    images = torch.randn(data.draw(st.integers(1, 3)), channels, side, side + 1, dtype=torch.float64)
    try:
        expected = conv(images)
    except (RuntimeError, ValueError) as error:
        with ShiftedDepthwise(), pytest.raises(type(error)):
            conv(images)
        return
    with ShiftedDepthwise():
        torch.testing.assert_close(conv(images), expected, rtol=0, atol=1e-13)


class Convolutions(TorchFunctionMode):
    """Notes of the convolutions that torch computes: dtype, whether channel by channel, and how many threads may do it."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.conv2d:
            self.seen.add((args[0].dtype, args[6] > 1, torch.get_num_threads()))
        return func(*args, **(kwargs or {}))


def test_the_reference_starts_no_threads_for_each_channel_and_small_images_need_one(plain_model, key, photos):
    encrypted, before = te.encrypt_model(plain_model, key), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Convolutions() as convolutions:
            assert verify(plain_model, encrypted, key, [("0", photos[0])]).holds
        assert convolutions.seen == {(torch.float64, False, 1), (torch.float32, False, 1), (torch.float32, True, 1)}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def folders(root, *names, count=2):
    """Images that are called 0.png, 1.png, ... in folders of these names."""
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("1", "2", "10"),
        ("cat", "Dog", "ape"),
        ("n02", "n10", "n1"),
        ("a/cat", "b/dog", "b/ape"),
    ],
)
def test_class_folders_are_numbered_as_timm_numbers_them(names, tmp_path):
    root = folders(tmp_path / "data", *names)
    (root / "0 empty").mkdir()
    expected = timm.data.create_dataset("", root=root)
    data = open_labelled_images(str(root))
    assert [(str(path), label) for path, label in data.files] == expected.reader.samples
    folders(root, ".ipynb_checkpoints", "__MACOSX", "a/.hidden")
    Image.new("RGB", (8, 8)).save(root / names[0] / "._0.png")
    assert open_labelled_images(str(root)).files == data.files


def test_folders_of_splits_are_no_classes(tmp_path):
    root = folders(tmp_path / "data", "train/x", "train/y", "val/x", "val/y")
    folders(root, "test/y", "test/x", count=1)
    data = open_labelled_images(str(root))
    assert (data.split, len(data), [label for _, label in data]) == ("test", 2, [0, 1])
    assert len(open_labelled_images(str(root), split="train")) == 4
    assert open_images(str(root), prefer=("train",)).split == "train"
    with pytest.raises(DataError, match="a folder of the split dev, got test, train, val"):
        open_labelled_images(str(root), split="dev")
    classes = str(folders(tmp_path / "classes", "test", "bench"))
    assert len(open_labelled_images(classes)) == 4  # a class of that name
    with pytest.raises(DataError, match=r"a folder of the split dev, got test; .* leave split= .--split. out"):
        open_labelled_images(classes, split="dev")
    with pytest.raises(DataError, match="a folder of the split dev, got x, y; "):
        open_labelled_images(str(root / "train"), split="dev")


def table_of(tmp_path, features, rows):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "table"
    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(folder / "test.parquet")
    return str(folder)


@pytest.mark.nightly
def test_a_table_with_several_label_columns_needs_a_choice(tmp_path, encmixer, key_file):
    datasets = pytest.importorskip("datasets")
    images, labels, classes = bundled_images()
    coarse, fine = datasets.ClassLabel(names=["x", "y"]), datasets.ClassLabel(names=classes)
    columns = {"img": datasets.Image(), "coarse_label": coarse, "fine_label": fine}
    rows = {"img": images[:20], "coarse_label": [0] * 20, "fine_label": labels[:20]}
    src = table_of(tmp_path, columns, rows)
    for opening in (open_labelled_images, open_images):
        with pytest.raises(DataError, match=r"one column of class labels, got coarse_label, fine_label; .*--label-column"):
            opening(src)
        assert [label for _, label in opening(src, label_column="fine_label")] == labels[:20]
    assert [label for _, label in open_images(src, unlabelled=True)] == [UNLABELLED] * 20
    with pytest.raises(DataError, match="a column nope"):
        open_labelled_images(src, label_column="nope")
    options = ("--key", key_file, "--data", src, "--label-column", "fine_label", "--json")
    run = encmixer("eval", "--model", BUNDLED_MODEL, *options)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["plain"] > 0.7


def test_odd_tables_work_or_are_refused_in_one_line(plain_model, key, tmp_path):
    datasets = pytest.importorskip("datasets")
    images, labels, classes = bundled_images()
    named = datasets.ClassLabel(names=classes)
    cells = {"img": datasets.Image(decode=False), "label": named}
    undecoded = table_of(tmp_path / "undecoded", cells, {"img": images[:5], "label": labels[:5]})
    data = open_labelled_images(undecoded)
    assert [image.size for image, _ in data] == [(32, 32)] * 5
    assert data[0][0].tobytes() == images[0].tobytes()
    none = table_of(tmp_path / "none", {"img": datasets.Image(), "label": named}, {"img": [images[0], None], "label": [0, 1]})
    with pytest.raises(DataError, match="row 1: img: expected an image, got none"):
        evaluate(plain_model, key, open_labelled_images(none), progress=False)
    texts = {"img": datasets.Image(), "label": datasets.Value("string")}
    words = table_of(tmp_path / "words", texts, {"img": images[:2], "label": ["cat", "dog"]})
    with pytest.raises(DataError, match="label: expected class labels as numbers, got string"):
        open_labelled_images(words)
    missing = table_of(tmp_path / "missing", {"img": datasets.Image(), "label": named}, {"img": images[:2], "label": [1, None]})
    with pytest.raises(DataError, match="labels from 0 to 9"):
        evaluate(plain_model, key, open_labelled_images(missing), progress=False)
    damaged = {"img": [{"bytes": b"\xff\xd8\xff", "path": None}], "label": [0]}
    with pytest.raises(ImageError, match="row 0: img"):
        _ = open_labelled_images(table_of(tmp_path / "damaged", {"img": datasets.Image(), "label": named}, damaged))[0]


@pytest.mark.parametrize("path", ["/nowhere/images", "./images", "there/images", "a/b/c", "no such words"])
def test_a_mistyped_path_is_said_to_be_none_before_the_hub_is_asked(path, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="got no such folder; check the path"):
        open_labelled_images(path)


def test_evaluate_and_verify_take_what_the_command_line_takes(plain_model, encrypted_folder, key, photos, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        photos[0].save(tmp_path / "data" / name / "a.png")
    with pytest.warns(UserWarning, match="2 classes"):
        assert te.evaluate(encrypted_folder, key, tmp_path / "data", progress=False).images == 2
    folder = te.verify(plain_model, encrypted_folder, key, tmp_path / "data", progress=False)
    listed = te.verify(plain_model, encrypted_folder, key, [photos[0], photos[0]], progress=False)
    assert folder.holds
    assert listed.holds
    assert [row["image"] for row in listed.rows][:2] == ["0", "1"]


@pytest.mark.parametrize("data", [([], []), [1, 2], 3, None])
def test_data_that_are_no_labelled_images(data, encrypted_folder, key):
    with pytest.raises(DataError, match=r"data: expected labelled images, got .*MemoryImages"):
        te.evaluate(encrypted_folder, key, data)


@pytest.mark.parametrize("images", [[("a", 1)], [3], [("a", "b", "c")]])
def test_images_to_verify_that_are_none(images, plain_model, encrypted_folder, key):
    with pytest.raises(DataError, match="images: expected PIL images, or names with them"):
        te.verify(plain_model, encrypted_folder, key, images)


def test_a_config_that_normalises_otherwise_is_not_loaded(plain_model, key, tmp_path):
    """A server would read it; so `model verify` must not call it exact."""
    te.save_model(te.encrypt_model(plain_model, key, cipher="shuffle-planes"), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    for field, value in (("mean", [0.5, 0.5, 0.5]), ("std", [0.1, 0.2, 0.3]), ("crop_pct", 0.9)):
        path.write_text(json.dumps({**config, "pretrained_cfg": {**config["pretrained_cfg"], field: value}}))
        with pytest.raises(SchemeMismatchError, match=f"pretrained_cfg {field}: .*take the config.json of this encryption"):
            te.load_model(tmp_path / "m")
