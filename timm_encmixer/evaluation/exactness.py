"""Whether an encrypted model computes what the plain one does: logits side by side, against the plain model's rounding."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from timm_encmixer.checkpoints.loading import ModelLike, load_model
from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import AlreadyEncryptedError, DataError, NotEncryptedError, SourceError
from timm_encmixer.evaluation.columns import text_table
from timm_encmixer.evaluation.depthwise import ShiftedDepthwise
from timm_encmixer.evaluation.threads import threads_for
from timm_encmixer.images.encryption import open_folder
from timm_encmixer.images.tensors import cipher_input, normalised_plain
from timm_encmixer.images.transform import ClientTransform
from timm_encmixer.keys import KeyLike
from timm_encmixer.models.record import check_stem, scheme_of
from timm_encmixer.models.wrappers import unwrapped
from timm_encmixer.scheme import Preprocessing

TOLERANCE = 2.0  # times the plain model's own rounding error
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
POWER = {"fp32": 100.0, "bf16": 5.0, "fp16": 20.0}  # times that error: by so much the logits of images must differ at least
EXACT, DIFFERS, CANNOT_TELL = "exact", "differs", "cannot tell"
_DRAWN = 8  # images


@dataclass
class Verification:
    """The comparison with the plain model computed in float64.

    Args:
        images: How many were compared.
        noise_floor: max |plain(precision) - plain(fp64)| over all logits and both memory formats: the plain model's own error.
        max_logit_difference: max |encrypted(precision) - plain(fp64)| over all logits.
        changed_top1: Images whose first class is another one.
        spread: Standard deviation of the plain logits over images; a constant output would prove nothing.
        precision: One of `PRECISIONS`.
        rows: Per image: name, plain and encrypted first class with their logits, and the largest difference.
        drawn: How many of the images were drawn at random, because the given ones could not have told a wrong model.
        stem_is_near: False where the encrypted stem is far from the one that was encrypted, by the sketch that it carries.
    """

    images: int
    noise_floor: float
    max_logit_difference: float
    changed_top1: int
    spread: float
    precision: str = "fp32"
    rows: list[dict[str, Any]] = field(default_factory=list)
    drawn: int = 0
    stem_is_near: bool = True

    @property
    def has_power(self) -> bool:
        """Whether the plain logits differ enough from image to image for a wrong model to be told from the right one."""
        return self.spread >= POWER[self.precision] * self.noise_floor and self.spread > 0

    @property
    def verdict(self) -> str:
        """EXACT, DIFFERS or CANNOT_TELL.

        "Differs" is beyond `TOLERANCE` times the noise floor, or, in fp32, a changed top-1 (bf16 changes the plain one's too).
        Nothing can be told where the images have no power, or the stem's sketch speaks against what the logits say.
        """
        same = self.changed_top1 == 0 or self.precision != "fp32"
        if not (same and self.max_logit_difference <= TOLERANCE * self.noise_floor):
            return DIFFERS
        return EXACT if self.has_power and self.stem_is_near else CANNOT_TELL

    @property
    def holds(self) -> bool:
        """Whether the verdict is EXACT."""
        return self.verdict == EXACT

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `encmixer model verify --json`."""
        return {**_finite(asdict(self)), "tolerance": TOLERANCE, "verdict": self.verdict, "holds": self.holds}


def _finite(value: Any) -> Any:
    """Return a value for JSON, which has no numbers that are not finite: null in their place."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify(
    plain: ModelLike,
    encrypted: ModelLike,
    key: KeyLike,
    images: Sequence[tuple[str, Image.Image] | Image.Image] | str | os.PathLike[str],
    *,
    batch_size: int = 4,
    precision: str = "fp32",
    progress: bool = True,
) -> Verification:
    """Compare an encrypted model on encrypted images with the plain model on plain images.

    Images whose plain logits hardly differ could not tell a wrong model: one image, equal ones, or all images where the model
    ignores what it sees. Then some images are drawn at random and compared too.

    Args:
        plain: The plain model or its source, in fp32; both models are on one device, and are put in evaluation mode.
        encrypted: The encrypted model or its source.
        key: Its key or the key's file.
        images: PIL images, or names with them, or a folder. A maximum over a few dozen is steadier than one over three.
        batch_size: Images at a time.
        precision: One of `PRECISIONS`; bf16 and fp16 compute under torch's autocast, as mixed precision does.
        progress: Show a progress bar on a terminal.

    Raises:
        AlreadyEncryptedError, NotEncryptedError: The first model is encrypted, or the second one is plain.
        KeyMismatchError: The encrypted model has another key.
        DataError, ImageError: There are no images, or one cannot be used.
        SourceError: A source names no model, or the two models are of two architectures, or do not answer alike.

    Examples:
        >>> photos = te.images.open_folder("photos")
        >>> te.verify("plain", "encrypted", "owner.key", photos, progress=False).holds
        True
    """
    images = _named(images)
    plain, encrypted = load_model(plain), load_model(encrypted)
    remedy = "give the plain model first, the encrypted one second"
    if scheme_of(plain) is not None:
        raise AlreadyEncryptedError("first model", "a plain model", "an encrypted one", remedy)
    if scheme_of(encrypted) is None:
        raise NotEncryptedError("second model", "an encrypted model with its record", "a plain one", remedy)
    scheme = find_scheme(encrypted)
    _check_same_architecture(plain, encrypted)
    transform = ClientTransform(BlockCipher(key, scheme))
    assert scheme.plain is not None  # ClientTransform has seen to it
    near = check_stem(unwrapped(encrypted), scheme)
    comparison = _Comparison(plain, encrypted, transform, scheme.plain, precision, stem_is_near=near)
    bar = tqdm(total=len(images), desc="verifying", unit="image", disable=None if progress else True)
    with bar, threads_for(scheme.plain.input_size), torch.inference_mode():
        for more in (images, _drawn_images(scheme.plain)):
            for start in range(0, len(more), batch_size):
                chunk = more[start : start + batch_size]
                comparison.add(chunk)
                bar.update(len(chunk))
            if comparison.result.has_power:
                break
            comparison.result.drawn = _DRAWN if more is images else comparison.result.drawn
    return comparison.result


class _Comparison:
    """Adds images to a verification.

    Args:
        plain, encrypted: The models.
        transform: The client's, for the key.
        preprocessing: The plain model's.
        precision: One of `PRECISIONS`.
        stem_is_near: As in the result.
    """

    def __init__(
        self,
        plain: nn.Module,
        encrypted: nn.Module,
        transform: ClientTransform,
        preprocessing: Preprocessing,
        precision: str,
        *,
        stem_is_near: bool,
    ) -> None:
        self._plain, self._encrypted, self._transform = plain, encrypted, transform
        self._preprocessing = preprocessing
        self._exact = copy.deepcopy(plain).double()
        self._device = next(plain.parameters()).device
        reduced = precision != "fp32"
        self._autocast = functools.partial(torch.autocast, self._device.type, PRECISIONS[precision], enabled=reduced)
        self._reference: list[Tensor] = []
        self.result = Verification(0, 0.0, 0.0, 0, 0.0, precision, stem_is_near=stem_is_near)

    def add(self, images: Sequence[tuple[str, Image.Image]]) -> None:
        """Compare some images."""
        result = self.result
        pixels = torch.stack([self._transform.preprocess(image) for _, image in images]).to(self._device)
        with ShiftedDepthwise():
            truth = self._exact(normalised_plain(pixels, self._preprocessing, torch.float64))
        with self._autocast():
            rounded = _in_both_layouts(self._plain, normalised_plain(pixels, self._preprocessing))
            got = self._encrypted(cipher_input(self._transform.cipher, pixels)).double()
        if got.shape != truth.shape:
            expected, remedy = f"logits of shape {tuple(truth.shape)}", "compare a model with its own plain one"
            raise SourceError("encrypted model", expected, f"{tuple(got.shape)}", remedy)
        result.images += len(images)
        result.noise_floor = max(result.noise_floor, *(float((logits - truth).abs().max()) for logits in rounded))
        difference = float((got - truth).abs().nan_to_num(nan=float("inf")).max())
        result.max_logit_difference = max(result.max_logit_difference, difference)
        result.changed_top1 += int((got.argmax(1) != truth.argmax(1)).sum())
        self._reference.append(truth)
        if result.images > 1:
            result.spread = float(torch.cat(self._reference).std(dim=0).mean())
        for (name, _), want, have in zip(images, truth, got, strict=True):
            result.rows.append(
                {
                    "image": name,
                    "plain_top1": int(want.argmax()),
                    "plain_logit": float(want.max()),
                    "encrypted_top1": int(have.argmax()),
                    "encrypted_logit": float(have.max()),
                    "max_difference": float((have - want).abs().max()),
                }
            )


def _drawn_images(preprocessing: Preprocessing) -> list[tuple[str, Image.Image]]:
    """Return images that differ from each other as much as images can: flat colours, a few large patches, and noise."""
    channels, height, width = preprocessing.input_size
    random = np.random.default_rng(0)
    found = []
    for index in range(_DRAWN):
        cells = (1, 4, height)[index % 3]
        coarse = random.integers(0, 256, (cells, cells, channels), dtype=np.uint8)
        rows, columns = (np.arange(side) * cells // side for side in (height, width))
        pixels = coarse[rows][:, columns]
        found.append((f"drawn {index}", Image.fromarray(pixels.squeeze() if channels == 1 else pixels)))
    return found


def _named(images: Any) -> list[tuple[str, Image.Image]]:
    """Return images with names: those of a folder, those that were given, or numbers."""
    if isinstance(images, (str, os.PathLike)):
        return open_folder(images)
    found = [(f"{index}", one) if isinstance(one, Image.Image) else one for index, one in enumerate(images)]
    if not found:
        raise DataError("images", "at least one image", "none", "give a folder with images")
    if not all(isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], Image.Image) for one in found):
        raise DataError("images", "PIL images, or names with them", "others", "give a folder, or a list of PIL images")
    return found


def _check_same_architecture(plain: nn.Module, encrypted: nn.Module) -> None:
    """Refuse two models whose parameters have other shapes: encryption changes numbers, and nothing else."""
    pair = itertools.zip_longest(plain.named_parameters(), encrypted.named_parameters(), fillvalue=("", None))
    for (name, one), (other_name, other) in pair:
        if one is None or other is None or one.shape != other.shape:
            expected, got = (
                f"{type(unwrapped(model)).__name__} with "
                + ("no more parameters" if parameter is None else f"{parameter_name} of shape {tuple(parameter.shape)}")
                for model, parameter_name, parameter in ((plain, name, one), (encrypted, other_name, other))
            )
            remedy = "the two are of two architectures: compare a model with its own plain one"
            raise SourceError("encrypted model", f"the plain model's architecture, {expected}", got, remedy)


def _in_both_layouts(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the logits from both memory formats: two samples of the same rounding error, for a floor from few images."""
    return [
        model(images.contiguous(memory_format=layout)).double() for layout in (torch.contiguous_format, torch.channels_last)
    ]


_VERDICTS = {
    EXACT: "exact: the encrypted model computes what the plain one does",
    DIFFERS: "NOT exact",
    CANNOT_TELL: "CANNOT TELL: the plain model answers all images alike, or the stem is not the one that was encrypted",
}


def verification_table(result: Verification, *, rows: int = 10) -> str:
    """Return a verification as lines of text, with the first `rows` images."""
    cells = [("image", "plain", "logit", "encrypted", "logit", "max |delta|")]
    for row in result.rows[:rows]:
        plain = (f"{row['plain_top1']}", f"{row['plain_logit']:.5f}")
        encrypted = (f"{row['encrypted_top1']}", f"{row['encrypted_logit']:.5f}")
        cells.append((row["image"][-32:], *plain, *encrypted, f"{row['max_difference']:.2e}"))
    lines = text_table(cells, indent="  ")
    if len(result.rows) > rows:
        lines.append(f"  ... and {len(result.rows) - rows} more")
    ratio = result.max_logit_difference / result.noise_floor if result.noise_floor else float("inf")
    lines += [
        f"images {result.images}, changed top-1 {result.changed_top1}, spread of plain logits {result.spread:.3g}",
        f"max |delta logit| {result.max_logit_difference:.2e}, {result.precision} noise floor {result.noise_floor:.2e}, "
        f"ratio {ratio:.2f} (at most {TOLERANCE})",
        _VERDICTS[result.verdict],
    ]
    if result.drawn:
        lines.insert(-1, f"{result.drawn} of the images were drawn here: the given ones could not have told a wrong model")
    if not result.stem_is_near:
        lines.insert(-1, "the encrypted stem is far from the one that was encrypted (docs/training.md)")
    return "\n".join(lines)
