"""The client's side: from a PIL image to ciphertext. The server's side is timm's own `create_transform`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform as create_timm_transform
from timm.data.transforms import MaybePILToTensor
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from timm_encmixer.checkpoints.loading import find_scheme
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import ImageError, SchemeError, SchemeMismatchError
from timm_encmixer.images.image_record import ImageRecord, attach_record, refuse_ciphertext
from timm_encmixer.images.reading import to_channels
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.models.stem_algebra import MID_GREY
from timm_encmixer.scheme import Preprocessing, Scheme

OUTPUTS = ("input", "image", "uint8")


def create_transform(
    target: nn.Module | Scheme | str | os.PathLike[str],
    *,
    key: KeyLike | None = None,
    output: str = "input",
) -> ClientTransform:
    """Return the client's transform: the plain model's preprocessing, then the cipher.

    Args:
        target: An encrypted model, a Scheme, "hf-hub:owner/name[@revision]" (only config.json is read), or a folder.
        key: The key, its file, or None for the file that TIMM_ENCMIXER_KEY names.
        output: "input": float32 CHW tensor, normalised, for `model(transform(image)[None])`. "image": PIL ciphertext, to
            save as PNG. It carries its record (docs/format.md); `save(path)` writes it with Pillow 11.3 and later,
            `save(path, pnginfo=te.images.png_info(image))` with any. "uint8": CHW uint8 ciphertext tensor, for loaders.

    Raises:
        KeyMismatchError: The record names another key.
        NotEncryptedError: The model, repository or folder has no record.
        SchemeMismatchError: The model's input size is not a multiple of the patch side.
        SchemeError: Unknown output, or an output that the cipher does not have.
    """
    scheme = find_scheme(target)
    return ClientTransform(BlockCipher(find_key(key), scheme), output=output)


def plain_transform(plain: Preprocessing) -> Any:
    """Return timm's own evaluation transform up to the uint8 stage: PIL image to CHW uint8 tensor."""
    return create_timm_transform(
        plain.input_size,
        is_training=False,
        interpolation=plain.interpolation,
        crop_pct=plain.crop_pct,
        crop_mode=plain.crop_mode,
        mean=plain.mean,
        std=plain.std,
        normalize=False,
    )


def normalise(ciphertext: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the encrypted model's input: uint8 (scaled by 1/255, in `dtype`) or floats in [0, 1], then mean = std = 1/2."""
    scaled = ciphertext.to(dtype) / 255 if ciphertext.dtype == torch.uint8 else ciphertext
    return (scaled - MID_GREY) / MID_GREY


def cipher_input(cipher: BlockCipher, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the encrypted model's input in `dtype` for plain uint8 pixels (C, H, W) or (N, C, H, W)."""
    return normalise(cipher.encrypt(pixels if cipher.scheme.exact else pixels.to(dtype) / 255), dtype)


def normalised_plain(pixels: Tensor, plain: Preprocessing, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the plain model's input for plain uint8 pixels (N, C, H, W)."""
    mean, std = (
        torch.tensor(values, dtype=dtype, device=pixels.device).reshape(1, -1, 1, 1) for values in (plain.mean, plain.std)
    )
    return (pixels.to(dtype) / 255 - mean) / std


class ClientTransform:
    """PIL image -> ciphertext; made by `create_transform`. Leaves its input as it is.

    Args:
        cipher: Of a scheme with the plain model's preprocessing.
        output: One of `OUTPUTS`.
        resize: Bring images to the model's input size; False keeps sizes that are multiples of the patch side.
    """

    def __init__(self, cipher: BlockCipher, *, output: str = "input", resize: bool = True) -> None:
        scheme = cipher.scheme
        if output not in OUTPUTS:
            raise SchemeError("output", f"one of {', '.join(OUTPUTS)}", repr(output), "choose one of these")
        if output != "input" and not scheme.exact:
            raise SchemeError(
                "output",
                f"'input' for the cipher {scheme.cipher}",
                repr(output),
                "its ciphertext is float; PNG and uint8 need a cipher such as shuffle+negpos",
            )
        if scheme.plain is None:
            raise SchemeError("scheme", "the plain model's preprocessing", "none", "use model.encmixer")
        _, height, width = scheme.plain.input_size
        if resize and (height % scheme.patch_size or width % scheme.patch_size):
            raise SchemeMismatchError(
                "input_size",
                f"multiples of {scheme.patch_size} px",
                f"{height} x {width} px",
                "the rest would stay plain: give the model an input size that fits",
            )
        self.cipher, self.output = cipher, output
        self._plain = plain_transform(scheme.plain) if resize else None

    def __call__(self, image: Image.Image) -> Tensor | Image.Image:
        """Preprocess and encrypt one image.

        Raises:
            ImageError: Pixels that cannot be brought to 8 bits, or (without resizing) a size that does not fit.
        """
        if not isinstance(image, Image.Image):
            raise ImageError("image", "a PIL image", type(image).__name__, "use BlockCipher.encrypt for tensors and arrays")
        pixels = self.preprocess(image)
        if self.output == "input":
            return cipher_input(self.cipher, pixels)
        ciphertext = self.cipher.encrypt(pixels)
        if self.output == "uint8":
            return ciphertext
        picture: Image.Image = to_pil_image(ciphertext)
        attach_record(picture, ImageRecord.of(np.asarray(picture), self.cipher))
        return picture

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the plain uint8 CHW tensor that is about to be encrypted.

        Raises:
            ImageError: As for the call; or the image carries the record of a ciphertext.
        """
        refuse_ciphertext(image)
        converted = to_channels(image, self.cipher.scheme.in_chans)
        tensor: Tensor = MaybePILToTensor()(converted) if self._plain is None else self._plain(converted)
        return tensor

    def __repr__(self) -> str:
        return f"ClientTransform({self.cipher!r}, output={self.output!r})"
