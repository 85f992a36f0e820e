"""A model under attack, with its key and its images."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from timm_encmixer.audit.material import MATERIAL
from timm_encmixer.audit.methods.block_map import matrix_of
from timm_encmixer.audit.methods.training import fit
from timm_encmixer.audit.pipeline import encrypt_images, in_order, near_key, stem_outputs
from timm_encmixer.audit.target import ModelTruth, Target
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.evaluation.accuracy import wrong_key
from timm_encmixer.images.tensors import normalised_plain
from timm_encmixer.keys import SecretKey
from timm_encmixer.models.encryption import encrypt_model, stem_of
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import Preprocessing, Scheme


@dataclass(kw_only=True)
class ModelTarget(Target):
    """A model owner's secrets and images.

    Where the cipher scrambles blocks, every attacker gets their order, and meets images and model with the blocks in order. So
    no verdict depends on how well another attack finds the order. Only attacks that look for the order ask for `scrambled`.

    Args:
        plain_model: In evaluation mode, with its `pretrained_cfg`.
        key: The secret key.
        encrypted_model: What is published, with its record.
        base_model: Public plain weights that `plain_model` was made from; None if they are not public.
    """

    plain_model: nn.Module
    key: SecretKey
    encrypted_model: nn.Module
    base_model: nn.Module | None

    def __post_init__(self) -> None:
        scheme = scheme_of(self.encrypted_model)
        assert scheme is not None  # an encrypted model
        self._published = BlockCipher(self.key, scheme)
        self._cipher = self._published.within_blocks()
        self.scheme = self._cipher.scheme
        self.encrypted_model = in_order(self.encrypted_model, self._published)
        super().__post_init__()

    @property
    def cipher(self) -> str:
        """Name of the cipher that is used, with its scrambling."""
        return self._published.scheme.cipher

    @property
    def patch_size(self) -> int:
        """Side of a block in px."""
        return self.scheme.patch_size

    @property
    def plain(self) -> Preprocessing:
        """The plain model's preprocessing."""
        assert self.scheme.plain is not None  # the record of an encrypted model
        return self.scheme.plain

    @property
    def model_truth(self) -> ModelTruth:
        """What is true of the model."""
        order = self._published.order if self._published.scheme.scrambles else None
        return ModelTruth(self._cipher, matrix_of(self._cipher), order, self.encrypted_model)

    def encrypt(self, images: Tensor) -> Tensor:
        """Return the ciphertexts of uint8 images (N, C, H, W) as floats, with their blocks in order."""
        return encrypt_images(self._cipher, images)

    def scheme_for(self, assumed: str) -> Scheme:
        """Return the record, without the key's fingerprint; it is public."""
        return self.scheme.without_fingerprint()

    def lacks(self, name: str) -> bool:
        """Whether this material is missing."""
        return MATERIAL[name].optional and self.give(name, {}) is None

    def _give_scrambled(self, setting: Mapping[str, float]) -> Tensor | None:
        images = self.images[: self._count("scrambled", setting)]
        return encrypt_images(self._published, images) if self._published.scheme.scrambles else None

    def _give_own_ciphers(self, setting: Mapping[str, float]) -> Callable[[int], Callable[[Tensor], Tensor]]:
        scheme = self.scheme.without_fingerprint()
        return lambda index: functools.partial(encrypt_images, BlockCipher(wrong_key(index), scheme))

    def _give_block_key(self, setting: Mapping[str, float]) -> Tensor:
        return matrix_of(self._cipher)

    def _give_keys_in_part(self, setting: Mapping[str, float]) -> Callable[[float, int], list[Tensor]]:
        def keys(agreement: float, tries: int) -> list[Tensor]:
            generator = torch.Generator().manual_seed(self.seed)
            return [near_key(matrix_of(self._cipher), self.scheme, agreement, generator) for _ in range(tries)]

        return keys

    def _give_encrypted_model(self, setting: Mapping[str, float]) -> nn.Module:
        return self._owned(setting.get("noise", 0.0), int(setting.get("epochs", 0)))

    def _give_features(self, setting: Mapping[str, float]) -> Tensor:
        return stem_outputs(self.encrypted_model, self.seen)

    def _give_other_model(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """A stem that has nothing to do with this model's, with public weights, under the same key."""
        generator = torch.Generator().manual_seed(self.seed)
        rows = torch.randn(2 * self.scheme.block_size, self.scheme.block_size, generator=generator, dtype=torch.float64)
        return rows, self._cipher.fold_rows(rows)

    def _owned(self, noise: float, epochs: int) -> nn.Module:
        """Return the encrypted model. With `noise` or `epochs` the owner changes the plain model before encrypting it."""
        if not noise and not epochs:
            return self.encrypted_model
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            changed = fit_copy(self, epochs) if epochs else clone(self.plain_model)
        weight, _ = stem_of(changed)
        with torch.no_grad():
            weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
        return in_order(encrypt_model(changed, self.key, cipher=self._published.scheme.cipher), self._published)


def clone(model: nn.Module) -> nn.Module:
    """Return a deep copy of a plain model, in evaluation mode."""
    return copy.deepcopy(model).eval()


def fit_copy(target: ModelTarget, epochs: int) -> nn.Module:
    """Return the owner's model after fine-tuning on the labelled images."""
    model = clone(target.plain_model)
    assert target.labels is not None  # only asked for where there are labels
    inputs = normalised_plain(target.images, target.plain)
    fit(model, list(model.parameters()), inputs, target.labels, epochs=epochs, learning_rate=1e-3, seed=target.seed)
    return model
