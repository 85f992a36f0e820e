"""Reading tars that come from anybody: never more memory or disk than the tar itself has bytes."""

from __future__ import annotations

import contextlib
import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from timm_encmixer.files.reading import open_regular


@contextlib.contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an uncompressed tar to read. Walk it with `members_of`.

    Raises:
        FileAccessError: It is missing or unreadable.
        tarfile.TarError: It is none.
    """
    with open_regular(path, action="a tar to read") as file:
        bounded: Any = _Bounded(file, os.fstat(file.fileno()).st_size)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            yield archive


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar that `open_tar` opened, one at a time; `tarfile` itself would remember them all.

    Raises:
        tarfile.ReadError: A header is damaged. Or a member claims to have bytes that the tar has not: it is sparse, longer than
            the tar, or of negative length. Or the tar is cut: it has no block of zeros at its end.
    """
    whole: Any = archive.fileobj
    while True:
        try:
            member = archive.next()
        except (
            ValueError,
            IndexError,
            KeyError,
            OverflowError,
            struct.error,
        ) as error:
            raise tarfile.ReadError(f"a damaged header ({error})") from error
        archive.members = []  # type: ignore[attr-defined]
        if member is None:
            if archive.offset + tarfile.BLOCKSIZE > whole.size:
                raise tarfile.ReadError("it is cut: the block of zeros at its end is missing")
            return
        left = whole.size - member.offset_data
        if member.issparse():
            raise tarfile.ReadError(f"{member.name[:100]!r} is sparse: it claims {member.size} bytes that the tar has not")
        if member.size < 0 or (member.isreg() and member.size > left):
            raise tarfile.ReadError(f"{member.name[:100]!r} claims {member.size} bytes, and the tar has {max(left, 0)} more")
        yield member


class _Bounded:
    """A file whose reads ask for no more than it has: Python takes memory for what is asked, before it reads.

    Args:
        file: Open to read.
        size: Of the file, in bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size

    def read(self, count: int = -1) -> bytes:
        left = max(self.size - self._file.tell(), 0)
        return self._file.read(left if count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
