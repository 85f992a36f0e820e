"""WebDataset tars: a sample is the run of members with one key; its image members are converted, all others copied."""

from __future__ import annotations

import copy
import io
import posixpath
import tarfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from timm_encmixer.datasets.plain_images import is_image
from timm_encmixer.datasets.samples import Sample, ShardWork
from timm_encmixer.datasets.sources import printable
from timm_encmixer.errors import DataError
from timm_encmixer.files import members_of, open_tar
from timm_encmixer.images.codec import BATCH_IMAGES
from timm_encmixer.images.folders import is_hidden
from timm_encmixer.images.reading import image_suffixes

_COMPRESSED = frozenset((".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".tar"))
_BATCH_BYTES = 1 << 25
Member = tuple[tarfile.TarInfo, bytes]


def convert_tar(src: Path, dst: Path, work: ShardWork, columns: Sequence[str]) -> None:
    """Write a tar with the same members in the same order, names included, and converted images.

    Names stay, as they are the columns' names: what `000.jpg` holds may then be a PNG, which decoders tell by its first bytes.
    Hidden members are left out, as `datasets` and `webdataset` leave them out.

    Args:
        src: Uncompressed tar.
        dst: Where to write.
        work: Converts the samples.
        columns: Fields (a name's part after the first dot, in any case) to take; none takes all with an image's suffix.

    Raises:
        DataError: It has no images, compressed members that may hold some, or members that would be unpacked to another
            place.
        OSError, tarfile.TarError: It is damaged, or the target cannot be written.
    """
    found = False
    chosen_fields = {name.lower() for name in columns}
    with open_tar(src) as source, tarfile.open(dst, "w", format=tarfile.PAX_FORMAT) as target:
        for samples in _batched(_samples(source, work)):
            places = [
                [i for i, (info, _) in enumerate(sample) if _is_image(info, chosen_fields, work.shard)] for sample in samples
            ]
            found = found or any(places)
            converted = work.convert(
                [_sample(sample, chosen, work.shard) for sample, chosen in zip(samples, places, strict=True)]
            )
            for sample, chosen, cells in zip(samples, places, converted, strict=True):
                if cells is not None:
                    _note_plain(work, sample, chosen)
                    _write(target, sample, dict(zip(chosen, cells, strict=True)))
    if not found:
        remedy = "name their fields with image_columns= (--image-column), or leave the shard out"
        raise DataError(work.shard, "images in it", "none", remedy)


def key_and_field(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last part, as WebDataset does."""
    folder, _, base = name.rpartition("/")
    key, _, field = base.partition(".")
    return f"{folder}/{key}" if folder else key, field


def _samples(source: tarfile.TarFile, work: ShardWork) -> Iterator[list[Member]]:
    """Yield the samples of a tar, without its hidden members: macOS puts `._x.jpg`, which is no image, beside `x.jpg`."""
    sample: list[Member] = []
    for info in members_of(source):
        _refuse_outside(info, work.shard)
        if info.isfile() and is_hidden(PurePosixPath(info.name).name):
            work.hidden.append(printable(info.name))
            continue
        file = source.extractfile(info) if info.isfile() else None
        if sample and key_and_field(info.name)[0] != key_and_field(sample[0][0].name)[0]:
            yield sample
            sample = []
        sample.append((info, file.read() if file is not None else b""))
    if sample:
        yield sample


def _batched(samples: Iterator[list[Member]]) -> Iterator[list[list[Member]]]:
    waiting: list[list[Member]] = []
    for sample in samples:
        waiting.append(sample)
        if len(waiting) == BATCH_IMAGES or sum(len(data) for s in waiting for _, data in s) >= _BATCH_BYTES:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _refuse_outside(info: tarfile.TarInfo, shard: str) -> None:
    """Raise when a member, or what a link in it leads to, would be outside of the folder that a tar is unpacked to."""
    name = PurePosixPath(info.name)
    links = [posixpath.join(str(name.parent), info.linkname)] if info.issym() else [info.linkname] if info.islnk() else []
    for path in (info.name, *map(posixpath.normpath, links)):
        if path.startswith("/") or ".." in PurePosixPath(path).parts:
            where = f"{shard}: {printable(info.name)}"
            raise DataError(where, "members below the tar's own folder", "one outside", "do not use this tar")


def _note_plain(work: ShardWork, sample: Sequence[Member], chosen: Sequence[int]) -> None:
    for index, (info, data) in enumerate(sample):
        if index not in chosen and (is_image(data) or (info.isfile() and _suffix(info) in image_suffixes())):
            work.plain.add(printable(key_and_field(info.name)[1]))


def _suffix(info: tarfile.TarInfo) -> str:
    return PurePosixPath(f"x.{key_and_field(info.name)[1]}").suffix.lower()


def _is_image(info: tarfile.TarInfo, columns: Collection[str], shard: str) -> bool:
    field = key_and_field(info.name)[1]
    if _suffix(info) in _COMPRESSED and not columns:
        remedy = "unpack it, or name the image fields with image_columns= (--image-column)"
        raise DataError(
            f"{shard}: {printable(info.name)}", "images and plain files", "a compressed member, which may hold images", remedy
        )
    if not info.isfile():
        return False
    return field.lower() in columns if columns else _suffix(info) in image_suffixes()


def _sample(members: Sequence[Member], chosen: Sequence[int], shard: str) -> Sample:
    names = [printable(members[index][0].name) for index in chosen]
    cells = [members[index][1] for index in chosen]
    fields = [key_and_field(name)[1] for name in names]
    return Sample(printable(key_and_field(members[0][0].name)[0]), cells, fields, [f"{shard}: {name}" for name in names])


def _write(target: tarfile.TarFile, sample: Sequence[Member], cells: dict[int, bytes | None]) -> None:
    for index, (info, data) in enumerate(sample):
        content = cells.get(index) or data
        header = copy.copy(info)
        header.size = len(content) if info.isfile() else info.size
        header.pax_headers = {name: value for name, value in info.pax_headers.items() if name not in ("size", "path")}
        target.addfile(header, io.BytesIO(content) if info.isfile() else None)
        target.members = []  # type: ignore[attr-defined]
