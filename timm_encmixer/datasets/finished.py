"""A finished data set: where its source was, and what each shard was made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from msgspec import Struct

from timm_encmixer.datasets.books import Books, files_of
from timm_encmixer.datasets.listing import SIDE_FILES, Listed, SourceFile, read_listing
from timm_encmixer.datasets.manifest import MANIFEST, REMEDY, Entry, Manifest, Text
from timm_encmixer.errors import SourceError
from timm_encmixer.schema import read_as


class Origin(Struct, frozen=True, forbid_unknown_fields=True):
    """First line of the private list: where the source was when the data set was finished."""

    source: Text


@dataclass(frozen=True)
class FinishedBooks(Books):
    """What is left of the books when a data set is finished: the manifest, and the private list."""

    def origin(self) -> str | None:
        """Return where the source of a finished data set was, None when nobody noted it."""
        if not self.private.is_file():
            return None
        with self.private.open("rb") as file:
            line = file.readline()
        return read_as(Origin, line, where=str(self.private), error=SourceError, remedy=REMEDY).source

    def made_from(self, manifest: Manifest) -> Iterator[Listed]:
        """Yield what each shard of a finished data set was made from, in the manifest's order; last the side files.

        Raises:
            SourceError: The private list is not that of the manifest.
        """
        with self.private.open("rb") as file:
            file.readline()
            entries = {entry.name: entry for entry in manifest.shards}
            for name, listed in zip_longest((*entries, SIDE_FILES), read_listing(file, where=str(self.private))):
                if listed is None or listed.shard != name or not _fits(listed.files, entries.get(name)):
                    got, remedy = "another list", "delete it, then the source is not compared; or make the data set again"
                    raise SourceError(str(self.private), f"what the shards of {MANIFEST} were made from", got, remedy)
                yield listed

    def written(self, manifest: Manifest) -> list[str]:
        """Return the names of all files of a finished data set's shards; of runs of images only where its private list is."""
        if not self.private.is_file():
            return [name for entry in manifest.shards for name in files_of(entry, None)]
        entries = {entry.name: entry for entry in manifest.shards}
        listed = (one for one in self.made_from(manifest) if one.shard in entries)
        return [name for one in listed for name in files_of(entries[one.shard], one.files)]


def _fits(source: Sequence[SourceFile], entry: Entry | None) -> bool:
    """Whether a shard's files can be made from these; an older version noted none."""
    return entry is None or not entry.is_run or not source or len(files_of(entry, source)) == entry.files
