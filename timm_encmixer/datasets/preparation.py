"""Before the first image: everything beside the shards is read and written once, to see that the result will be read.

The result's files are laid out in a temporary folder: side files and README.md as they will be, shards as empty files. The
library `datasets` is asked what it reads there, and what it reads in the source, laid out likewise.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from huggingface_hub import DatasetCard

from timm_encmixer.datasets import loading
from timm_encmixer.datasets.layout import IMAGES, NOT_INCLUDED, SUFFIX, Layout
from timm_encmixer.datasets.listing import SIDE_FILES, read_listing
from timm_encmixer.datasets.manifest import target_name
from timm_encmixer.datasets.readme import configs_of, source_card, splits_in, with_patterns
from timm_encmixer.datasets.side_files import SideFiles, drop_sizes
from timm_encmixer.errors import DataError
from timm_encmixer.hub.card_section import CARD_NAME
from timm_encmixer.images.reading import image_suffixes
from timm_encmixer.images.tables import quiet


def prepare(side_files: SideFiles, listing: BinaryIO, *, chosen: bool) -> list[dict[str, Any]]:
    """See that everything beside the shards can be carried over, and that the result will be read as the source is.

    Args:
        side_files: Of the data set.
        listing: The files of its shards.
        chosen: --include says which files are the data set; otherwise files that are left out may make it one of another kind.

    Returns:
        The configurations for the result's README.md: patterns of image files follow them, and patterns of shards that
        --include does not take go.

    Raises:
        DataError: A side file is not what its name says; or `datasets` would read the result otherwise than the source.
        SourceError: README.md cannot be read.
    """
    source, layout = side_files.source, side_files.layout
    card = source_card(source)
    for config in configs_of(card):
        with_patterns(config, lambda pattern: _refuse_elsewhere(pattern, source.where))
    if layout.metadata and layout.kind == IMAGES:
        side_files = dataclasses.replace(side_files, images=frozenset(_names(listing)))
    with tempfile.TemporaryDirectory(prefix="encmixer-") as scratch:
        before, after, copies = (Path(scratch) / name for name in ("source", "target", "copies"))
        after.mkdir()
        for name in side_files.names():
            (after / name).parent.mkdir(parents=True, exist_ok=True)
            side_files.write(name, after / name, copies)
        configs = (
            [followed for config in configs_of(card) if (followed := _followed(config, side_files.suffix))]
            if layout.kind == IMAGES
            else configs_of(card)
        )
        not_taken = layout.left_out.get(NOT_INCLUDED, ())
        beside = [*loading.sample(layout.left_out.get(SUFFIX, ()))] if layout.kind == IMAGES and not chosen else []
        is_saved = any(PurePosixPath(file.name).name == "state.json" for file in layout.side_files)
        if is_saved or not (layout.kind == IMAGES or not_taken) or not loading.is_installed():
            return configs  # no name changes
        is_image = layout.kind == IMAGES
        targets = {name: target_name(name, side_files.suffix) if is_image else name for name in loading.sample(_names(listing))}
        is_odd = is_image and not {PurePosixPath(name).suffix for name in (*targets, *beside)} <= loading.image_suffixes()
        if is_image and not (configs or layout.metadata or not_taken or is_odd):
            return configs  # no pattern, table or choice of a kind depends on the names
        loading.touch(after, targets.values())
        loading.touch(before, (*targets, *beside, *loading.sample(not_taken)))
        for name in (*(file.name for file in layout.side_files), *([CARD_NAME] if card is not None else [])):
            (before / name).parent.mkdir(parents=True, exist_ok=True)
            with source.local(name, copies) as path:
                shutil.copyfile(path, before / name)
        if not_taken:
            configs = [kept for config in configs if (kept := _matching(config, after))]
        if card is not None:
            (after / CARD_NAME).write_text(str(with_configs(card, configs)), encoding="utf-8")
        is_whole = len(targets) == sum(shard.files for shard in layout.shards)  # otherwise a pattern may name what is not in it
        must_be_read = is_whole and bool(configs_of(card) or layout.metadata)
        targets |= {name: name for name in layout.metadata}
        _compare(before, after, targets, layout, where=source.where, must_be_read=must_be_read)
    return configs


def configs_of_result(configs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return configurations without the patterns of images that could not be used and match no file of the result.

    Raises:
        DataError: A split has no image left.
    """
    kept = []
    for config in configs:
        found = _matching(config, folder) if loading.is_installed() else config
        if found is None or splits_in(found) != splits_in(config):
            remedy = "correct its images, or take it out of the configuration"
            place = f"configuration {config.get('config_name')}"
            raise DataError(place, "an image that can be used in each split", "none", remedy)
        kept.append(found)
    return kept


