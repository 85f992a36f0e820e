"""Reading tables by the library `datasets` without what it leaves behind: copies in its cache, and lines in logs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def splits_in(folder: Path) -> list[str]:
    """Return the names of the splits of a folder of tables. No table is read for that."""
    import datasets

    with quiet(), tempfile.TemporaryDirectory(prefix="encmixer-") as cache:
        builder = datasets.load_dataset_builder(str(folder), cache_dir=cache)
        return [str(split) for split in builder.config.data_files or ()] or datasets.get_dataset_split_names(str(folder))


def read_split(folder: Path, split: str) -> Any:
    """Return one split of a folder of tables as a `datasets.Dataset`; other splits are not read.

    The library writes an Arrow copy of what it reads, and it holds the plain images. Here the copy has no name any more when
    this returns: it goes when the table is no longer used, however the process ends.

    Args:
        folder: Of parquet or Arrow files on this machine.
        split: A split that it has.
    """
    import datasets

    with quiet(), tempfile.TemporaryDirectory(prefix="encmixer-", ignore_cleanup_errors=True) as cache:
        builder = datasets.load_dataset_builder(str(folder), cache_dir=cache)
        files = list((builder.config.data_files or {}).get(split, ()))
        chosen = {"data_files": {split: files}} if files else {}
        return datasets.load_dataset(str(folder), split=split, cache_dir=cache, **chosen)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the library from drawing bars and logging what we report ourselves."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
