"""Labelled images for evaluation: a folder of class folders, a parquet folder, or a data set of the Hub."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.readers.reader_image_folder import find_images_and_targets
from torch import Tensor
from torch.utils.data import Dataset

from timm_encmixer.errors import DataError, EncMixerError
from timm_encmixer.images.data_source import DataSource, find_data
from timm_encmixer.images.folders import is_hidden
from timm_encmixer.images.reading import image_suffixes, open_plain
from timm_encmixer.images.tables import read_split, splits_in

UNLABELLED = -1
REQUIRED, OPTIONAL, UNWANTED = "required", "optional", "unwanted"  # labels of the images that are opened
_SPLIT_FOLDERS = frozenset(("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"))
_CHOOSE = "choose one with label_column= (--label-column)"
_SPLITS = ("test", "validation", "val", "train")  # in order of preference


class LabelledImages(Sequence[tuple[Image.Image, int]]):
    """A sequence of (PIL image, label) pairs; labels count from 0, as the model does, UNLABELLED for none.

    Attributes:
        classes: Names of the classes in the order of their labels; empty where nobody knows them.
    """

    classes: Sequence[str] = ()


@dataclass(frozen=True)
class MemoryImages(LabelledImages):
    """Images that are in memory already."""

    images: Sequence[Image.Image]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images[index], self.labels[index]


@dataclass(frozen=True)
class FolderImages(LabelledImages):
    """Image files in one folder per class."""

    files: Sequence[tuple[Path, int]]
    split: str | None = None  # the folder of a split that they lie in
    classes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        path, label = self.files[index]
        return open_plain(path), label


@dataclass(frozen=True)
class TableImages(LabelledImages):
    """Rows of a `datasets.Dataset`, whose image column is not decoded."""

    table: Any  # datasets.Dataset: an optional dependency
    image_column: str
    label_column: str | None
    split: str | None = None
    classes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        row = self.table[index]
        where = f"row {index}: {self.image_column}"
        label = UNLABELLED if self.label_column is None else row[self.label_column]
        return _image(row[self.image_column], where), UNLABELLED if label is None else label


class PlainPixels(Dataset[tuple[Tensor, int]]):
    """Labelled images as samples for a DataLoader: (uint8 CHW tensor, label), to be encrypted on the device.

    Args:
        images: Labelled images.
        preprocess: PIL image to uint8 CHW tensor, for example `create_transform(model, key=key).preprocess`.
    """

    def __init__(self, images: LabelledImages, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.preprocess(image), int(label)


def open_labelled_images(src: str, *, split: str | None = None, label_column: str | None = None) -> LabelledImages:
    """Open a data set of labelled images.

    Class folders are numbered as timm's reader of folders numbers them: by the names of the folders that hold images, in
    natural order (2 before 10). Hidden and empty folders are no classes.

    Args:
        src: Folder of class folders, folder of parquet files, or Hub id (with the extra `data`). A folder may hold one
            folder of class folders per split.
        split: Split of a table or of such a folder; None takes test, else validation, else train.
        label_column: Column of a table; needed where it has several columns of class labels.

    Raises:
        DataError: Nothing there, no images, or no labels, or several columns of them.
        MissingExtraError: A table was asked for and `datasets` is not installed.
    """
    return _open(src, _Wish(split, _SPLITS, label_column, REQUIRED))


def open_images(
    src: str,
    *,
    split: str | None = None,
    prefer: Sequence[str] = (),
    label_column: str | None = None,
    unlabelled: bool = False,
) -> LabelledImages:
    """Open a data set whose images may have labels or not; a folder may also hold images themselves.

    Args:
        src: As for `open_labelled_images`.
        split: Likewise; None takes the first of `prefer` that there is, else as for `open_labelled_images`.
        prefer: Names of splits.
        label_column: As for `open_labelled_images`.
        unlabelled: Labels are of no interest: all images have the label UNLABELLED.

    Raises:
        DataError: Nothing there, no images, or several columns of class labels.
        MissingExtraError: A table was asked for and `datasets` is not installed.
    """
    return _open(src, _Wish(split, (*prefer, *_SPLITS), label_column, UNWANTED if unlabelled else OPTIONAL))


@dataclass(frozen=True)
class _Wish:
    """What is to be opened of a data set.

    Args:
        split: Name of the split; None takes the first of `preferred` that there is.
        preferred: Names of splits.
        label_column: Of a table; None takes the only one.
        labels: REQUIRED, OPTIONAL or UNWANTED.
    """

    split: str | None
    preferred: Sequence[str]
    label_column: str | None
    labels: str


def _open(src: str, wish: _Wish) -> LabelledImages:
    source = find_data(src)
    if source.path is None or source.is_table:
        return _table(source, wish)
    if wish.label_column is not None:
        remedy = "leave label_column= (--label-column) out"
        raise DataError(src, f"a table with the column {wish.label_column}", "a folder", remedy)
    return _folder(*_split_folder(source.path, wish), wish.labels)


def _split_folder(path: Path, wish: _Wish) -> tuple[Path, str | None]:
    """Return the folder to look for classes in: that of the split, where there are folders of splits."""
    entries = [entry for entry in path.iterdir() if not is_hidden(entry.name)]
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    splits = [name for name in folders if name in _SPLIT_FOLDERS]
    beside = any(entry.suffix.lower() in image_suffixes() for entry in entries)
    if wish.split is not None:
        if wish.split not in folders:
            got = ", ".join(splits or folders) or "none"
            remedy = "choose another split, or leave split= (--split) out"
            raise DataError(str(path), f"a folder of the split {wish.split}", got, remedy)
        return path / wish.split, wish.split
    if not splits or beside or (len(splits) == 1 and len(folders) > 1):  # then it is the name of a class
        return path, None
    chosen = next((name for name in wish.preferred if name in splits), splits[0])
    return path / chosen, chosen


def _folder(path: Path, split: str | None, wanted: str) -> FolderImages:
    found, numbers = find_images_and_targets(str(path), types=set(image_suffixes()))
    names = {number: name for name, number in numbers.items()}
    files = [(Path(file), names[number]) for file, number in found]
    files = [(file, name) for file, name in files if not any(map(is_hidden, file.relative_to(path).parts))]
    in_order = [names[number] for number in sorted({numbers[name] for file, name in files if file.parent != path})]
    labels = {name: label for label, name in enumerate(in_order)}
    loose = any(file.parent == path for file, _ in files)
    if files and (wanted == UNWANTED or (loose and wanted == OPTIONAL)):  # folders beside images are no classes
        return FolderImages([(file, UNLABELLED) for file, _ in files], split)
    labelled_files = [(file, labels[name]) for file, name in files if file.parent != path]
    if not labelled_files:
        expected = "one folder of images per class" if wanted == REQUIRED else "images, or one folder of images per class"
        raise DataError(str(path), expected, "none", "put the images of each class into a folder of its own")
    return FolderImages(labelled_files, split, tuple(in_order))


def _table(source: DataSource, wish: _Wish) -> TableImages:
    import datasets

    src, place = source.name, source.repo_id or str(source.path)
    remedy = "check the name, the split and your connection"
    try:
        local = source.path
        splits = splits_in(local) if local is not None else datasets.get_dataset_split_names(place, revision=source.revision)
        chosen = wish.split or next((name for name in wish.preferred if name in splits), splits[0])
        if local is not None:
            table = read_split(local, chosen)
        else:
            table = datasets.load_dataset(place, split=chosen, revision=source.revision)
    except EncMixerError:
        raise
    except Exception as error:  # datasets raises errors of many libraries
        got = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(src, "a data set of labelled images", got, remedy) from error
    kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    if len(images) != 1:
        raise DataError(src, "one image column", ", ".join(f"{n}: {k}" for n, k in kinds.items()), remedy)
    column = None if wish.labels == UNWANTED else _label_column(src, table.features, wish)
    classes = tuple(getattr(table.features[column], "names", ())) if column is not None else ()
    return TableImages(table.cast_column(images[0], datasets.Image(decode=False)), images[0], column, chosen, classes)


def _label_column(src: str, features: Any, wish: _Wish) -> str | None:
    """Return the column of class labels: the chosen one, or the only one."""
    chosen = wish.label_column
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    listed = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
    named = [name for name, kind in kinds.items() if kind == "ClassLabel"] or [n for n in ("label", "labels") if n in kinds]
    if chosen is not None and chosen not in kinds:
        raise DataError(src, f"a column {chosen}", listed, _CHOOSE)
    if chosen is None and len(named) > 1:
        raise DataError(src, "one column of class labels", ", ".join(named), _CHOOSE)
    if chosen is None and not named:
        if wish.labels == REQUIRED:
            raise DataError(src, "a column of class labels", listed, _CHOOSE)
        return None
    column = chosen or named[0]
    if kinds[column] != "ClassLabel" and not str(getattr(features[column], "dtype", "")).startswith(("int", "uint")):
        if chosen is None and wish.labels == OPTIONAL:
            return None
        got = str(getattr(features[column], "dtype", kinds[column]))
        remedy = "number the classes as the model does: cast_column to ClassLabel"
        raise DataError(f"{src}: {column}", "class labels as numbers", got, remedy)
    return column


def _image(cell: Any, where: str) -> Image.Image:
    """Return the image of an undecoded cell."""
    if isinstance(cell, dict) and cell.get("bytes") is not None:
        return open_plain(io.BytesIO(cell["bytes"]), where=where)
    if isinstance(cell, dict) and cell.get("path"):
        return open_plain(cell["path"], where=where)
    raise DataError(where, "an image", "none", "leave the rows without an image out")
