"""The public record of an encryption: everything about it but the key, as JSON in configs and checkpoint headers.

Source: docs/format.md, record versions 1 to 3.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from timm_encmixer.errors import SchemeError

RECORD_VERSIONS = (1, 2, 3)
NOTE_PREFIX = "encmixer:"  # of the note in `pretrained_cfg["notes"]` in which a record rides (docs/adr/0003)
_SINCE = {"constant": 2, "grid": 3, "positions": 3}  # fields that readers of earlier versions do not know
CIPHERS = ("shuffle", "negpos", "shuffle+negpos", "orthogonal")  # of one block
SCRAMBLE = "scramble"  # of the blocks among each other
SCRAMBLING_CIPHERS = (SCRAMBLE, *(f"{cipher}+{SCRAMBLE}" for cipher in CIPHERS))
DEFAULT_CIPHER = "shuffle+negpos"
PATCH_PX = range(2, 33)
_LARGEST_IMAGE = 2**28  # numbers
_MOST_BLOCKS = 2**20
_REMEDY = "take the record from an artefact that timm-encmixer wrote"
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def parts_of(cipher: str) -> tuple[str, ...]:
    """Return the parts of a cipher's name, in the order in which they are applied: of "shuffle+negpos" both.

    Raises:
        SchemeError: This is no name.
    """
    if not isinstance(cipher, str):
        expected = f"one of {', '.join((*CIPHERS, *SCRAMBLING_CIPHERS))}"
        raise SchemeError("cipher", expected, repr(cipher), "choose one of these")
    return tuple(cipher.split("+"))


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the plain model wants its images; the client does this before it encrypts.

    Args:
        input_size: Channels, height and width of the plain model's input; height and width in pixels.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1], greater than 0.
        interpolation: timm's name of the resampling filter.
        crop_pct: Share of the resized image's side that the centre crop keeps, in (0, 1].
        crop_mode: timm's name of the crop mode.
        test_input_size: Larger size recommended for evaluation, if the plain model has one.
        test_crop_pct: The crop share that belongs to it.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    test_input_size: tuple[int, int, int] | None = None
    test_crop_pct: float | None = None

    def __post_init__(self) -> None:
        for name in ("input_size", "test_input_size"):
            value = getattr(self, name)
            if value is not None:
                value = tuple(value)
                object.__setattr__(self, name, value)
                if len(value) != 3 or not all(isinstance(side, int) and 0 < side <= 65536 for side in value):
                    raise SchemeError(f"record: plain.{name}", "channels, height and width", repr(value), _REMEDY)
        for name, kind in (("interpolation", str), ("crop_mode", str), ("crop_pct", (int, float))):
            if not isinstance(getattr(self, name), kind):
                raise SchemeError(f"record: plain.{name}", "timm's value for it", repr(getattr(self, name)), _REMEDY)
        if not 0 < self.crop_pct <= 1:
            raise SchemeError("record: plain.crop_pct", "a share in (0, 1]", repr(self.crop_pct), _REMEDY)
        if math.prod(self.input_size) / self.crop_pct**2 > _LARGEST_IMAGE:  # anybody's record may ask for anything
            got = f"{' x '.join(map(str, self.input_size))} / {self.crop_pct}"
            raise SchemeError("record: plain.input_size", f"up to {_LARGEST_IMAGE} values before the crop", got, _REMEDY)
        for name, low in (("mean", -math.inf), ("std", 0.0)):
            value = tuple(float(number) for number in getattr(self, name))
            object.__setattr__(self, name, value)
            if len(value) != self.input_size[0] or not all(math.isfinite(number) and number > low for number in value):
                expected = f"{self.input_size[0]} finite numbers" + (" above 0" if name == "std" else "")
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
        cipher: One of `CIPHERS` or, for models that can take it, `SCRAMBLING_CIPHERS`.
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

    cipher: str = DEFAULT_CIPHER
    patch_size: int
    in_chans: int = 3
    fingerprint: str | None = None
    stem: str | None = None
    constant: str | None = None
    grid: tuple[int, int] | None = None
    positions: str | None = None
    base_architecture: str | None = None
    plain: Preprocessing | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        needed = max((since for name, since in _SINCE.items() if getattr(self, name) is not None), default=1)
        if self.version not in (None, needed):
            raise SchemeError("record: version", f"{needed}, as its fields need", repr(self.version), "upgrade timm-encmixer")
        object.__setattr__(self, "version", needed)
        for name in ("constant", "positions"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                raise SchemeError(f"record: {name}", "a tensor's name", repr(getattr(self, name)), _REMEDY)
        if self.cipher not in (*CIPHERS, *SCRAMBLING_CIPHERS):
            expected = f"one of {', '.join((*CIPHERS, *SCRAMBLING_CIPHERS))}"
            raise SchemeError("cipher", expected, repr(self.cipher), "choose one of these")
        self._check_grid()
        if type(self.patch_size) is not int or self.patch_size not in PATCH_PX:
            expected = f"a whole number from {PATCH_PX.start} to {PATCH_PX.stop - 1}"
            raise SchemeError("patch_size", expected, repr(self.patch_size), "give the stem kernel's side in pixels")
        if type(self.in_chans) is not int or not 0 < self.in_chans <= 1024:
            raise SchemeError("in_chans", "a whole number from 1 to 1024", repr(self.in_chans), "give the image's channels")
        if self.fingerprint is not None and not (
            isinstance(self.fingerprint, str) and _FINGERPRINT.fullmatch(self.fingerprint)
        ):
            raise SchemeError("record: fingerprint", "16 hex digits", "something else", _REMEDY)
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
            raise SchemeError("grid", f"rows and columns for the cipher {self.cipher}", "none", remedy)
        grid = tuple(self.grid) if isinstance(self.grid, (tuple, list)) else ()
        if (
            len(grid) != 2
            or not all(type(side) is int and 0 < side <= 65536 for side in grid)
            or math.prod(grid) > _MOST_BLOCKS
        ):
            expected = f"two whole numbers from 1, {_MOST_BLOCKS} blocks at most"
            raise SchemeError("record: grid", expected, repr(self.grid), _REMEDY)
        object.__setattr__(self, "grid", grid)

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
        if record.get("version") not in RECORD_VERSIONS:
            got, expected = repr(record.get("version")), f"{RECORD_VERSIONS[0]} to {RECORD_VERSIONS[-1]}"
            raise SchemeError(f"{where}: version", expected, got, "upgrade timm-encmixer")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(record) - known)
        if unknown:
            raise SchemeError(where, f"the fields {', '.join(sorted(known))}", repr(unknown[0]), _REMEDY)
        values = dict(record)
        try:
            if values.get("plain") is not None:
                values["plain"] = Preprocessing(**values["plain"])
            return cls(**values)
        except SchemeError:
            raise
        except (TypeError, ValueError) as error:
            raise SchemeError(where, "a complete record", "missing, unknown or mistyped fields", _REMEDY) from error

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


def scheme_in_notes(notes: Iterable[Any] | None) -> Scheme | None:
    """Return the record among the notes of a timm `pretrained_cfg`, None when there is none.

    Raises:
        SchemeError: It is malformed or of an unknown version.
    """
    for note in notes or ():
        if isinstance(note, str) and note.startswith(NOTE_PREFIX):
            return Scheme.from_json(note.removeprefix(NOTE_PREFIX), where="pretrained_cfg notes")
    return None
