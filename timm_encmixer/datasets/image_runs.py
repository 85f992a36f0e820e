"""Image folders: a shard is a run of files of one folder, each of which becomes a PNG of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from timm_encmixer.datasets.cells import BATCH_CELLS
from timm_encmixer.datasets.layout import target_name
from timm_encmixer.datasets.samples import Sample, ShardWork
from timm_encmixer.datasets.sources import DatasetSource


def convert_images(source: DatasetSource, files: Sequence[str], dst: Path, scratch: Path, work: ShardWork) -> list[str]:
    """Write the PNG of each file, by the last part of its name, into the folder `dst`.

    Returns:
        The names, below the data set, of what was written.

    Raises:
        ImageError: A file is not a usable image, and the run is to stop at that.
    """
    written = []
    for start in range(0, len(files), BATCH_CELLS):
        names = files[start : start + BATCH_CELLS]
        samples = [
            Sample(name, [_read(source, name, scratch)], [PurePosixPath(name).suffix], [f"{source.where}/{name}"])
            for name in names
        ]
        for name, cells in zip(names, work.convert(samples), strict=True):
            if cells is not None:
                target = target_name(name)
                (dst / PurePosixPath(target).name).write_bytes(cells[0] or b"")
                written.append(target)
    return written


def _read(source: DatasetSource, name: str, scratch: Path) -> bytes:
    with source.local(name, scratch) as path:
        return path.read_bytes()
