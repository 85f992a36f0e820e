"""safetensors files, rewritten tensor by tensor without the rest in memory.

The `safetensors` library validates a file and reads tensors; what it lacks is a rewrite that copies the other tensors'
bytes untouched, in their order. Source: https://github.com/huggingface/safetensors (format section of the README).
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError, safe_open

from timm_encmixer.errors import CheckpointError
from timm_encmixer.files import FileKind, file_error, open_regular

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH_BYTES = 8
_LONGEST_HEADER_BYTES = 100_000_000  # the library's own limit
_ALIGNMENT_BYTES = 8
_BUFFER_BYTES = 1 << 20
SAFETENSORS = FileKind("a .safetensors file", b"{", offset=_LENGTH_BYTES)
_REMEDY = "take another copy of the checkpoint"
_PICKLE = ("a pickle, as torch.save writes", "pickles are never read: load it where you trust it, and write it by safetensors")
_IMAGE = ("an image", "give a model; encmixer images is for images")
_OTHER_KINDS = {  # by the bytes that files of a kind begin with
    b"PK\x03\x04": _PICKLE,
    **{b"\x80" + bytes([protocol]): _PICKLE for protocol in range(2, 6)},
    b"\x89HDF": ("an HDF5 file, as Keras writes", "convert it to safetensors"),
    b"GGUF": ("a GGUF file", "convert it to safetensors"),
    b"\x1f\x8b": ("a gzip file", "unpack it first"),
    b"version ": ("a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    b"age-encr": ("a sealed model", "open it first: encmixer model open"),
    b"-----BEG": ("a sealed model, or a key", "open it first: encmixer model open"),
    b"ENCMIXER": ("a key file", "give a model here, and the key as key= (--key)"),
    b"{": ("JSON text", "give the folder that config.json lies in"),
    b"<": ("a page of the web", "download the file itself"),
    b"\x89PNG": _IMAGE,
    b"\xff\xd8\xff": _IMAGE,
}
_FIELDS = ("dtype", "shape", "data_offsets")  # of a tensor; the library reads them from a JSON array too, in this order
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class TensorFile:
    """A validated safetensors file: its header in memory, its tensors on disk."""

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, Mapping[str, Any]]  # as in the header: dtype, shape, data_offsets
    data_start: int

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TensorFile:
        """Read and validate the header.

        Raises:
            FileAccessError: The file is missing, a folder or unreadable.
            CheckpointError: It is not a whole, well-formed safetensors file.
        """
        path = Path(path)
        try:
            with open_regular(path, action="a .safetensors file to read") as file:
                size = os.fstat(file.fileno()).st_size
                header, data_start = read_header(file, size, str(path))
            with safe_open(str(path), framework="np"):  # checks dtypes, shapes, offsets and the file's size
                pass
        except OSError as error:
            raise file_error(path, "a .safetensors file to read", error) from error
        except SafetensorError as error:
            raise CheckpointError(str(path), "a whole safetensors file", str(error), _REMEDY) from error
        metadata = header.pop("__metadata__", None) or {}
        return cls(path, metadata, {name: _named(entry) for name, entry in header.items()}, data_start)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape.

        Raises:
            CheckpointError: There is no such tensor.
        """
        return tuple(self._entry(name)["shape"])

    def dtype(self, name: str) -> str:
        """Return a tensor's type as safetensors names it, for example "F32".

        Raises:
            CheckpointError: There is no such tensor.
        """
        return str(self._entry(name)["dtype"])

    def _entry(self, name: str) -> Mapping[str, Any]:
        if name in self.entries:
            return self.entries[name]
        for prefix in _WRAPPERS:
            if f"{prefix}{name}" in self.entries:
                remedy = f"it was saved from a wrapper: save wrapper.{prefix}state_dict() instead"
                raise CheckpointError(str(self.path), f"a tensor {name}", f"{prefix}{name}", remedy)
        raise CheckpointError(str(self.path), f"a tensor {name}", "none of that name", _REMEDY)

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory."""
        self.shape(name)
        with safe_open(str(self.path), framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor.clone()  # not a view of the file, which may go away

    def write_with(self, target: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write a copy with some tensors and the metadata replaced; all other bytes and their order are kept.

        Args:
            target: File to write over.
            tensors: By name; shapes and dtypes as in this file.
            metadata: The copy's whole metadata.
        """
        header = {**({"__metadata__": dict(metadata)} if metadata else {}), **self.entries}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT_BYTES)
        ranges = {name: self.entries[name]["data_offsets"] for name in tensors}
        with self.path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as out:
            _write(out, struct.pack("<Q", len(text)) + text)
            position = 0
            for name, (start, end) in sorted(ranges.items(), key=lambda item: item[1]):
                _copy_range(source, out, self.data_start + position, start - position)
                _write(out, _bytes(tensors[name]))
                position = end
            _copy_range(source, out, self.data_start + position, self.path.stat().st_size - self.data_start - position)


def read_header(file: BinaryIO, size: int, where: str) -> tuple[dict[str, Any], int]:
    """Read a file's header and return it with the offset at which the tensors' bytes begin.

    Args:
        file: The file from its beginning, at least as far as the header goes.
        size: Of the whole file, in bytes.
        where: For error messages.

    Raises:
        CheckpointError: It is not a safetensors header.
    """
    prefix = file.read(_LENGTH_BYTES)
    if len(prefix) < _LENGTH_BYTES:
        raise CheckpointError(where, "a safetensors file", f"{size} bytes", _REMEDY)
    (length,) = struct.unpack("<Q", prefix)
    if length > min(size - _LENGTH_BYTES, _LONGEST_HEADER_BYTES):
        for magic, (got, remedy) in _OTHER_KINDS.items():
            if prefix.startswith(magic):
                raise CheckpointError(where, "a safetensors file", got, remedy)
        got = f"a header length of {length} in a file of {size} bytes"
        raise CheckpointError(where, "a safetensors file (pickles are never read)", got, _REMEDY)
    try:
        header = json.loads(file.read(length), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(where, "a JSON header that names each tensor once", str(error), _REMEDY) from error
    if not isinstance(header, dict):
        raise CheckpointError(where, "a JSON object as header", type(header).__name__, _REMEDY)
    return header, _LENGTH_BYTES + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{name!r} twice")
        values[name] = value
    return values


def _named(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, dict) else dict(zip(_FIELDS, entry, strict=True))


def _bytes(tensor: Tensor) -> bytes:
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _write(out: Any, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def _copy_range(source: Any, out: Any, start: int, length: int) -> None:
    """Append bytes of one open file to another.

    The new header moves all bytes against the pages of the file, so the kernel's own copying (copy_file_range, sendfile) is
    slower than this.
    """
    buffer = memoryview(bytearray(min(length, _BUFFER_BYTES)))
    source.seek(start)
    while length:
        moved = source.readinto(buffer[:length])
        if not moved:
            raise OSError(errno.EIO, "the source shrank while it was read")
        _write(out, buffer[:moved])
        length -= moved
