"""What images and models go through in an audit: ciphertexts, stems, logits, and keys that are right in part."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from timm_encmixer.audit.methods.block_map import signed_permutation, unit
from timm_encmixer.audit.methods.key_space import KeySpace
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.images.tensors import normalise, normalised_plain
from timm_encmixer.models.encryption import changed_by_encryption, position_embedding_of, stem_of, with_encrypted_stem
from timm_encmixer.models.plan import no_bias
from timm_encmixer.models.record import scheme_of
from timm_encmixer.models.stem_algebra import recentre
from timm_encmixer.scheme import Preprocessing, Scheme

_BATCH = 50


def in_order(model: nn.Module, cipher: BlockCipher) -> nn.Module:
    """Return an encrypted model that reads unscrambled blocks, if the cipher scrambles them; other models as they are."""
    scheme, bare = cipher.scheme, cipher.within_blocks().scheme
    if scheme.positions is None:
        return model
    embedding = changed_by_encryption(model, scheme)[scheme.positions]
    positions = position_embedding_of(model, scheme)
    restored = positions.permuted(embedding, torch.argsort(cipher.order))
    return with_encrypted_stem(model, {scheme.positions: restored}, bare)


def near_key(matrix: Tensor, scheme: Scheme, agreement: float, generator: torch.Generator) -> Tensor:
    """Return a matrix that agrees with A on a share of its rows; the others are permuted among themselves and re-signed.

    Only what the cipher changes is wrong in the others. Where it mixes numbers they are mixed by a random orthogonal map.

    Args:
        matrix: A, shape (D, D), float64.
        scheme: The record.
        agreement: Share of rows, 0 to 1.
        generator: For which rows, and for what becomes of the others.
    """
    size = len(matrix)
    wrong = torch.randperm(size, generator=generator)[round(agreement * size) :]
    near = matrix.clone()
    if len(wrong) < 2:
        return near
    facts, count = scheme.facts, len(wrong)
    if not facts.exact:
        gaussian = torch.randn(count, count, generator=generator, dtype=torch.float64)
        near[wrong] = torch.linalg.qr(gaussian)[0] @ near[wrong]
        return near
    order, sign = torch.arange(count), torch.ones(count)
    if facts.moves:
        groups = torch.from_numpy(KeySpace.of(scheme).groups)[wrong]
        for group in set(groups.tolist()):
            rows = (groups == group).nonzero().squeeze(1)
            order[rows] = rows.roll(1)  # no row stays where it is, but a group's only one
    if facts.inverts and not facts.moves:
        sign = -sign  # only the other sign is wrong
    elif facts.inverts:
        sign = torch.where(torch.rand(count, generator=generator) < 0.5, -1, 1)
    near[wrong] = signed_permutation(order, sign) @ near[wrong]
    return near


def encrypt_images(cipher: BlockCipher, images: Tensor) -> Tensor:
    """Return ciphertexts of uint8 images as floats; through uint8 where the cipher has that."""
    return unit(cipher.encrypt(images)) if cipher.scheme.exact else cipher.encrypt(unit(images))


def stem_rows(model: nn.Module, scheme: Scheme) -> Tensor:
    """Return a model's stem as rows (dim, D), float64, as they are before or after the key of a record is folded in.

    An encrypted stem is taken as it is. Of a plain one the normalisation is folded in first, as far as the cipher wants it.
    """
    weight, _ = stem_of(model)
    if scheme_of(model) is not None or scheme.facts.keeps_normalisation:
        return weight.double().flatten(1)
    cfg: Any = model.pretrained_cfg
    return recentre(weight, no_bias(weight), cfg["mean"], cfg["std"])[0].flatten(1)


@torch.inference_mode()
def stem_outputs(model: nn.Module, ciphertexts: Tensor) -> Tensor:
    """Return what an encrypted model's stem convolution gives for ciphertexts, shape (N, dim, H/P, W/P)."""
    (weight, bias), scheme = stem_of(model), scheme_of(model)
    batches = (normalise(batch, scheme=scheme) for batch in torch.split(ciphertexts, _BATCH))
    return torch.cat([nn.functional.conv2d(batch, weight, bias, stride=weight.shape[-1]) for batch in batches])


def classify(model: nn.Module, ciphertexts: Tensor) -> Tensor:
    """Return an encrypted model's logits of ciphertexts."""
    return _logits(model, ciphertexts, functools.partial(normalise, scheme=scheme_of(model)))


def classify_plain(model: nn.Module, images: Tensor, plain: Preprocessing) -> Tensor:
    """Return a plain model's logits of uint8 images or floats in [0, 1]."""
    return _logits(model, images, lambda batch: normalised_plain(unit(batch) * 255, plain))


def accuracy(classifier: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Return the share of right answers."""
    return float((classifier(images).argmax(dim=1) == labels).double().mean())


@torch.inference_mode()
def _logits(model: nn.Module, images: Tensor, prepare: Callable[[Tensor], Tensor]) -> Tensor:
    batches = (prepare(batch).contiguous(memory_format=torch.channels_last) for batch in torch.split(images, _BATCH))
    return torch.cat([model(batch) for batch in batches])
