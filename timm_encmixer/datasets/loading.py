"""What the library `datasets` reads: in the source and in the result the same, or the run is refused before it begins."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from timm_encmixer.images.tables import quiet

SAMPLE = 1000  # files of one suffix in a folder that stand for all of them
_IMAGES = "imagefolder"
Files = Mapping[str, Mapping[str, tuple[str, ...]]]  # of each split of each configuration, sorted; one may be named twice


@dataclass(frozen=True)
class Reading:
    """What `datasets.load_dataset` makes of a folder.

    Args:
        files: Names of the data files of each split of each configuration.
        kinds: The kind of each configuration, as the library calls it.
        tables: Features and number of rows of each, as text; empty where the files' contents were not read.
    """

    files: Files
    kinds: Mapping[str, str]
    tables: Mapping[str, str]


def is_installed() -> bool:
    """Whether there is the library."""
    return importlib.util.find_spec("datasets") is not None


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of files that the library takes for images: all small or all capital letters."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    return frozenset(spelling for suffix in ImageFolder.EXTENSIONS for spelling in (suffix, suffix.upper()))


def sample(names: Iterable[str]) -> Iterator[str]:
    """Yield at most `SAMPLE` names of each suffix in a folder: they stand for all of it."""
    counts: dict[tuple[str, str], int] = {}
    for name in names:
        path = PurePosixPath(name)
        place = (str(path.parent), path.suffix)
        counts[place] = counts.get(place, 0) + 1
        if counts[place] <= SAMPLE:
            yield name


def touch(folder: Path, names: Iterable[str]) -> None:
    """Make empty files that stand for the files of a data set."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(folder: Path, *, rows: bool) -> Reading:
    """Ask the library what it makes of a folder.

    Args:
        folder: The data set.
        rows: Read the tables too: of an image folder this opens no image.

    Raises:
        Exception: Whatever the library raises where it cannot read it.
    """
    import datasets

    files: dict[str, dict[str, tuple[str, ...]]] = {}
    kinds: dict[str, str] = {}
    tables: dict[str, str] = {}
    with quiet(), tempfile.TemporaryDirectory(prefix="encmixer-") as cache:
        for config in datasets.get_dataset_config_names(str(folder)):
            builder = datasets.load_dataset_builder(str(folder), config, cache_dir=cache)
            found = {str(split): list(names) for split, names in (builder.config.data_files or {}).items()}
            files[config] = {split: tuple(sorted(_relative(name, folder) for name in names)) for split, names in found.items()}
            kinds[config] = builder.name
            if rows and builder.name == _IMAGES:  # the files that stand for others hold nothing to read
                builder.download_and_prepare(verification_mode="no_checks")
                for split, table in builder.as_dataset().items():
                    tables[f"{config}, split {split}"] = f"{len(table)} rows of {dict(table.features)}"
    return Reading(files, kinds, tables)


def empty_splits(folder: Path, rows: Mapping[str, int]) -> list[str]:
    """Return the splits of a data set that the library cannot read, as they have no row, or none to take columns from.

    Args:
        folder: The data set.
        rows: Number of rows of each data file.
    """
    import datasets

    found = []
    for config, splits in read(folder, rows=False).files.items():
        found += [f"{config}, split {split}" for split, names in splits.items() if not sum(rows.get(name, 1) for name in names)]
        with quiet(), tempfile.TemporaryDirectory(prefix="encmixer-") as cache:
            try:
                datasets.load_dataset(str(folder), config, streaming=True, cache_dir=cache)
            except Exception:  # of WebDataset, whose columns are those of the first samples
                found += [config] if not found else []
    return found


def rows_of(folder: Path, *, tables: bool) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Read a whole data set, without decoding images; yield each split's name, its rows and the names of its data files.

    Args:
        folder: The data set.
        tables: Its files are tables, which are read faster as such.

    Raises:
        Exception: Whatever the library raises where it cannot read it.
    """
    import datasets

    with quiet():
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
            for split, table in loaded.items() if isinstance(loaded, dict) else [("", loaded)]:
                files = tuple(_relative(file["filename"], folder) for file in table.cache_files)
                yield f"split {split}", len(table), files
            return
        with tempfile.TemporaryDirectory(prefix="encmixer-") as cache:
            for config, splits in read(folder, rows=False).files.items():
                streams = datasets.load_dataset(str(folder), config, streaming=True, cache_dir=cache)
                for split, names in splits.items():
                    stream = streams[split]
                    for column, feature in (stream.features or {}).items():
                        if isinstance(feature, datasets.Image):
                            stream = stream.cast_column(column, datasets.Image(decode=False))
                    batches = stream.with_format("arrow").iter(batch_size=SAMPLE) if tables else ([row] for row in stream)
                    rows = sum(map(len, batches))
                    yield f"{config}, split {split}", rows, names


def first_line(error: Exception) -> str:
    """Return an error of the library in a few words."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _relative(name: str, folder: Path) -> str:
    return Path(os.path.relpath(name, folder.resolve())).as_posix()
