"""What a shard's conversion shares with all others: samples in, samples out, and what becomes of the bad ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from timm_encmixer.datasets.manifest import Bad
from timm_encmixer.errors import ImageError, ProcessError
from timm_encmixer.images.codec import BATCH_IMAGES, ImageCodec
from timm_encmixer.images.reading import without_bomb_warnings

Cell = bytes  # an encoded image
STOP, SKIP, QUARANTINE = ON_ERROR = ("stop", "skip", "quarantine")


@dataclass(frozen=True)
class Sample:
    """One row, WebDataset sample or file.

    Args:
        name: Where it is in its shard, for people: "row 12", a key, a file's name.
        cells: Its encoded images; None where it has none, an error where it names one that is not in it.
        labels: What each cell is called in it: its column or its suffix.
        places: What each cell is called in messages: where a person finds it.
    """

    name: str
    cells: Sequence[Cell | ImageError | None]
    labels: Sequence[str]
    places: Sequence[str]


@dataclass
class ShardWork:
    """Converts the samples of one shard and counts.

    Args:
        shard: The shard's name.
        codec: For the cells.
        on_error: One of `ON_ERROR`: what to do with a sample that has a bad cell.
        quarantine: Folder for the original cells of bad samples.
        advance: Called after each batch with the bytes and the number of the cells in it; raises when the run is to stop.

    Attributes:
        plain: Columns or fields that hold images and are not converted, found while converting.
        hidden: Names of members of a tar that are left out.
    """

    shard: str
    codec: ImageCodec
    on_error: str = STOP
    quarantine: Path | None = None
    advance: Callable[[int, int], None] = lambda size, images: None
    samples: int = 0
    images: int = 0
    bad: list[Bad] = field(default_factory=list)
    plain: set[str] = field(default_factory=set)
    hidden: list[str] = field(default_factory=list)

    def convert(self, samples: Sequence[Sample]) -> list[list[Cell | None] | None]:
        """Return each sample's converted cells, None for a bad sample that is left out.

        Raises:
            ImageError: A cell is bad, and bad cells are to stop the run.
        """
        converted: list[list[Cell | None] | None] = []
        for start in range(0, len(samples), BATCH_IMAGES):
            batch = samples[start : start + BATCH_IMAGES]
            converted += self._batch(batch)
            cells = [cell for sample in batch for cell in sample.cells if isinstance(cell, Cell)]
            self.advance(sum(map(len, cells)), len(cells))
        return converted

    def _batch(self, samples: Sequence[Sample]) -> list[list[Cell | None] | None]:
        found = [(s, c, cell) for s, sample in enumerate(samples) for c, cell in enumerate(sample.cells) if cell is not None]
        cells = [cell for _, _, cell in found if isinstance(cell, Cell)]
        with without_bomb_warnings():
            files = iter(self.codec(cells, [samples[s].places[c] for s, c, cell in found if isinstance(cell, Cell)]))
        converted: list[list[Cell | None] | None] = [[None] * len(sample.cells) for sample in samples]
        for s, c, cell in found:
            result = cell if isinstance(cell, ImageError) else next(files)
            row = converted[s]
            if isinstance(result, ImageError):
                if row is not None:  # one report per sample
                    self._set_aside(samples[s], result)
                converted[s] = None
            elif row is not None:
                row[c] = result
        self.samples += sum(row is not None for row in converted)
        self.images += sum(cell is not None for row in converted for cell in row or ())
        return converted

    def _set_aside(self, sample: Sample, error: ImageError) -> None:
        if self.on_error == STOP:
            remedy = f"{error.remedy}; or pass on_error= (--on-error) skip or quarantine"
            raise ImageError(error.where, error.expected, error.got, remedy) from error
        self.bad.append(Bad(sample.name, f"expected {error.expected}, got {error.got}"))
        if self.on_error == QUARANTINE:
            assert self.quarantine is not None  # given with the policy
            for label, cell in zip(sample.labels, sample.cells, strict=True):
                target = self.quarantine / self.shard / f"{_file_name(sample.name)}.{_file_name(label)}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(cell if isinstance(cell, Cell) else b"")


class StoppedError(ProcessError):
    """Another process failed, so this one stops between two batches."""


def _file_name(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z._-]+", "-", text).strip(".-") or "cell"
