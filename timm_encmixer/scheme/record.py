"""The public record of an encryption: everything about it but the key, as JSON in configs and checkpoint headers.

Source: docs/format.md, record versions 1 to 5.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from msgspec import Meta

from timm_encmixer.errors import SchemeError
from timm_encmixer.schema import check_fields
from timm_encmixer.scheme.cipher_facts import DEFAULT_CIPHER, CipherFacts, facts_of
from timm_encmixer.scheme.preprocessing import RECORD_REMEDY, Preprocessing, Side

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECORD_VERSIONS = (1, 2, 3, 4, 5)
NOTE_PREFIX = "encmixer:"  # of the note in `pretrained_cfg["notes"]` in which a record rides (docs/adr/0003)
PATCH_PX = range(2, 33)
MID_GREY = 0.5  # what ciphers invert about; mean and std of ciphertext
_SINCE = {"constant": 2, "grid": 3, "positions": 3}  # fields that readers of earlier versions do not know
_LARGEST_BLOCK = _MOST_BLOCKS = 2**18  # numbers in a block, blocks in an image: some tenths of a second to permute
_LARGEST_MATRIX = 4096  # rows of an orthogonal matrix: some seconds to make, 128 MiB
T = TypeVar("T", bound="DataclassInstance")
_Name = Annotated[str, Meta(min_length=1, max_length=1024)]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The public parameters of an encryption: enough to encrypt images for a model, given the key.

    Args:
        cipher: One of `CIPHERS`. Those of `SCRAMBLING_CIPHERS` are for models that can take them. Those of `JPEG_CIPHERS` need
            blocks whose side is a multiple of 8 px.
        patch_size: Side of a block and of the stem's kernel, in pixels, 2 to 32.
        in_chans: Channels of an image, 1 or more.
        fingerprint: The key's public fingerprint, 16 hex digits; None allows any key (experiments).
        stem: Name of the stem convolution in the model, for example "stem.0".
        constant: Name of the tensor that took the constant of the normalisation. None if the stem has a bias, which then
            takes it, or if the constant is zero. A record with it is of version 2 at least.
        grid: Rows and columns of blocks of an image, for ciphers that scramble blocks and for no others; images then have
            this one size. A record with it is of version 3.
        positions: Name of the position embedding that was permuted with the blocks, where a model was encrypted.
        base_architecture: timm's name of the plain architecture.
        plain: The plain model's preprocessing, None where only blocks are of interest.
        version: Version of this record's format; None takes the lowest that has its fields.

    Raises:
        SchemeError: A value is out of range or of an unknown version.

    Examples:
        >>> scheme = te.Scheme(cipher="shuffle", patch_size=4)
        >>> scheme.block_size, scheme.exact
        (48, True)
    """

    cipher: Annotated[str, Meta(description="a cipher's name")] = DEFAULT_CIPHER
    patch_size: Annotated[int, Meta(ge=PATCH_PX.start, le=PATCH_PX.stop - 1, description="a whole number from 2 to 32")]
    in_chans: Annotated[int, Meta(ge=1, le=1024, description="a whole number from 1 to 1024")] = 3
    fingerprint: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")] | None, Meta(description="16 hexadecimal digits")
    ] = None
    stem: Annotated[_Name | None, Meta(description="a module's name")] = None
    constant: Annotated[_Name | None, Meta(description="a tensor's name")] = None
    grid: Annotated[tuple[Side, Side] | None, Meta(description="two whole numbers from 1 to 65536")] = None
    positions: Annotated[_Name | None, Meta(description="a tensor's name")] = None
    base_architecture: Annotated[_Name | None, Meta(description="a name of timm's")] = None
    plain: Annotated[Preprocessing | None, Meta(description="the plain model's preprocessing")] = None
    version: Annotated[int | None, Meta(description="a whole number")] = None

    def __post_init__(self) -> None:
        check_fields(self, where="record: ", error=SchemeError, remedy=RECORD_REMEDY)
        facts = self._known_cipher()
        needed = max([facts.since, *(since for name, since in _SINCE.items() if getattr(self, name) is not None)])
        if self.version not in (None, needed):
            raise SchemeError("record: version", f"{needed}, as its fields need", repr(self.version), "upgrade timm-encmixer")
        object.__setattr__(self, "version", needed)
        if not facts.fits(self.patch_size):
            expected = f"a multiple of {facts.side_multiple} px for the cipher {self.cipher}"
            remedy = "choose another cipher, or a model that `encmixer models --etc` lists"
            raise SchemeError("record: patch_size", expected, f"{self.patch_size} px", remedy)
        if self.constant is not None and facts.keeps_normalisation:
            expected = f"none for the cipher {self.cipher}, which leaves no constant"
            raise SchemeError("record: constant", expected, repr(self.constant), RECORD_REMEDY)
        self._check_grid()
        largest = _LARGEST_BLOCK if self.exact else _LARGEST_MATRIX
        if self.block_size > largest:  # anybody's record may ask for anything
            got = f"{self.in_chans} x {self.patch_size} x {self.patch_size}"
            raise SchemeError("record: in_chans", f"blocks of up to {largest} numbers for {self.cipher}", got, RECORD_REMEDY)
        if self.plain is not None and self.plain.input_size[0] != self.in_chans:
            got = f"{self.plain.input_size[0]}"
            raise SchemeError("record: plain.input_size", f"{self.in_chans} channels as in in_chans", got, RECORD_REMEDY)

    def _known_cipher(self) -> CipherFacts:
        try:
            return facts_of(self.cipher)
        except SchemeError as error:
            raise SchemeError("record: cipher", error.expected, error.got, error.remedy) from None

    def _check_grid(self) -> None:
        if self.grid is None and self.positions is None and not self.scrambles:
            return
        if not self.scrambles:
            raise SchemeError("record: grid", f"none for the cipher {self.cipher}", repr(self.grid), RECORD_REMEDY)
        if self.grid is None:
            remedy = "give rows and columns of blocks: height / patch_size and width / patch_size"
            raise SchemeError("record: grid", f"rows and columns for the cipher {self.cipher}", "none", remedy)
        if math.prod(self.grid) > _MOST_BLOCKS:
            raise SchemeError("record: grid", f"{_MOST_BLOCKS} blocks at most", repr(self.grid), RECORD_REMEDY)

    @property
    def facts(self) -> CipherFacts:
        """What is known of the cipher."""
        return facts_of(self.cipher)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the cipher's parts, in the order in which they are applied."""
        return tuple(part.name for part in self.facts.parts)

    @property
    def block_size(self) -> int:
        """Numbers in a block, D = C * P * P."""
        return self.in_chans * self.patch_size**2

    @property
    def scrambles(self) -> bool:
        """Whether the blocks are permuted too, so that images have one size."""
        return self.facts.scrambles

    @property
    def moves(self) -> bool:
        """Whether the numbers of a block change their places."""
        return self.facts.moves

    @property
    def inverts(self) -> bool:
        """Whether some numbers of a block are reflected about mid-grey."""
        return self.facts.inverts

    @property
    def takes_jpeg(self) -> bool:
        """Whether ciphertext may be compressed as JPEG: with the loss that the plain image would have."""
        return self.facts.takes_jpeg

    @property
    def exact(self) -> bool:
        """Whether uint8 images stay uint8 and decrypt bit for bit."""
        return self.facts.exact

    @property
    def ciphertext_mean(self) -> tuple[float, ...]:
        """What the encrypted model subtracts from each channel of ciphertext in [0, 1]."""
        return self.plain.mean if self.plain is not None and self.facts.keeps_normalisation else (MID_GREY,) * self.in_chans

    @property
    def ciphertext_std(self) -> tuple[float, ...]:
        """What the encrypted model divides each channel by then."""
        return self.plain.std if self.plain is not None and self.facts.keeps_normalisation else (MID_GREY,) * self.in_chans

    def replace(self, **changes: Any) -> Scheme:
        """Return a copy with some fields changed, checked again."""
        return dataclasses.replace(self, **{"version": None, **changes})

    def without_fingerprint(self) -> Scheme:
        """Return the scheme open to any key: how an experiment uses a wrong key on purpose."""
        return self.replace(fingerprint=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of docs/format.md; fields that are None are left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["plain"] = self.plain.to_dict() if self.plain is not None else None
        values["grid"] = list(self.grid) if self.grid is not None else None
        ordered = {"version": values.pop("version"), **values}
        return {name: value for name, value in ordered.items() if value is not None}

    def to_json(self) -> str:
        """Return the record on one line."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], *, where: str = "record") -> Scheme:
        """Parse a record.

        Raises:
            SchemeError: Unknown version, unknown or missing fields, or values out of range.
        """
        if not isinstance(record, Mapping):
            raise SchemeError(where, "a JSON object", type(record).__name__, RECORD_REMEDY)
        version = record.get("version")
        if type(version) is not int or version not in RECORD_VERSIONS:
            expected = f"{RECORD_VERSIONS[0]} to {RECORD_VERSIONS[-1]}"
            raise SchemeError(f"{where}: version", expected, repr(version), "upgrade timm-encmixer")
        try:
            plain = record.get("plain")
            values = {**record, "plain": plain and _from_fields(Preprocessing, plain, where="record: plain")}
            scheme = _from_fields(cls, values, where="record")
        except SchemeError as error:
            raise SchemeError(where + error.where.removeprefix("record"), error.expected, error.got, error.remedy) from error
        if scheme.fingerprint is None:  # with it a wrong key would go unnoticed
            raise SchemeError(f"{where}: fingerprint", "the key's fingerprint", "none", RECORD_REMEDY)
        return scheme

    @classmethod
    def from_json(cls, text: str, *, where: str = "record") -> Scheme:
        """Parse a record from JSON text.

        Raises:
            SchemeError: As for `from_dict`, or the text is not valid JSON.
        """
        try:
            return cls.from_dict(json.loads(text), where=where)
        except (ValueError, RecursionError) as error:
            if isinstance(error, SchemeError):
                raise
            raise SchemeError(where, "JSON", "text that is not valid JSON", RECORD_REMEDY) from error


def _from_fields(kind: type[T], values: Any, *, where: str) -> T:
    """Make a dataclass of the fields of a JSON object.

    Raises:
        SchemeError: Unknown or missing fields, or values that the class refuses.
    """
    known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise SchemeError(where, "a JSON object", type(values).__name__, RECORD_REMEDY)
    unknown = sorted(set(values) - set(known))
    missing = sorted(name for name, needed in known.items() if needed and name not in values)
    if unknown or missing:
        got = f"{unknown[0]!r}" if unknown else f"no {missing[0]}"
        raise SchemeError(where, f"the fields {', '.join(sorted(known))}", got[:100], RECORD_REMEDY)
    return kind(**values)


def scheme_in_notes(notes: Iterable[Any] | None) -> Scheme | None:
    """Return the record among the notes of a timm `pretrained_cfg`, None when there is none.

    Raises:
        SchemeError: It is malformed or of an unknown version.
    """
    for note in notes if isinstance(notes, (list, tuple)) else ():
        if isinstance(note, str) and note.startswith(NOTE_PREFIX):
            return Scheme.from_json(note.removeprefix(NOTE_PREFIX), where="pretrained_cfg notes")
    return None
