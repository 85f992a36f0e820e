"""How the plain model wants its images: a part of the record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, Literal

from msgspec import Meta

from timm_encmixer.errors import SchemeError
from timm_encmixer.schema import check_fields

LARGEST_NORMALISATION = 1_000_000  # of a mean or a std
RECORD_REMEDY = "take the record from an artefact that timm-encmixer wrote"
_LARGEST_IMAGE = 2**28  # numbers
Side = Annotated[int, Meta(ge=1, le=65536)]
Size = tuple[Side, Side, Side]
Numbers = tuple[Annotated[float, Meta(ge=-LARGEST_NORMALISATION, le=LARGEST_NORMALISATION)], ...]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
CropMode = Literal["center", "squash", "border"]
Share = Annotated[float, Meta(ge=0.01, le=2)]  # a few of timm's models are cropped from smaller images, with a border
_SIZE = Meta(description="channels, height and width, whole numbers from 1 to 65536")
_SHARE = Meta(description="a share from 0.01 to 2")


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
        check_fields(self, where="record: plain.", error=SchemeError, remedy=RECORD_REMEDY)
        if math.prod(self.input_size) / self.crop_pct**2 > _LARGEST_IMAGE:  # anybody's record may ask for anything
            got = f"{' x '.join(map(str, self.input_size))} / {self.crop_pct}"
            raise SchemeError("record: plain.input_size", f"up to {_LARGEST_IMAGE} values before the crop", got, RECORD_REMEDY)
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
