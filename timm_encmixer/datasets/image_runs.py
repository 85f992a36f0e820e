"""Image folders: a shard is a run of files of one folder, each of which becomes a PNG or JPEG of the same name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from msgspec.structs import replace

from timm_encmixer.datasets.listing import SourceFile
from timm_encmixer.datasets.manifest import target_name
from timm_encmixer.datasets.samples import Sample, ShardWork
from timm_encmixer.datasets.sources import SourceTree, unchanged
from timm_encmixer.files import file_error
from timm_encmixer.images.codec import BATCH_IMAGES


def convert_images(
    source: SourceTree, files: Sequence[SourceFile], dst: Path, scratch: Path, work: ShardWork
) -> tuple[list[str], list[SourceFile]]:
    """Write the ciphertext or plain image of each file, by the last part of its name, into the folder `dst`.

    Returns:
        The names, below the data set, of what was written; and the files with the digests of what was read.

    Raises:
        ImageError: A file is not a usable image, and the run is to stop at that.
        FileAccessError: A file cannot be read.
        SourceError: A file has vanished or was changed since it was listed.
    """
    written: list[str] = []
    read: list[SourceFile] = []
    for start in range(0, len(files), BATCH_IMAGES):
        samples = []
        for file in files[start : start + BATCH_IMAGES]:
            cell = _read(source, file, scratch)
            read.append(replace(file, sha256=hashlib.sha256(cell).hexdigest()))
            samples.append(Sample(file.name, [cell], [PurePosixPath(file.name).suffix], [f"{source.where}/{file.name}"]))
        for name, cells in zip((sample.name for sample in samples), work.convert(samples), strict=True):
            if cells is not None:
                target = target_name(name, work.codec.format.suffix)
                (dst / PurePosixPath(target).name).write_bytes(cells[0] or b"")
                written.append(target)
    return written, read


def _read(source: SourceTree, file: SourceFile, scratch: Path) -> bytes:
    with unchanged(source, file, scratch) as path:
        try:
            return path.read_bytes()
        except OSError as error:
            raise file_error(f"{source.where}/{file.name}", "a file to read", error) from error