def with_configs(card: DatasetCard, configs: list[dict[str, Any]]) -> DatasetCard:
    """Return a card with other configurations, and without the sizes of the plain files, which `datasets` would compare."""
    card = copy.deepcopy(card)
    data: Any = card.data
    if getattr(data, "configs", None) is not None:
        data.configs = configs or None
    info = getattr(data, "dataset_info", None)
    for entry in info if isinstance(info, list) else [info]:
        drop_sizes(entry)
    return card


def _followed(config: dict[str, Any], suffix: str) -> dict[str, Any] | None:
    """Return a configuration whose patterns of image files end as the target's files do."""

    def change(pattern: str) -> str:
        return target_name(pattern, suffix) if PurePosixPath(pattern).suffix.lower() in image_suffixes() else pattern

    return with_patterns(config, change)


def _refuse_elsewhere(pattern: str, where: str) -> str:
    """Raise for a pattern of files that are not below the data set: the result would read the plain ones there."""
    path = PurePosixPath(pattern)
    if "://" in pattern or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}/{CARD_NAME}", "data_files below the data set", pattern, "correct data_files")
    return pattern


def _matching(config: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Return a configuration without the patterns that match no file of the result."""
    from datasets.data_files import resolve_pattern

    def found(pattern: str) -> str | None:
        try:
            return pattern if resolve_pattern(pattern, str(folder / str(config.get("data_dir") or ""))) else None
        except Exception:  # no file; or no pattern, which the comparison reports
            return None

    with quiet():
        return with_patterns(config, found)


def _names(listing: BinaryIO) -> Iterator[str]:
    """Yield the names of the files of all shards."""
    listing.seek(0)
    for shard in read_listing(listing, where="listing"):
        yield from (file.name for file in shard.files if shard.shard != SIDE_FILES)


def _compare(before: Path, after: Path, targets: Mapping[str, str], layout: Layout, *, where: str, must_be_read: bool) -> None:
    rows = layout.kind == IMAGES and NOT_INCLUDED not in layout.left_out
    try:
        source = loading.read(before, rows=rows)
    except Exception as error:  # whatever the library raises
        if not must_be_read:  # there is nothing to keep
            return
        raise _unlike(where, f"one that it does not read plain ({loading.first_line(error)})") from error
    try:
        result = loading.read(after, rows=rows)
    except Exception as error:  # whatever the library raises
        raise _unlike(where, f"what it cannot read there ({loading.first_line(error)})") from error
    expected = {
        config: {split: kept for split, names in splits.items() if (kept := _sorted(names, targets))}
        for config, splits in source.files.items()
    }
    for config in sorted({*expected, *result.files}):
        kind, other = source.kinds.get(config), result.kinds.get(config)
        if kind is not None and other is not None and kind != other:
            raise _unlike(where, f"configuration {config} of the kind {kind}, then {other}")
        splits, found = expected.get(config, {}), result.files.get(config, {})
        for split in sorted({*splits, *found}):
            if splits.get(split) != found.get(split):
                numbers = f"{len(splits.get(split, ()))} files in the source and {len(found.get(split, ()))} in the result"
                raise _unlike(where, f"another choice of files in configuration {config}, split {split}: {numbers}")
    differing = [name for name in source.tables if source.tables[name] != result.tables.get(name)]
    if differing:
        name = differing[0]
        raise _unlike(where, f"in {name}: {source.tables[name]}, then {result.tables.get(name, 'nothing')}")


def _sorted(names: Iterable[str], targets: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(targets[name] for name in names if name in targets))


def _unlike(where: str, got: str) -> DataError:
    expected = "a data set that `datasets` reads encrypted as it reads it plain"
    remedy = f"change data_files in its {CARD_NAME}, metadata tables, suffixes, or include= (--include)"
    return DataError(where, expected, got, remedy)
