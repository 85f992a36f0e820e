"""Labelled images for evaluation: a folder of class folders, a parquet folder, or a data set of the Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from timm_encmixer.errors import DataError, EncMixerError, missing_extra
from timm_encmixer.images.reading import image_suffixes, open_plain

UNLABELLED = -1
_SPLITS = ("test", "validation", "val", "train")  # in order of preference


class LabelledImages(Sequence[tuple[Image.Image, int]]):
    """A sequence of (PIL image, label) pairs; labels count from 0 in the order of the class names, UNLABELLED for none."""


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

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        path, label = self.files[index]
        return open_plain(path), label


@dataclass(frozen=True)
class TableImages(LabelledImages):
    """Rows of a `datasets.Dataset`."""

    table: Any  # datasets.Dataset: an optional dependency
    image_column: str
    label_column: str | None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        row = self.table[index]
        return row[self.image_column], UNLABELLED if self.label_column is None else row[self.label_column]


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


def open_labelled_images(src: str, *, split: str | None = None) -> LabelledImages:
    """Open a data set of labelled images.

    Args:
        src: Folder of class folders, folder of parquet files, or Hub id (with the extra `data`).
        split: Split of a table; None takes test, else validation, else train.

    Raises:
        DataError: Nothing there, no images, or no labels.
        MissingExtraError: A table was asked for and `datasets` is not installed.
    """
    return _open(src, split, _SPLITS, labelled=True)


def open_images(src: str, *, split: str | None = None, prefer: Sequence[str] = ()) -> LabelledImages:
    """Open a data set whose images may have labels or not; a folder may also hold images themselves.

    Args:
        src: As for `open_labelled_images`.
        split: Split of a table; None takes the first of `prefer` that there is, else as for `open_labelled_images`.
        prefer: Names of splits.

    Raises:
        DataError: Nothing there, or no images.
        MissingExtraError: A table was asked for and `datasets` is not installed.
    """
    return _open(src, split, (*prefer, *_SPLITS), labelled=False)


def _open(src: str, split: str | None, splits: Sequence[str], *, labelled: bool) -> LabelledImages:
    path = Path(src)
    if path.is_dir() and not any(path.rglob("*.parquet")):
        return _folder(path, labelled)
    if path.exists() and not path.is_dir():
        raise DataError(src, "a folder or a Hub data set", "a file", "give the folder that it lies in")
    return _table(src, split, splits, labelled)


def _folder(path: Path, labelled: bool) -> FolderImages:
    suffixes = image_suffixes()
    classes = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in suffixes
    ]
    loose = [] if labelled else [entry for entry in sorted(path.iterdir()) if entry.suffix.lower() in suffixes]
    if loose:  # then folders are no classes
        files = [(file, UNLABELLED) for file in (*loose, *(file for file, _ in files))]
    if not files:
        expected = "one folder of images per class" if labelled else "images, or one folder of images per class"
        raise DataError(str(path), expected, "none", "see docs/cli.md")
    return FolderImages(files)


def _table(src: str, split: str | None, preferred: Sequence[str], labelled: bool) -> TableImages:
    try:
        import datasets
    except ImportError as error:
        raise missing_extra(src, "datasets for parquet and Hub data", "data") from error
    remedy = "check the name, the split and your connection"
    try:
        splits = datasets.get_dataset_split_names(src)
        chosen = split or next((name for name in preferred if name in splits), splits[0])
        table = datasets.load_dataset(src, split=chosen)
    except EncMixerError:
        raise
    except Exception as error:  # datasets raises errors of many libraries
        got = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(src, "a data set of labelled images", got, remedy) from error
    kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"] or [
        name for name in ("label", "labels") if name in kinds
    ]
    if len(images) != 1 or (labelled and not labels):
        expected = "one image column and a class label column" if labelled else "one image column"
        raise DataError(src, expected, ", ".join(f"{n}: {k}" for n, k in kinds.items()), remedy)
    return TableImages(table, images[0], labels[0] if labels else None)
