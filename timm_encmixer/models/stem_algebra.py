"""The algebra of an encrypted stem, as pure functions on weights.

The plain stem computes y = W S^-1 (v - mu) + c of a block v in [0, 1]^D, with mu and S = diag(std) per channel. The cipher
is T(v) = 1/2 + A (v - 1/2), and the encrypted model's normalisation turns the ciphertext into u = 2 (T(v) - 1/2). Two steps
make the stem compute the same y from u:

    re-centre (no key):   W0 = 1/2 W S^-1        c' = c + W S^-1 (1/2 - mu)
    fold (the key):       W' = W0 A^T

since W' u + c' = 1/2 W S^-1 A^T 2 A (v - 1/2) + c + W S^-1 (1/2 - mu) = y. All of it in float64, rounded once at the end.

A cipher that keeps the plain normalisation (`CipherFacts.keeps_normalisation`) commutes with S^-1 (v - mu). Then nothing is
re-centred: W' = W A^T and c' = c, which is the above with mu = std = 1/2.

Source: arXiv 2207.11939, section 3, with the normalisation folded in (docs/format.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.scheme import MID_GREY, CipherFacts, Preprocessing


def folded_normalisation(facts: CipherFacts, plain: Preprocessing) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std that an encryption folds into the stem: those of mid-grey where it keeps the plain ones."""
    if facts.keeps_normalisation:
        return (MID_GREY,) * len(plain.mean), (MID_GREY,) * len(plain.std)
    return plain.mean, plain.std


def recentre(weight: Tensor, bias: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Fold a per-channel normalisation into a patch convolution and centre its input on mid-grey.

    Args:
        weight: Kernel for images normalised by `mean` and `std`, shape (dim, C, P, P).
        bias: Shape (dim,).
        mean: Per channel, C numbers, of pixels in [0, 1].
        std: Per channel, C numbers above 0.

    Returns:
        Kernel W0 and bias c' for images normalised by mean = std = 1/2, same shapes, float64; nothing is mutated.
    """
    scaled, shift = _scaled(weight.double(), mean, std)
    return MID_GREY * scaled, bias.double() + shift


def decentre(weight: Tensor, bias: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Undo `recentre`: from kernel W0 and bias c' to W and c; same shapes, float64."""
    scaled = weight.double() / MID_GREY
    original = scaled * _per_channel(std, weight)
    return original, bias.double() - _scaled(original, mean, std)[1]


def fold(weight: Tensor, cipher: BlockCipher) -> Tensor:
    """Return W' = W0 A^T: the kernel that reads ciphertext; shape (dim, C, P, P) in and out, float64.

    Raises:
        SchemeMismatchError: The cipher's patch side or channels differ from the kernel's.
    """
    return cipher.fold_rows(weight.double().flatten(1)).reshape(weight.shape)


def unfold(weight: Tensor, cipher: BlockCipher) -> Tensor:
    """Undo `fold`: W0 = W' A; shape (dim, C, P, P) in and out, float64."""
    return cipher.unfold_rows(weight.double().flatten(1)).reshape(weight.shape)


def encrypt_stem(
    weight: Tensor, bias: Tensor, cipher: BlockCipher, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Rewrite a plain patch convolution so that it reads ciphertext normalised by mean = std = 1/2.

    Args:
        weight: Kernel, shape (dim, C, P, P), trained on images normalised by `mean` and `std`.
        bias: Shape (dim,).
        cipher: Of the same patch side and channels.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, above 0.

    Returns:
        New kernel and bias, same shapes, dtypes, devices and memory formats. The bias does not depend on the key.

    Raises:
        SchemeMismatchError: The cipher does not fit the kernel.
    """
    centred, new_bias = recentre(weight, bias, mean, std)
    return _like(fold(centred, cipher), weight), _like(new_bias, bias)


def decrypt_stem(
    weight: Tensor, bias: Tensor, cipher: BlockCipher, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Undo `encrypt_stem`, to within the rounding of the weights' dtype; same arguments and results."""
    plain, new_bias = decentre(unfold(weight, cipher), bias, mean, std)
    return _like(plain, weight), _like(new_bias, bias)


def rotate_stem(weight: Tensor, cipher: BlockCipher, new_cipher: BlockCipher) -> Tensor:
    """Return W'' = W' A1 A2^T, from one key to the next without the plain kernel; dtype, device and format as `weight`."""
    return _like(fold(unfold(weight, cipher), new_cipher), weight)


def _per_channel(values: Sequence[float], weight: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=weight.device).reshape(1, -1, 1, 1)


def _scaled(weight: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return W S^-1 and W S^-1 (1/2 - mu)."""
    scaled = weight / _per_channel(std, weight)
    return scaled, (scaled * (MID_GREY - _per_channel(mean, weight))).sum(dim=(1, 2, 3))


def _like(values: Tensor, original: Tensor) -> Tensor:
    return torch.empty_like(original, memory_format=torch.preserve_format).copy_(values)
