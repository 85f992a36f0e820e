"""What an attack may hand in. Each kind is measured by the base class against the truth (measures.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from timm_encmixer.keys import SecretKey


@dataclass(frozen=True)
class RecoveredKey:
    """An estimate of the cipher's matrix A, orthogonal, shape (D, D)."""

    matrix: Tensor


@dataclass(frozen=True)
class RecoveredOrder:
    """For each position of the image, by rows, the block of the scrambled ciphertext that belongs there; int64, shape (N,)."""

    order: Tensor


@dataclass(frozen=True)
class RecoveredImages:
    """A way from what the attacker sees to plain images.

    Args:
        reconstruct: Takes ciphertexts (N, C, H, W), or stem outputs (N, dim, H/P, W/P) where `sees` says so; returns images
            in [0, 1] of shape (N, C, H, W), or block maps (N, 1, H/P, W/P) for a thumbnail.
        sees: "ciphertexts" or "features".
        thumbnail: The result is one grey value per block.
    """

    reconstruct: Callable[[Tensor], Tensor]
    sees: str = "ciphertexts"
    thumbnail: bool = False


@dataclass(frozen=True)
class RecoveredModels:
    """Classifiers of plain uint8 images (N, C, H, W) to logits, by name; `control` was trained without the stolen model."""

    classifiers: Mapping[str, Callable[[Tensor], Tensor]]
    control: Mapping[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class GuessedKeys:
    """Keys that somebody without the key tried."""

    keys: Sequence[SecretKey]


@dataclass(frozen=True)
class GuessedMatrices:
    """Matrices (D, D) that somebody who knows part of the cipher's A tried in its place."""

    matrices: Sequence[Tensor]


@dataclass(frozen=True)
class AdversarialImages:
    """Plain uint8 images made to be misread, one for each of the first labelled images, at most `epsilon` of 255 away."""

    images: Tensor
    epsilon: int


Recovery = RecoveredKey | RecoveredOrder | RecoveredImages | RecoveredModels | GuessedKeys | GuessedMatrices | AdversarialImages
