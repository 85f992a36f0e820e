"""A cipher under attack without a model: any function of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timm_encmixer.audit.material import MATERIAL
from timm_encmixer.audit.methods.block_map import unit
from timm_encmixer.audit.target import Target
from timm_encmixer.audit.visual_similarity import likeness
from timm_encmixer.errors import AuditError
from timm_encmixer.scheme import Preprocessing, Scheme

Array = NDArray[Any]
_NARROW = 0.5  # a smaller range of values is not that of pictures in [0, 1]
_BEYOND = 0.8  # how far pictures in [0, 1] may leave that range
_BYTES_FROM = 16.0
_SMALLEST = 1e-30
_DECRYPTED = 24  # images that a cipher's own decryption is tried on
Convert = Callable[[Array], Array]
_OF_MODELS = ("scrambled", "block_key", "keys_in_part", "encrypted_model", "base_model", "features", "other_model")


@dataclass(kw_only=True)
class CipherTarget(Target):
    """A function of images, and the images that it encrypts.

    Args:
        function: Takes uint8 images (N, H, W, C); returns uint8 or floats (N, h, w, c).
        function_name: For reports.
        block: Side in px of the blocks that attackers take it to work on.
        preprocessing: Size of the images; mean and std of the plain model, if there is one.
        factory: Makes such a function of a key of 32 bytes; None where attackers cannot have one.
    """

    function: Convert
    function_name: str
    block: int
    preprocessing: Preprocessing
    factory: Callable[[bytes], Convert] | None = None

    @property
    def cipher(self) -> str:
        """Name of the function."""
        return self.function_name

    @property
    def patch_size(self) -> int:
        """Side of a block in px."""
        return self.block

    @property
    def plain(self) -> Preprocessing:
        """Size of the images, and the plain model's normalisation."""
        return self.preprocessing

    def __post_init__(self) -> None:
        first = converted(self.function, self.images, self.function_name)
        self._range = _usual_range(first)
        self._shape = first.shape[1:]
        self.ciphertexts = self._scaled(first) if self.ciphertexts is None else self.ciphertexts
        super().__post_init__()

    def encrypt(self, images: Tensor) -> Tensor:
        """Return the ciphertexts of uint8 images (N, C, H, W) as floats, scaled as anybody who sees them would.

        Raises:
            AuditError: The function fails, or returns no images, or images of another shape than before.
        """
        made = converted(self.function, images, self.function_name)
        if made.shape[1:] != self._shape:
            got = f"{tuple(made.shape[1:])} after {tuple(self._shape)}, as (c, h, w)"
            raise AuditError(self.function_name, "ciphertexts of one shape", got, "correct the function")
        return self._scaled(made)

    def _scaled(self, ciphertexts: Tensor) -> Tensor:
        low, high = self._range
        return (ciphertexts - low) / (high - low)

    def scheme_for(self, assumed: str) -> Scheme:
        """Return the record that an attacker assumes. They are told the side of a block and nothing else."""
        channels = self.preprocessing.input_size[0]
        return Scheme(cipher=assumed, patch_size=self.block, in_chans=channels, plain=self.preprocessing)

    def lacks(self, name: str) -> bool:
        """Whether this material is missing: all material of a model is."""
        return name in _OF_MODELS or (MATERIAL[name].optional and self.give(name, {}) is None)

    def _give_own_ciphers(self, setting: Mapping[str, float]) -> Callable[[int], Callable[[Tensor], Tensor]] | None:
        if self.factory is None:
            return None
        factory, name, seed = self.factory, self.function_name, self.seed

        def own(index: int) -> Callable[[Tensor], Tensor]:
            function = factory(own_key(seed, index))
            return lambda images: self._scaled(converted(function, images, name))

        return own


def own_key(seed: int, index: int) -> bytes:
    """Return a public key of 32 bytes: number 0 is under attack, from 1 on they are keys of the attacker's own."""
    return hashlib.sha256(f"timm-encmixer/audit-cipher/{seed}/{index}".encode()).digest()


def converted(function: Convert, images: Tensor, name: str) -> Tensor:
    """Return what a function makes of uint8 images (N, C, H, W), as floats (N, c, h, w); bytes are divided by 255.

    Raises:
        AuditError: It fails, or returns no images.
    """
    try:
        made = function(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, which would end the audit as if all were well
        got = f"{type(error).__name__}: {error}"[:200]
        raise AuditError(
            name, "a function of uint8 images (N, H, W, C)", got, "correct the function; see also `keyed`"
        ) from error
    if not isinstance(made, np.ndarray) or made.ndim != 4 or len(made) != len(images):
        got = f"shape {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
        remedy = "return an array of images; say `keyed` of a function of keys"
        raise AuditError(name, f"an array ({len(images)}, h, w, c) for {len(images)} images", got, remedy)
    if made.dtype != np.uint8:
        made = _as_float32(made, name)
    tensor = torch.from_numpy(np.ascontiguousarray(made.transpose(0, 3, 1, 2)))
    return unit(tensor).float()


def _as_float32(made: Array, name: str) -> Array:
    """Return floats as float32.

    Raises:
        AuditError: They are not floats, or not finite.
    """
    expected, remedy = "uint8 or finite floats of at most 32 bits", "return one of these"
    if not np.issubdtype(made.dtype, np.floating):
        raise AuditError(name, expected, str(made.dtype), remedy)
    with np.errstate(over="ignore"):
        single = made.astype(np.float32)
    if not np.isfinite(single).all():
        raise AuditError(name, expected, "numbers that are not finite", remedy)
    return single


def _usual_range(ciphertexts: Tensor) -> tuple[float, float]:
    """Return what stands for black and white: 0 and 1, 0 and 255 or -1 and 1 where that fits, else the ends of the range."""
    low, high = float(ciphertexts.min()), float(ciphertexts.max())
    if high - low > _NARROW:
        if low >= -_BEYOND and high <= 1 + _BEYOND:
            return 0.0, 1.0
        if low >= -1 and high <= 1:
            return -1.0, 1.0
        if low >= 0 and high <= 255 and high > _BYTES_FROM:
            return 0.0, 255.0
    return low, max(high, low + _SMALLEST)


def decrypted_psnr_db(function: Convert, inverse: Convert, images: Tensor) -> float:
    """Return how near decrypted ciphertexts are to uint8 images (N, C, H, W): mean PSNR in dB, 100 where they are equal."""
    some = images[:_DECRYPTED]
    made = converted(lambda pixels: inverse(function(pixels)), some, "decrypt")
    if made.shape != some.shape:
        got = f"shape {tuple(made.shape[1:])} for images of {tuple(some.shape[1:])}"
        raise AuditError("decrypt", "images of the plain ones' size", got, "correct the function")
    return likeness(made, unit(some)).psnr_db
