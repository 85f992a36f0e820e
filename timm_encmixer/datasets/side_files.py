"""Small files that belong to a data set: features and sizes, licences, and metadata tables that name image files."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import posixpath
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from timm_encmixer.datasets.layout import NOT_INCLUDED, Layout
from timm_encmixer.datasets.manifest import target_name
from timm_encmixer.datasets.sources import SourceTree, unchanged
from timm_encmixer.errors import DataError
from timm_encmixer.images.reading import image_suffixes

_SIZES = ("splits", "download_size", "dataset_size", "size_in_bytes", "download_checksums")  # of the plain files


@dataclass(frozen=True)
class SideFiles:
    """Carries the side files of a data set over.

    Args:
        source: The source.
        layout: Its files.
        salt: What was done to the images, for the new fingerprint of `save_to_disk` data.
        suffix: Of the target's image files.
        bad: Names of source files that could not be used; rows of metadata tables that name one are left out.
        images: Names of all image files, to refuse rows that name another; None does not look.
    """

    source: SourceTree
    layout: Layout
    salt: str
    suffix: str
    bad: frozenset[str] = frozenset()
    images: frozenset[str] | None = None

    def names(self) -> list[str]:
        """Return the names of the files that the target gets."""
        return [file.name for file in self.layout.side_files if not self._is_of_no_shard(file.name)]

    def write(self, name: str, target: Path, scratch: Path) -> None:
        """Write one: image files that it names have other suffixes now, and a data set that changed has a new fingerprint.

        Raises:
            DataError: It is not what its name says.
            SourceError: It was changed since it was listed.
        """
        file = next(file for file in self.layout.side_files if file.name == name)
        with unchanged(self.source, file, scratch) as path:
            try:
                self._rewriter(name)(path, target)
            except Exception as error:
                is_content = isinstance(error, (ValueError, csv.Error, RecursionError))  # ValueError: no UTF-8, no JSON
                if not is_content and not type(error).__module__.startswith("pyarrow"):
                    raise
                got = (str(error).splitlines() or ["something else"])[0][:200]
                where = f"{self.source.where}/{name}"
                raise DataError(where, "the text that its name promises", got, "correct or remove it") from error

    def _rewriter(self, name: str) -> Callable[[Path, Path], object]:
        path = PurePosixPath(name)
        if name in self.layout.metadata and self.layout.kind == "imagefolder":
            left_out = frozenset(
                name for reason, names in self.layout.left_out.items() if reason != NOT_INCLUDED for name in names
            )
            gone = self.bad | set(self.layout.left_out.get(NOT_INCLUDED, ()))
            table = _Table(str(path.parent), self.suffix, gone, left_out, self.images)
            return {".csv": table.csv, ".jsonl": table.jsonl, ".parquet": table.parquet}[path.suffix]
        if path.name == "state.json":
            return lambda source, target: self._state(str(path.parent), source, target)
        if name == "dataset_infos.json":
            return _infos
        if path.name == "dataset_dict.json" and self._left_out_folders():
            return self._splits
        return shutil.copyfile

    def _state(self, folder: str, source: Path, target: Path) -> None:
        state = _json_object(source)
        if "_fingerprint" in state:
            state["_fingerprint"] = hashlib.sha256(f"{state['_fingerprint']} {self.salt}".encode()).hexdigest()[:16]
        gone = set(self.layout.left_out.get(NOT_INCLUDED, ()))
        files = state.get("_data_files")
        if gone and isinstance(files, list):
            names = [(file, file.get("filename")) for file in files if isinstance(file, dict)]
            state["_data_files"] = [file for file, name in names if posixpath.normpath(f"{folder}/{name}") not in gone]
        target.write_text(json.dumps(state, indent=2), encoding="utf-8")

    def _splits(self, source: Path, target: Path) -> None:
        value = _json_object(source)
        gone = self._left_out_folders()
        value["splits"] = [split for split in value.get("splits") or [] if split not in gone]
        target.write_text(json.dumps(value), encoding="utf-8")

    def _left_out_folders(self) -> set[str]:
        """Return the folders of which --include takes no shard."""
        left_out = {posixpath.dirname(name) for name in self.layout.left_out.get(NOT_INCLUDED, ())}
        return left_out - {posixpath.dirname(shard.name) for shard in self.layout.shards}

    def _is_of_no_shard(self, name: str) -> bool:
        folder, base = posixpath.split(name)
        return (
            self.layout.kind == "arrow" and base in ("state.json", "dataset_info.json") and folder in self._left_out_folders()
        )


@dataclass(frozen=True)
class _Table:
    """A metadata table: its columns of file names follow the files, and its rows of files that are gone go.

    Args:
        folder: Where the table is, below the data set: names in it are below that.
        suffix: Of the target's image files.
        gone: Names of the source files that the target does not have because they are bad or not chosen.
        left_out: Names of what is left out for what it is; rows that name such a file are refused.
        images: Names of all image files, or None; rows that name another file are refused.
    """

    folder: str
    suffix: str
    gone: frozenset[str]
    left_out: frozenset[str]
    images: frozenset[str] | None

    def csv(self, source: Path, target: Path) -> None:
        with (
            source.open(newline="", encoding="utf-8-sig") as file,
            target.open("w", newline="", encoding="utf-8") as out,
            _cells_of_any_length(),
        ):
            rows = csv.reader(file, strict=True)
            writer = csv.writer(out)  # its lines end in \r\n, so that a cell with either character is quoted
            header = next((row for row in rows if row), [])
            named = [column for column, name in enumerate(header) if _names_files(name) and name not in header[:column]]
            writer.writerow(header)
            for row in rows:
                there = [column for column in named if column < len(row)]
                if row and not any(self._is_gone(row[column]) for column in there):
                    writer.writerow(
                        [_renamed(cell, self.suffix) if column in there else cell for column, cell in enumerate(row)]
                    )

    def jsonl(self, source: Path, target: Path) -> None:
        with source.open(encoding="utf-8-sig") as file, target.open("w", encoding="utf-8") as out:
            for line in file:
                if line.strip():
                    row = json.loads(line, object_pairs_hook=_without_doubles, parse_float=_finite)
                    if not isinstance(row, dict):
                        raise ValueError(f"a line that is no object: {line[:40]!r}")
                    if not any(map(self._is_gone, _files_in(row))):
                        out.write(json.dumps(_follow(row, self.suffix), ensure_ascii=False) + "\n")

    def parquet(self, source: Path, target: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        table = parquet.read_table(source)
        rows = table.to_pylist()
        kept = [index for index, row in enumerate(rows) if not any(map(self._is_gone, _files_in(row)))]
        columns, rows_kept = [], pyarrow.array(kept, pyarrow.int64())
        for field in table.schema:
            values = [_follow({field.name: rows[index][field.name]}, self.suffix)[field.name] for index in kept]
            followed = _followed_columns(field)
            columns.append(pyarrow.array(values, field.type) if followed else table.column(field.name).take(rows_kept))
        parquet.write_table(pyarrow.table(columns, schema=table.schema), target)

    def _is_gone(self, file: str) -> bool:
        name = posixpath.normpath(posixpath.join(self.folder, file))
        folders = {f"{folder}/" for folder in map(str, PurePosixPath(name).parents)}
        if name in self.left_out or not folders.isdisjoint(self.left_out):
            raise ValueError(f"a row of the file {name}, which is left out")
        if self.images is not None and name not in self.images and name not in self.gone:
            raise ValueError(f"a row of the file {name}, which is not there")
        return name in self.gone


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lift the limit of the module csv, which is one for the whole process, for as long as the context lasts."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def drop_sizes(info: Any) -> None:
    """Forget the sizes of the plain files, which `datasets` would compare; features stay."""
    for name in _SIZES if isinstance(info, dict) else ():
        info.pop(name, None)


def _infos(source: Path, target: Path) -> None:
    value = _json_object(source)
    for info in value.values():
        drop_sizes(info)
    target.write_text(json.dumps(value), encoding="utf-8")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a name twice in one object: {', '.join(name for name, _ in pairs)}")
    return row


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"a number that no float holds: {number}")
    return float(number)


def _json_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} instead of an object")
    return value


def _names_files(column: str) -> bool:
    return column in ("file_name", "file_names") or column.endswith(("_file_name", "_file_names"))


def _followed_columns(field: Any) -> bool:
    """Whether a column of an Arrow table, or a field inside of it, names files."""
    inner = [field.type.field(index) for index in range(field.type.num_fields)]
    return _names_files(field.name) or any(map(_followed_columns, inner))


def _files_in(value: Any) -> list[str]:
    """Return all files that a row names, in structs and lists too."""
    if isinstance(value, list):
        return [name for item in value for name in _files_in(item)]
    if not isinstance(value, dict):
        return []
    files = []
    for column, cell in value.items():
        named = [cell] if isinstance(cell, str) else cell if isinstance(cell, list) else []
        files += [name for name in named if isinstance(name, str)] if _names_files(column) else []
        files += _files_in(cell)
    return files


def _follow(value: Any, suffix: str) -> Any:
    """Return a row whose files have the target's suffix."""
    if isinstance(value, list):
        return [_follow(item, suffix) for item in value]
    if isinstance(value, dict):
        return {name: (_renamed if _names_files(name) else _follow)(cell, suffix) for name, cell in value.items()}
    return value


def _renamed(value: Any, suffix: str) -> Any:
    if isinstance(value, list):
        return [_renamed(item, suffix) for item in value]
    is_image = isinstance(value, str) and PurePosixPath(value).suffix.lower() in image_suffixes()
    return target_name(value, suffix) if is_image else _follow(value, suffix)


def bad_files(shards: Sequence[Any]) -> frozenset[str]:
    """Return the names of image files that finished runs have left out."""
    return frozenset(bad.sample for entry in shards if entry.is_run for bad in entry.bad)
