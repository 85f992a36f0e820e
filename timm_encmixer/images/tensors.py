"""From uint8 pixels to the tensors that a model takes: the encrypted model's input, and the plain one's."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from timm_encmixer.ciphers.cipher import BlockCipher
from timm_encmixer.ciphers.formats import pixels_of
from timm_encmixer.models.stem_algebra import MID_GREY
from timm_encmixer.scheme import Preprocessing


def to_tensor(image: Image.Image) -> Tensor:
    """Return the pixels of an image of mode RGB or L, uint8 of shape (C, H, W)."""
    return torch.tensor(pixels_of(image, len(image.getbands()))).permute(2, 0, 1).contiguous()


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
