"""Image columns of tables, converted a few rows at a time: parquet files, and Arrow files as `save_to_disk` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from timm_encmixer.datasets.manifest import target_name
from timm_encmixer.datasets.plain_images import is_image
from timm_encmixer.datasets.samples import Cell, Sample, ShardWork
from timm_encmixer.errors import DataError, ImageError
from timm_encmixer.images.codec import BATCH_IMAGES

_GROUP_ROWS, _GROUP_BYTES = 1000, 1 << 25  # a row group is written at whichever comes first
_READ_BYTES = 1 << 20


def convert_parquet(src: Path, dst: Path, work: ShardWork, columns: Sequence[str]) -> None:
    """Write a parquet file with the same schema and metadata and converted image columns.

    Raises:
        DataError: It has no image column, or images in places that cannot be converted.
        OSError, pyarrow.ArrowException: It is damaged, or the target cannot be written.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(src, memory_map=False, buffer_size=_READ_BYTES, pre_buffer=False) as file:
        schema = file.schema_arrow
        images = image_columns(schema, columns, where=work.shard)
        work.plain |= set(_left_plain(schema, images))
        others = [name for name in schema.names if name not in images]
        options: dict[str, Any] = {"use_dictionary": others, "write_statistics": others, "compression": _compression(file)}
        with parquet.ParquetWriter(dst, schema, **options) as writer:
            batches = file.iter_batches(batch_size=BATCH_IMAGES, use_threads=False)
            for group in _grouped(_converted(batches, images, work)):
                writer.write_table(group)


def convert_arrow(src: Path, dst: Path, work: ShardWork, columns: Sequence[str]) -> None:
    """Write an Arrow stream file with the same schema and metadata and converted image columns; errors as for parquet."""
    import pyarrow

    with pyarrow.OSFile(str(src)) as source, pyarrow.ipc.open_stream(source) as reader:
        images = image_columns(reader.schema, columns, where=work.shard)
        work.plain |= set(_left_plain(reader.schema, images))
        with pyarrow.OSFile(str(dst), "wb") as sink, pyarrow.ipc.new_stream(sink, reader.schema) as writer:
            slices = (batch.slice(at, BATCH_IMAGES) for batch in reader for at in range(0, len(batch), BATCH_IMAGES))
            for group in _grouped(_converted(slices, images, work)):
                writer.write_table(group.combine_chunks())


def image_columns(schema: Any, chosen: Sequence[str] = (), *, where: str) -> list[str]:
    """Return the names of a table's image columns, or the chosen ones.

    Args:
        schema: pyarrow schema, with or without the features that `datasets` writes into it.
        chosen: Columns to take; none takes all.
        where: For messages.

    Raises:
        DataError: There are none, images lie deeper than in a column of their own, or a chosen column holds no images.
    """
    import pyarrow

    noted = _features(schema)
    images = [name for name in schema.names if _is_image(schema.field(name).type, noted.get(name))]
    nested = [name for name in schema.names if name not in images and _holds_image(schema.field(name).type, noted.get(name))]
    remedy = "name the columns with image_columns= (--image-column), or leave the shard out with include= (--include)"
    if nested and not chosen:
        raise DataError(where, "images in columns of their own", f"images inside of {', '.join(nested)}", remedy)
    for name in chosen:
        binary = name in schema.names and (
            pyarrow.types.is_binary(schema.field(name).type) or pyarrow.types.is_large_binary(schema.field(name).type)
        )
        if name not in images and not binary:
            raise DataError(where, f"images in the column {name}", f"the columns {', '.join(schema.names)}", remedy)
    if not (chosen or images):
        raise DataError(where, "an image column", f"the columns {', '.join(schema.names)}", remedy)
    return list(chosen) or images


def _left_plain(schema: Any, images: Sequence[str]) -> list[str]:
    """Return the columns that hold images by their type, and were not chosen."""
    noted = _features(schema)
    others = [name for name in schema.names if name not in images]
    return [
        name
        for name in others
        if _is_image(schema.field(name).type, noted.get(name)) or _holds_image(schema.field(name).type, noted.get(name))
    ]


