"""A cipher as a plain matrix: applying, and undoing, an estimate of A on images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.ciphers.blocks import join, split
from timm_encmixer.scheme import Scheme


def matrix_of(cipher: BlockCipher) -> Tensor:
    """Return A of u - 1/2 = A (v - 1/2), shape (D, D), float64."""
    return cipher.fold_rows(torch.eye(cipher.scheme.block_size, dtype=torch.float64)).T.contiguous()


def signed_permutation(order: Tensor, sign: Tensor) -> Tensor:
    """Return the A whose row i has `sign[i]` at column `order[i]`; float64."""
    matrix = torch.zeros(len(order), len(order), dtype=torch.float64)
    matrix[torch.arange(len(order)), order] = sign.double()
    return matrix


def symmetries(scheme: Scheme) -> Iterator[Tensor]:
    """Yield what within-block correlations hardly tell apart, as matrices: mirrors, channel orders and channel signs."""
    channels, patch = scheme.in_chans, scheme.patch_size
    place = torch.arange(scheme.block_size).reshape(channels, patch, patch)
    turns = [torch.rot90(place, k, (1, 2)) for k in range(4)]
    turns += [turn.transpose(1, 2) for turn in turns]
    facts, unchanged = scheme.facts, [tuple(range(channels))]
    orders = list(itertools.permutations(range(channels))) if channels <= 3 and facts.mixes_channels else unchanged
    if facts.exact and not facts.moves:
        turns, orders = [place], unchanged
    signs = list(itertools.product((1, -1), repeat=channels - 1)) if channels <= 3 and facts.inverts else [()]
    for turn, order, rest in itertools.product(turns, orders, signs):
        sign = torch.tensor([1, *(rest or (1,) * (channels - 1))]).repeat_interleave(patch**2)
        yield signed_permutation(turn[list(order)].reshape(-1), sign)


def apply(matrix: Tensor, images: Tensor, patch: int) -> Tensor:
    """Encrypt images (N, C, H, W), uint8 or floats in [0, 1], with A; floats of the same shape."""
    blocks = split(unit(images), patch) - 0.5
    return join(blocks @ matrix.T.to(blocks) + 0.5, images.shape[1], patch)


def invert(matrix: Tensor, ciphertexts: Tensor, patch: int) -> Tensor:
    """Decrypt images with an orthogonal A; undoes `apply`."""
    return apply(matrix.T, ciphertexts, patch)


def unit(images: Tensor) -> Tensor:
    """Return images as floats in [0, 1]: uint8 divided by 255, floats as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
