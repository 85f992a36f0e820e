"""What the README.md of a data set tells the library `datasets`: its configurations, and which files they read."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm_encmixer.datasets.sources import SourceTree
from timm_encmixer.errors import SourceError
from timm_encmixer.hub.card_section import CARD_NAME, read_card

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard

METADATA = (".csv", ".jsonl", ".parquet")  # kinds of tables that name image files
_METADATA_NAMES = frozenset(f"metadata{suffix}" for suffix in METADATA)  # where no configuration says otherwise


def source_card(source: SourceTree) -> DatasetCard | None:
    """Return a source's README.md, None when it has none.

    Raises:
        SourceError: Its metadata cannot be read.
    """
    if not source.has(CARD_NAME):
        return None
    with tempfile.TemporaryDirectory(prefix="encmixer-") as scratch, source.local(CARD_NAME, Path(scratch)) as path:
        content = path.read_bytes()
    where = f"{source.where}/{CARD_NAME}"
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise SourceError(where, "text in UTF-8", f"other bytes at {error.start}", "save it as UTF-8") from error
    if not text.lstrip().startswith("---"):  # no metadata, which huggingface_hub would warn of
        text = f"---\n{{}}\n---\n{text}"
    from huggingface_hub import DatasetCard

    card = read_card(DatasetCard, text, where=where)
    configs = getattr(card.data, "configs", None)
    if configs is not None and not (isinstance(configs, list) and all(isinstance(config, dict) for config in configs)):
        raise SourceError(where, "configs as a list of configurations", "something else", "correct it, then try again")
    return card


def configs_of(card: DatasetCard | None) -> list[dict[str, Any]]:
    """Return the configurations of a README.md."""
    configs: list[dict[str, Any]] | None = getattr(card.data, "configs", None) if card is not None else None
    return configs or []


def metadata_names(source: SourceTree) -> frozenset[str]:
    """Return the names of metadata tables: those of `datasets`, and what the configurations of README.md name.

    Raises:
        SourceError: The metadata of README.md cannot be read.
    """
    named = [name for config in configs_of(source_card(source)) for name in _listed(config.get("metadata_filenames"))]
    return _METADATA_NAMES | {name for name in named if isinstance(name, str)}


def with_patterns(config: dict[str, Any], change: Callable[[str], str | None]) -> dict[str, Any] | None:
    """Return a configuration whose patterns of data files were changed.

    Args:
        config: As README.md has it.
        change: Takes a pattern; returns None for one that goes.

    Returns:
        The configuration; None when all its patterns went.
    """
    files = config.get("data_files")
    if files is None:
        return config
    changed: Any
    if isinstance(files, str):
        changed = change(files)
    elif isinstance(files, dict):
        changed = {split: new for split, path in files.items() if (new := _changed(path, change))}
    else:
        changed = _merged(files, change) if isinstance(files, list) else [_changed_entry(files, change)]
    return {**config, "data_files": changed} if changed else None


def splits_in(config: dict[str, Any]) -> set[Any]:
    """Return the names of the splits whose data files a configuration lists."""
    files = config.get("data_files")
    if isinstance(files, dict):
        return set(files)
    return {entry["split"] for entry in _listed(files) if isinstance(entry, dict) and isinstance(entry.get("split"), str)}


def _changed_entry(entry: Any, change: Callable[[str], str | None]) -> Any:
    if isinstance(entry, dict) and "path" in entry:
        new = _changed(entry["path"], change)
        return {**copy.copy(entry), "path": new} if new else None
    return _changed(entry, change)


def _changed(path: Any, change: Callable[[str], str | None]) -> Any:
    if isinstance(path, list):
        return _merged(path, change)
    return change(path) if isinstance(path, str) else path


def _merged(entries: list[Any], change: Callable[[str], str | None]) -> list[Any]:
    """Return the changed entries of a list; of different patterns that became one, only the first stays."""
    first: dict[str, Any] = {}
    changed = [(entry, _changed_entry(entry, change)) for entry in entries]
    return [new for entry, new in changed if new and first.setdefault(str(new), entry) == entry]


def _listed(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value] if value is not None else []