def _features(schema: Any) -> dict[str, Any]:
    """Return the features that `datasets` writes into a schema, none where there are none."""
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    info = noted.get("info") if isinstance(noted, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _is_image(kind: Any, feature: Any) -> bool:
    import pyarrow

    if feature is not None:
        return isinstance(feature, dict) and feature.get("_type") == "Image"
    return pyarrow.types.is_struct(kind) and {kind.field(index).name for index in range(kind.num_fields)} == {"bytes", "path"}


def _holds_image(kind: Any, feature: Any) -> bool:
    if feature is not None:
        return '"_type": "Image"' in json.dumps(feature)
    return any(_is_image(kind.field(i).type, None) or _holds_image(kind.field(i).type, None) for i in range(kind.num_fields))


def _converted(batches: Iterator[Any], images: Sequence[str], work: ShardWork) -> Iterator[Any]:
    import pyarrow

    row = 0
    for batch in batches:
        for name in _binary_columns(batch.schema):
            if name not in images and name not in work.plain and any(map(is_image, batch.column(name).to_pylist())):
                work.plain.add(name)
        columns = {name: batch.column(name).to_pylist() for name in images}
        samples = [
            _sample(row + index, [columns[name][index] for name in images], images, work.shard) for index in range(len(batch))
        ]
        row += len(batch)
        converted = work.convert(samples)
        kept = [index for index, cells in enumerate(converted) if cells is not None]
        if len(kept) < len(batch):
            batch = batch.take(pyarrow.array(kept, pyarrow.int64()))
        for place, name in enumerate(images):
            index = batch.schema.get_field_index(name)
            kind = batch.schema.field(index).type
            values = [_value((converted[at] or [])[place], columns[name][at], work.codec.format.suffix) for at in kept]
            batch = batch.set_column(index, batch.schema.field(index), pyarrow.array(values, kind))
        yield batch


def _binary_columns(schema: Any) -> list[str]:
    from pyarrow import types

    kinds = {field.name: field.type for field in schema}
    return [name for name, kind in kinds.items() if types.is_binary(kind) or types.is_large_binary(kind)]


def _sample(row: int, values: Sequence[Any], images: Sequence[str], shard: str) -> Sample:
    places = [f"{shard}: row {row}: {name}" for name in images]
    return Sample(f"row {row}", [_cell(value, place) for value, place in zip(values, places, strict=True)], images, places)


def _cell(value: Any, place: str) -> Cell | ImageError | None:
    """Return a cell's bytes; None for a missing image, an error for one that is only named."""
    if isinstance(value, dict):
        if value["bytes"] is None and value["path"] is not None:
            got = f"a path alone, {value['path'][:100]}"
            remedy = "embed the images: save_to_disk of datasets does, to_parquet does not"
            return ImageError(place, "the image itself", got, remedy)
        return value["bytes"]  # type: ignore[no-any-return]
    return value  # type: ignore[no-any-return]


def _value(cell: bytes | None, before: Any, suffix: str) -> Any:
    if cell is None or not isinstance(before, dict):
        return before if cell is None else cell
    return {"bytes": cell, "path": target_name(before["path"], suffix) if before["path"] else before["path"]}


def _grouped(batches: Iterator[Any]) -> Iterator[Any]:
    """Join batches to tables of some thousand rows or some ten megabytes, whatever batches the source had."""
    import pyarrow

    waiting: list[Any] = []
    for batch in batches:
        if not len(batch):  # all of its rows were bad: a row group of no rows is one that nobody reads
            continue
        waiting.append(batch)
        if sum(map(len, waiting)) >= _GROUP_ROWS or sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            yield pyarrow.Table.from_batches(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield pyarrow.Table.from_batches(waiting)


def _compression(file: Any) -> dict[str, str] | str:
    """Return each column's codec, as the source has it."""
    if not file.metadata.num_row_groups:
        return "snappy"
    group = file.metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    return {column.path_in_schema: column.compression.lower().replace("uncompressed", "none") for column in columns}
