"""The thing under attack: model, key and images. It hands each attacker what that attacker holds, and keeps the truth."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timm_encmixer.audit.material import MATERIAL, Held, Oracle
from timm_encmixer.audit.methods.block_map import matrix_of, unit
from timm_encmixer.audit.methods.statistics import BlockStatistics
from timm_encmixer.audit.methods.training import fit
from timm_encmixer.audit.pipeline import accuracy, classify_plain, encrypt_images, in_order, near_key, stem_outputs
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.ciphers.blocks import split
from timm_encmixer.images.tensors import normalised_plain
from timm_encmixer.keys import SecretKey
from timm_encmixer.models.encryption import encrypt_model, stem_of
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import Preprocessing


@dataclass(frozen=True)
class Truth:
    """What only the base class sees."""

    cipher: BlockCipher
    matrix: Tensor  # A, shape (D, D), float64
    images: Tensor  # uint8, shape (N, C, H, W), used by no attack
    labels: Tensor | None
    ciphertexts: Tensor  # floats
    encrypted_model: nn.Module
    plain_accuracy: float | None
    guessing: float  # accuracy of one who knows nothing
    order: Tensor | None  # of ciphers that scramble: block of the plain image at each position of the ciphertext


@dataclass
class Target:
    """A model owner's secrets and images, and the material that comes of them.

    Where the cipher scrambles blocks, every attacker is handed their order, and meets images and model with the blocks put
    back, but those who are after the order itself and ask for `scrambled`: no verdict rests on an order that others find out.

    Args:
        plain_model: In evaluation mode, with its `pretrained_cfg`.
        key: The secret key.
        encrypted_model: What is published, with its record.
        images: Plain uint8 images that an attacker may meet, shape (N, C, H, W).
        labels: Their labels, None where they have none.
        test_images: Plain uint8 images that no attacker meets; what is recovered is measured on these.
        test_labels: Likewise.
        public_statistics: Of public photos, None where there are none for these blocks.
        photos: A few public photos, None where there are none.
        base_model: Public plain weights that `plain_model` was made from; None where there are none.
        seed: For what the owner does by chance.
        ciphertexts: What attackers meet instead of the images' ciphertexts, floats (N, C, H, W): a control such as noise, in
            which an attack must find nothing. None takes the images' ciphertexts.
    """

    plain_model: nn.Module
    key: SecretKey
    encrypted_model: nn.Module
    images: Tensor
    labels: Tensor | None
    test_images: Tensor
    test_labels: Tensor | None
    public_statistics: BlockStatistics | None
    photos: Tensor | None
    base_model: nn.Module | None
    seed: int = 0
    ciphertexts: Tensor | None = None

    def __post_init__(self) -> None:
        scheme = scheme_of(self.encrypted_model)
        assert scheme is not None  # an encrypted model
        self._published = BlockCipher(self.key, scheme)
        self._cipher = self._published.within_blocks()
        self.scheme = self._cipher.scheme
        self.encrypted_model = in_order(self.encrypted_model, self._published)
        self._seen = encrypt_images(self._cipher, self.images) if self.ciphertexts is None else self.ciphertexts

    @property
    def cipher(self) -> str:
        """Name of the cipher that is used, with its scrambling."""
        return self._published.scheme.cipher

    @property
    def scrambles(self) -> bool:
        """Whether the cipher scrambles blocks."""
        return self._published.scheme.scrambles

    @property
    def plain(self) -> Preprocessing:
        """The plain model's preprocessing."""
        assert self.scheme.plain is not None  # the record of an encrypted model
        return self.scheme.plain

    def truth(self) -> Truth:
        """Return what recovery is measured against."""
        classes = self.classify_plain(self.test_images[:1]).shape[-1]
        plain_accuracy = None
        if self.test_labels is not None:
            plain_accuracy = accuracy(self.classify_plain, self.test_images, self.test_labels)
        return Truth(
            self._cipher,
            matrix_of(self._cipher),
            self.test_images,
            self.test_labels,
            encrypt_images(self._cipher, self.test_images),
            self.encrypted_model,
            plain_accuracy,
            1 / classes,
            self._published.order if self.scrambles else None,
        )

    def classify_plain(self, images: Tensor) -> Tensor:
        """Return the plain model's logits of uint8 images or floats in [0, 1]."""
        return classify_plain(self.plain_model, images, self.plain)

    def available(self, setting: str) -> float:
        """Return how much there is of what a setting of `hold` counts; without bound for settings that count nothing."""
        patch = self.scheme.patch_size
        blocks = math.prod(side // patch for side in self.images.shape[-2:])
        there = dict.fromkeys(("ciphertexts", "scrambled", "image_pairs", "labelled"), len(self.images))
        return {**there, "known_blocks": len(self.images) * blocks}.get(setting, math.inf)

    def lacking(self, material: tuple[str, ...]) -> list[str]:
        """Return which of this material there is none of."""
        return [name for name in material if MATERIAL[name].optional and self._give(name, {}) is None]

    def hold(self, material: tuple[str, ...], setting: Mapping[str, float]) -> Held:
        """Return what an attacker holds.

        Args:
            material: Names in `MATERIAL`.
            setting: How much of it: `ciphertexts`, `scrambled`, `image_pairs`, `labelled` and `known_blocks` by number; `noise`
                is added to the owner's stem, in standard deviations of its weights; `epochs` is how long the owner fine-tunes.
        """
        public = self.scheme.without_fingerprint()
        return Held(public, setting, {name: self._give(name, setting) for name in material})

    def _give(self, name: str, setting: Mapping[str, float]) -> Any:
        """Return one kind of material, None where there is none: what the method `_give_NAME` makes, else the field NAME."""
        maker = getattr(self, f"_give_{name}", None)
        return getattr(self, name) if maker is None else maker(setting)

    def _count(self, name: str, setting: Mapping[str, float]) -> int:
        return int(setting.get(name, len(self.images)))

    def _give_ciphertexts(self, setting: Mapping[str, float]) -> Tensor:
        return self._seen[: self._count("ciphertexts", setting)]

    def _give_scrambled(self, setting: Mapping[str, float]) -> Tensor | None:
        images = self.images[: self._count("scrambled", setting)]
        return encrypt_images(self._published, images) if self.scrambles else None

    def _give_block_key(self, setting: Mapping[str, float]) -> Tensor:
        return matrix_of(self._cipher)

    def _give_keys_in_part(self, setting: Mapping[str, float]) -> Callable[[float, int], list[Tensor]]:
        def keys(agreement: float, tries: int) -> list[Tensor]:
            generator = torch.Generator().manual_seed(self.seed)
            return [near_key(matrix_of(self._cipher), self.scheme, agreement, generator) for _ in range(tries)]

        return keys

    def _give_encrypted_model(self, setting: Mapping[str, float]) -> nn.Module:
        return self._owned(setting.get("noise", 0.0), int(setting.get("epochs", 0)))

    def _give_known_blocks(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        return self._known_blocks(self._count("known_blocks", setting))

    def _give_image_pairs(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        count = self._count("image_pairs", setting)
        return unit(self.images[:count]), self._seen[:count]

    def _give_oracle(self, setting: Mapping[str, float]) -> Oracle:
        return Oracle(lambda images: encrypt_images(self._cipher, images))

    def _give_labelled(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor] | None:
        count = self._count("labelled", setting)
        return None if self.labels is None else (self.images[:count], self.labels[:count])

    def _give_features(self, setting: Mapping[str, float]) -> Tensor:
        return stem_outputs(self.encrypted_model, self._seen)

    def _give_other_model(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """A stem that has nothing to do with this model's, with public weights, under the same key."""
        generator = torch.Generator().manual_seed(self.seed)
        rows = torch.randn(2 * self.scheme.block_size, self.scheme.block_size, generator=generator, dtype=torch.float64)
        return rows, self._cipher.fold_rows(rows)

    def _owned(self, noise: float, epochs: int) -> nn.Module:
        """Return the encrypted model; after noise on its stem, or fine-tuning, in the owner's hands."""
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

    def _known_blocks(self, count: int) -> tuple[Tensor, Tensor]:
        patch = self.scheme.patch_size
        per_image = math.prod(side // patch for side in self.images.shape[-2:])
        used = slice(0, math.ceil(count / per_image))
        pair = unit(self.images[used]), self._seen[used]
        plain, encrypted = (split(batch.double(), patch).flatten(0, 2)[:count] - 0.5 for batch in pair)
        return plain, encrypted


def clone(model: nn.Module) -> nn.Module:
    """Return a deep copy of a plain model, in evaluation mode."""
    return copy.deepcopy(model).eval()


def fit_copy(target: Target, epochs: int) -> nn.Module:
    """Return the owner's model after fine-tuning on the labelled images."""
    model = clone(target.plain_model)
    assert target.labels is not None  # only asked for where there are labels
    inputs = normalised_plain(target.images, target.plain)
    fit(model, list(model.parameters()), inputs, target.labels, epochs=epochs, learning_rate=1e-3, seed=target.seed)
    return model
