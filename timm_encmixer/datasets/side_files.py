"""Small files that belong to a data set: features and sizes, licences, and metadata tables that name image files."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from timm_encmixer.datasets.layout import IMAGES, target_name
from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.sources import DatasetSource
from timm_encmixer.errors import DataError
from timm_encmixer.images.reading import image_suffixes


def copy_side_file(source: DatasetSource, name: str, ledger: Ledger, *, kind: str, salt: str) -> None:
    """Carry a side file over; image files that it names are PNG now, and a data set that changed has a new fingerprint.

    Args:
        source: The source.
        name: The file.
        ledger: Of the target.
        kind: The data set's.
        salt: What was done to the images, for the new fingerprint of `save_to_disk` data.

    Raises:
        DataError: It is not what its name says.
    """
    with source.local(name, ledger.scratch) as path, ledger.writing(name) as new:
        try:
            _rewriter(name, kind, salt)(path, new)
        except (ValueError, csv.Error) as error:
            got = (str(error).splitlines() or ["something else"])[0]
            raise DataError(f"{source.where}/{name}", "the text that its name promises", got, "correct or remove it") from error


def _rewriter(name: str, kind: str, salt: str) -> Callable[[Path, Path], None]:
    path = PurePosixPath(name)
    if kind == IMAGES and path.stem == "metadata":
        return {".csv": _rename_in_csv, ".jsonl": _rename_in_lines, ".parquet": _rename_in_parquet}[path.suffix]
    if path.name == "state.json":
        return lambda source, target: _new_fingerprint(source, target, salt)
    return _copy


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _rename_in_csv(source: Path, target: Path) -> None:
    with source.open(newline="", encoding="utf-8") as file, target.open("w", newline="", encoding="utf-8") as out:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(out, reader.fieldnames or [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _renamed(name, value) for name, value in row.items()} for row in reader)


def _rename_in_lines(source: Path, target: Path) -> None:
    with source.open(encoding="utf-8") as file, target.open("w", encoding="utf-8") as out:
        for line in file:
            if line.strip():
                row = {name: _renamed(name, value) for name, value in json.loads(line).items()}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rename_in_parquet(source: Path, target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(source)
    for index, field in enumerate(table.schema):
        if _names_files(field.name):
            values = [_renamed(field.name, value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field, pyarrow.array(values, field.type))
    parquet.write_table(table, target)


def _names_files(column: str) -> bool:
    return column in ("file_name", "file_names") or column.endswith(("_file_name", "_file_names"))


def _renamed(column: str, value: Any) -> Any:
    if not _names_files(column):
        return value
    if isinstance(value, list):
        return [_renamed(column, item) for item in value]
    is_image = isinstance(value, str) and PurePosixPath(value).suffix.lower() in image_suffixes()
    return target_name(value) if is_image else value


def _new_fingerprint(source: Path, target: Path, salt: str) -> None:
    state = json.loads(source.read_text(encoding="utf-8"))
    if isinstance(state, dict) and "_fingerprint" in state:
        state["_fingerprint"] = hashlib.sha256(f"{state['_fingerprint']} {salt}".encode()).hexdigest()[:16]
    target.write_text(json.dumps(state, indent=2), encoding="utf-8")
