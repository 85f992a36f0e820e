"""The public record of an encryption: everything about it but the key, as JSON in configs and checkpoint headers.

Source: docs/format.md, record versions 1 to 4.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from msgspec import Meta

from timm_encmixer.errors import SchemeError
from timm_encmixer.schema import check_fields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECORD_VERSIONS = (1, 2, 3, 4)
NOTE_PREFIX = "encmixer:"  # of the note in `pretrained_cfg["notes"]` in which a record rides (docs/adr/0003)
_SINCE = {"constant": 2, "grid": 3, "positions": 3}  # fields that readers of earlier versions do not know
CIPHERS = ("shuffle", "negpos", "shuffle+negpos", "orthogonal")  # of one block
SCRAMBLE = "scramble"  # of the blocks among each other
SCRAMBLING_CIPHERS = (SCRAMBLE, *(f"{cipher}+{SCRAMBLE}" for cipher in CIPHERS))
ETC = "etc"  # of sub-blocks of a block
JPEG_CIPHERS = (ETC, f"{ETC}+{SCRAMBLE}")  # whose ciphertext may travel as JPEG; blocks are multiples of `SUB_BLOCK_PX`
ALL_CIPHERS = (*CIPHERS, *SCRAMBLING_CIPHERS, *JPEG_CIPHERS)
SUB_BLOCK_PX = 8  # side of a block of JPEG's transform
_ETC_SINCE = 4  # version of the record
DEFAULT_CIPHER = "shuffle+negpos"
PATCH_PX = range(2, 33)
LARGEST_NORMALISATION = 1_000_000  # of a mean or a std
_LARGEST_IMAGE = 2**28  # numbers
_LARGEST_BLOCK = _MOST_BLOCKS = 2**18  # numbers in a block, blocks in an image: some tenths of a second to permute
_LARGEST_MATRIX = 4096  # rows of an orthogonal matrix: some seconds to make, 128 MiB
T = TypeVar("T", bound="DataclassInstance")
_REMEDY = "take the record from an artefact that timm-encmixer wrote"


def parts_of(cipher: str) -> tuple[str, ...]:
    """Return the parts of a cipher's name, in the order in which they are applied: of "shuffle+negpos" both.

    Raises:
        SchemeError: This is no name.
    """
    if not isinstance(cipher, str):
        expected = f"one of {', '.join(ALL_CIPHERS)}"
        raise SchemeError("cipher", expected, repr(cipher), "choose one of these")
    return tuple(cipher.split("+"))


_Side = Annotated[int, Meta(ge=1, le=65536)]
Size = tuple[_Side, _Side, _Side]
Numbers = tuple[Annotated[float, Meta(ge=-LARGEST_NORMALISATION, le=LARGEST_NORMALISATION)], ...]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
CropMode = Literal["center", "squash", "border"]
Share = Annotated[float, Meta(ge=0.01, le=2)]  # a few of timm's models are cropped from smaller images, with a border
_SIZE = Meta(description="channels, height and width, whole numbers from 1 to 65536")
_SHARE = Meta(description="a share from 0.01 to 2")
_Name = Annotated[str, Meta(min_length=1, max_length=1024)]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the plain model wants its images; the client does this before it encrypts.

    Args:
        input_size: Channels, height and width of the plain model's input; height and width in pixels.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1], greater than 0.
        interpolation: timm's name of the resampling filter.
        crop_pct: Share of the resized image's side that the centre crop keeps; above 1 a border is added.
        crop_mode: timm's name of the crop mode.
        test_input_size: Larger size recommended for evaluation, if the plain model has one.
        test_crop_pct: The crop share that belongs to it.

    Raises:
        SchemeError: A value is of another type, out of range, or no name of timm's.
    """

    input_size: Annotated[Size, _SIZE]
    mean: Annotated[Numbers, Meta(description="numbers from -1000000 to 1000000")]
    std: Annotated[Numbers, Meta(description="numbers from -1000000 to 1000000")]
    interpolation: Annotated[Interpolation, Meta(description="a filter of timm's")] = "bicubic"
    crop_pct: Annotated[Share, _SHARE] = 0.875
    crop_mode: Annotated[CropMode, Meta(description="a crop mode of timm's")] = "center"
    test_input_size: Annotated[Size | None, _SIZE] = None
    test_crop_pct: Annotated[Share | None, _SHARE] = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # numbers of numpy and torch are numbers too
            if isinstance(value := getattr(self, name), Iterable):
                plain = (float(one) if isinstance(one, Real) and not isinstance(one, (int, float)) else one for one in value)
                object.__setattr__(self, name, tuple(plain))
        check_fields(self, where="record: plain.", error=SchemeError, remedy=_REMEDY)
        if math.prod(self.input_size) / self.crop_pct**2 > _LARGEST_IMAGE:  # anybody's record may ask for anything
            got = f"{' x '.join(map(str, self.input_size))} / {self.crop_pct}"
            raise SchemeError("record: plain.input_size", f"up to {_LARGEST_IMAGE} values before the crop", got, _REMEDY)
        for name, low in (("mean", -math.inf), ("std", 0.0)):
            value = getattr(self, name)
            if len(value) != self.input_size[0] or not all(number > low for number in value):
                expected = f"{self.input_size[0]} numbers" + (" above 0" if name == "std" else "")
                raise SchemeError(f"record: plain.{name}", expected, repr(value), f"give one {name} per input channel")

    def resized(self, input_size: tuple[int, int, int]) -> Preprocessing:
        """Return the preprocessing of the model after it was built for another image size."""
        return dataclasses.replace(self, input_size=input_size, test_input_size=None, test_crop_pct=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; fields that are None are left out."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The public parameters of an encryption: enough to encrypt images for a model, given the key.

    Args:
        cipher: One of `CIPHERS` or, for models that can take it, `SCRAMBLING_CIPHERS`. One of `JPEG_CIPHERS` where blocks are
            multiples of 8 px. Records of these are of version 4.
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
    """

    cipher: Annotated[str, Meta(description="a cipher's name")] = DEFAULT_CIPHER
    patch_size: Annotated[int, Meta(ge=PATCH_PX.start, le=PATCH_PX.stop - 1, description="a whole number from 2 to 32")]
    in_chans: Annotated[int, Meta(ge=1, le=1024, description="a whole number from 1 to 1024")] = 3
    fingerprint: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")] | None, Meta(description="16 hexadecimal digits")
    ] = None
    stem: Annotated[_Name | None, Meta(description="a module's name")] = None
    constant: Annotated[_Name | None, Meta(description="a tensor's name")] = None
    grid: Annotated[tuple[_Side, _Side] | None, Meta(description="two whole numbers from 1 to 65536")] = None
    positions: Annotated[_Name | None, Meta(description="a tensor's name")] = None
    base_architecture: Annotated[_Name | None, Meta(description="a name of timm's")] = None
    plain: Annotated[Preprocessing | None, Meta(description="the plain model's preprocessing")] = None
    version: Annotated[int | None, Meta(description="a whole number")] = None

    def __post_init__(self) -> None:
        check_fields(self, where="record: ", error=SchemeError, remedy=_REMEDY)
        needed = max((since for name, since in _SINCE.items() if getattr(self, name) is not None), default=1)
        needed = _ETC_SINCE if isinstance(self.cipher, str) and ETC in parts_of(self.cipher) else needed
        if self.version not in (None, needed):
            raise SchemeError("record: version", f"{needed}, as its fields need", repr(self.version), "upgrade timm-encmixer")
        object.__setattr__(self, "version", needed)
        if self.cipher not in ALL_CIPHERS:
            expected = f"one of {', '.join(ALL_CIPHERS)}"
            raise SchemeError("record: cipher", expected, repr(self.cipher)[:100], "choose one of these")
        if ETC in self.parts and self.patch_size % SUB_BLOCK_PX:
            expected = f"a multiple of {SUB_BLOCK_PX} px for the cipher {self.cipher}, which moves blocks of JPEG's transform"
            remedy = "choose another cipher, or a model that `encmixer models --etc` lists"
            raise SchemeError("record: patch_size", expected, f"{self.patch_size} px", remedy)
        self._check_grid()
        largest = _LARGEST_BLOCK if self.exact else _LARGEST_MATRIX
        if self.block_size > largest:  # anybody's record may ask for anything
            got = f"{self.in_chans} x {self.patch_size} x {self.patch_size}"
            raise SchemeError("record: in_chans", f"blocks of up to {largest} numbers for {self.cipher}", got, _REMEDY)
        if self.plain is not None and self.plain.input_size[0] != self.in_chans:
            got = f"{self.plain.input_size[0]}"
            raise SchemeError("record: plain.input_size", f"{self.in_chans} channels as in in_chans", got, _REMEDY)

    def _check_grid(self) -> None:
        if self.grid is None and self.positions is None and not self.scrambles:
            return
        if not self.scrambles:
            raise SchemeError("record: grid", f"none for the cipher {self.cipher}", repr(self.grid), _REMEDY)
        if self.grid is None:
            remedy = "give rows and columns of blocks: height / patch_size and width / patch_size"
            raise SchemeError("record: grid", f"rows and columns for the cipher {self.cipher}", "none", remedy)
        if math.prod(self.grid) > _MOST_BLOCKS:
            raise SchemeError("record: grid", f"{_MOST_BLOCKS} blocks at most", repr(self.grid), _REMEDY)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the cipher's name, in the order in which they are applied."""
        return parts_of(self.cipher)

    @property
    def scrambles(self) -> bool:
        """Whether the blocks are permuted too, so that images have one size."""
        return SCRAMBLE in self.parts

    @property
    def block_size(self) -> int:
        """Numbers in a block, D = C * P * P."""
        return self.in_chans * self.patch_size**2

    @property
    def moves(self) -> bool:
        """Whether the numbers of a block change their places."""
        return not {"shuffle", ETC}.isdisjoint(self.parts)

    @property
    def inverts(self) -> bool:
        """Whether some numbers of a block are reflected about mid-grey."""
        return not {"negpos", ETC}.isdisjoint(self.parts)

    @property
    def takes_jpeg(self) -> bool:
        """Whether ciphertext may be compressed as JPEG: with the loss that the plain image would have."""
        return ETC in self.parts

    @property
    def exact(self) -> bool:
        """Whether uint8 images stay uint8 and decrypt bit for bit."""
        return "orthogonal" not in self.parts

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
            raise SchemeError(where, "a JSON object", type(record).__name__, _REMEDY)
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
            raise SchemeError(f"{where}: fingerprint", "the key's fingerprint", "none", _REMEDY)
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
            raise SchemeError(where, "JSON", "text that is not valid JSON", _REMEDY) from error


def _from_fields(kind: type[T], values: Any, *, where: str) -> T:
    """Make a dataclass of the fields of a JSON object.

    Raises:
        SchemeError: Unknown or missing fields, or values that the class refuses.
    """
    known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise SchemeError(where, "a JSON object", type(values).__name__, _REMEDY)
    unknown = sorted(set(values) - set(known))
    missing = sorted(name for name, needed in known.items() if needed and name not in values)
    if unknown or missing:
        got = f"{unknown[0]!r}" if unknown else f"no {missing[0]}"
        raise SchemeError(where, f"the fields {', '.join(sorted(known))}", got[:100], _REMEDY)
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
