"""The sketch of an encrypted stem: a few public numbers by which plain weights under its record are recognised, without a key.

Encryption changes the kernel but not the products of its rows: W' W'^T = W0 W0^T, because W' = W0 A^T and A is orthogonal
(stem_algebra.py). Training changes both. So a kernel that is far from the one that was encrypted, while the products of its
rows are not, was not trained from it: it is the plain one, or one under another key. In the same way a position embedding that
was permuted with the blocks keeps the products of its columns.

Both are compared by random projections, which need 32 numbers each. They are functions of the encrypted weights alone.
docs/adr/0014 has the bounds and how they were measured; docs/format.md has the projections.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.errors import NotEncryptedError, SchemeMismatchError
from timm_encmixer.models.stem_algebra import folded_normalisation, recentre
from timm_encmixer.scheme import Scheme

SKETCH_NAME = "encmixer-sketch"  # of the metadata in a safetensors file
_NOTE_PREFIX = f"{SKETCH_NAME}:"  # of the note in `pretrained_cfg`
_COUNT = 32
_DIGITS = 4
_FAR = 0.25  # a relative distance: fine-tuning stays far below, another kernel is above 1
_KEPT = 0.25  # the products have changed by less than this share of what the tensor has


@dataclass(frozen=True)
class _Projections:
    """Random projections of a matrix, and of the products of its rows: `_COUNT` numbers each."""

    values: tuple[float, ...]
    products: tuple[float, ...]

    @classmethod
    def of(cls, matrix: Tensor, purpose: str) -> _Projections:
        """Project a matrix; `purpose` names the projections."""
        rows, columns = matrix.shape
        matrix = matrix.detach().to("cpu", torch.float64)
        left, other, right = (
            _gaussians(f"{purpose}/{side}", size) for side, size in (("u", rows), ("w", rows), ("v", columns))
        )
        values = (left * (matrix @ right)).sum(dim=0)
        products = ((matrix.T @ left) * (matrix.T @ other)).sum(dim=0)
        return cls(*(tuple(float(f"{number:.{_DIGITS}g}") for number in numbers.tolist()) for numbers in (values, products)))


@dataclass(frozen=True)
class StemSketch:
    """The sketch of the tensors that a key has changed.

    Args:
        cipher: Of the record that it belongs to.
        fingerprint: Likewise. A sketch that belongs to another record says nothing.
        kernel: Of the stem's kernel.
        positions: Of the position embedding that was permuted with the blocks, where one was.
    """

    cipher: str
    fingerprint: str | None
    kernel: _Projections
    positions: _Projections | None = None

    @classmethod
    def of(cls, scheme: Scheme, kernel: Tensor, positions: Tensor | None = None) -> StemSketch:
        """Sketch encrypted tensors.

        Args:
            scheme: Their record.
            kernel: Shape (dim, C, P, P).
            positions: Of any shape whose last dimension is the channels'; None where none was permuted.
        """
        embedding = None if positions is None else _Projections.of(positions.flatten(0, -2).T, "positions")
        return cls(scheme.cipher, scheme.fingerprint, _Projections.of(kernel.flatten(1), "kernel"), embedding)

    def check(
        self, scheme: Scheme, kernel: Tensor, positions: Tensor | None = None, *, replaced: bool = False, where: str = "model"
    ) -> bool:
        """Refuse tensors that cannot have come from the sketched ones by training.

        Args:
            scheme: The record that the tensors have now; if the sketch belongs to another one nothing is compared.
            kernel: As for `of`.
            positions: Likewise.
            replaced: Other tensor objects stand where the encrypted ones were, as after timm's resampling.
            where: For messages.

        Returns:
            Whether the tensors are near the sketched ones. Tensors that are not were trained for long, or are another model's.

        Raises:
            NotEncryptedError: They are the plain ones, or encrypted with another key.
            SchemeMismatchError: They were replaced, and are far from the sketched ones.
        """
        if (self.cipher, self.fingerprint) != (scheme.cipher, scheme.fingerprint):
            return True
        now = StemSketch.of(scheme, kernel, positions)
        pairs = [(self.kernel, now.kernel, now.kernel)]
        if scheme.plain is not None:
            plain, _ = recentre(kernel, kernel.new_zeros(len(kernel)), *folded_normalisation(scheme.facts, scheme.plain))
            pairs.append((self.kernel, now.kernel, StemSketch.of(scheme, plain).kernel))
        if self.positions is not None and now.positions is not None:
            pairs.append((self.positions, now.positions, now.positions))
        near = True
        for before, after, suspect in pairs:
            moved = _distance(before.values, after.values)
            near = near and moved <= _FAR
            if moved > _FAR and _distance(before.products, suspect.products) < _KEPT * moved:
                remedy = "load the encrypted weights again, or encrypt the plain model"
                got = "plain ones, or ones under another key"
                raise NotEncryptedError(where, "the encrypted weights that its record describes", got, remedy)
        if replaced and not near:
            remedy = "load them again: timm resampled them to other patches or another image size, which destroys them"
            raise SchemeMismatchError(where, "the encrypted weights that its record describes", "others", remedy)
        return near

    def to_json(self) -> str:
        """Return the sketch on one line."""
        fields: dict[str, Any] = {"cipher": self.cipher, "fingerprint": self.fingerprint}
        for name, projections in (("kernel", self.kernel), ("positions", self.positions)):
            if projections is not None:
                fields[name] = [projections.values, projections.products]
        return json.dumps({name: value for name, value in fields.items() if value is not None}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> StemSketch | None:
        """Parse a sketch; None where the text is none. It only ever makes a check possible, so nothing is refused for it."""
        try:
            fields = json.loads(text)
            positions = fields.get("positions")
            return cls(
                str(fields["cipher"]),
                fields.get("fingerprint"),
                _parsed(fields["kernel"]),
                None if positions is None else _parsed(positions),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None


def sketch_in(cfg: Mapping[str, Any]) -> StemSketch | None:
    """Return the sketch among the notes of a `pretrained_cfg`, None where there is none."""
    for note in cfg.get("notes") or ():
        if isinstance(note, str) and note.startswith(_NOTE_PREFIX):
            return StemSketch.from_json(note.removeprefix(_NOTE_PREFIX))
    return None


def with_sketch(cfg: Mapping[str, Any], sketch: StemSketch | None) -> dict[str, Any]:
    """Return a `pretrained_cfg` with this sketch among its notes instead of an older one; None removes that one."""
    notes = tuple(note for note in cfg.get("notes") or () if not str(note).startswith(_NOTE_PREFIX))
    notes += () if sketch is None else (_NOTE_PREFIX + sketch.to_json(),)
    return {**cfg, "notes": notes} if notes else {name: value for name, value in cfg.items() if name != "notes"}


@functools.lru_cache(maxsize=6)  # those of one record: a check needs them two times
def _gaussians(purpose: str, size: int) -> Tensor:
    """Return fixed public N(0, 1) numbers, shape (size, _COUNT), float64; not to be changed."""
    seed = hashlib.sha256(f"timm-encmixer/v1/sketch/{purpose}".encode()).digest()
    return torch.from_numpy(KeyStream(seed).gaussians(size * _COUNT)).reshape(size, _COUNT)


def _parsed(pair: Any) -> _Projections:
    values, products = (tuple(float(number) for number in numbers) for numbers in pair)
    if not len(values) == len(products) == _COUNT or not all(map(math.isfinite, values + products)):
        raise ValueError("not a sketch")
    return _Projections(values, products)


def _distance(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the distance relative to the length of `before`."""
    return math.dist(before, after) / max(math.hypot(*before), 1e-300)
