"""Whole images as rows of numbers, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def codes_of(seen: Tensor) -> Tensor:
    """Return ciphertexts, floats in [0, 1], as rows of numbers from 0 to 255; int64, shape (N, D)."""
    return (seen.flatten(1) * 255).round().clamp(0, 255).long()


def bytes_of(plain: Tensor) -> Tensor:
    """Return plain images, floats in [0, 1], as rows of bytes (N, D)."""
    return codes_of(plain).to(torch.uint8)


def of_images(numbers: Tensor, shape: torch.Size) -> Tensor:
    """Return rows of bytes (N, D) as images (N, C, H, W), floats in [0, 1]."""
    return numbers.reshape(-1, *shape).float() / 255
