"""From uint8 pixels to the tensors that a model takes: the encrypted model's input, and the plain one's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from timm_encmixer.ciphers.cipher import BlockCipher
from timm_encmixer.ciphers.formats import pixels_of
from timm_encmixer.scheme import MID_GREY, Preprocessing, Scheme


def to_tensor(image: Image.Image) -> Tensor:
    """Return the pixels of an image of mode RGB or L, uint8 of shape (C, H, W)."""
    return torch.tensor(pixels_of(image, len(image.getbands()))).permute(2, 0, 1).contiguous()


def normalise(ciphertext: Tensor, dtype: torch.dtype = torch.float32, *, scheme: Scheme | None = None) -> Tensor:
    """Return an encrypted model's input for ciphertext.

    Args:
        ciphertext: uint8 or floats in [0, 1], shape (C, H, W) or (N, C, H, W).
        dtype: Of the result where the ciphertext is uint8.
        scheme: The model's record. None normalises by mean = std = 1/2, which is right for all ciphers but `shuffle-planes`.
    """
    scaled = ciphertext.to(dtype) / 255 if ciphertext.dtype == torch.uint8 else ciphertext
    if scheme is None or not scheme.facts.keeps_normalisation:
        return (scaled - MID_GREY) / MID_GREY
    return _normalised(scaled, scheme.ciphertext_mean, scheme.ciphertext_std)


def cipher_input(cipher: BlockCipher, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the encrypted model's input in `dtype` for plain uint8 pixels (C, H, W) or (N, C, H, W)."""
    ciphertext = cipher.encrypt(pixels if cipher.scheme.exact else pixels.to(dtype) / 255)
    return normalise(ciphertext, dtype, scheme=cipher.scheme)


def normalised_plain(pixels: Tensor, plain: Preprocessing, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the plain model's input for plain uint8 pixels (N, C, H, W)."""
    return _normalised(pixels.to(dtype) / 255, plain.mean, plain.std)


def _normalised(images: Tensor, *mean_and_std: Sequence[float]) -> Tensor:
    """Return images (C, H, W) or (N, C, H, W) less a mean for each channel, divided by a std."""
    mean, std = (torch.tensor(values, dtype=images.dtype, device=images.device).reshape(-1, 1, 1) for values in mean_and_std)
    return (images - mean) / std
