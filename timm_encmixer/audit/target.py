"""The thing under attack. It hands each attacker what that attacker holds, and keeps the truth."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from timm_encmixer.audit.material import Held, Oracle
from timm_encmixer.audit.methods.block_map import unit
from timm_encmixer.audit.methods.statistics import BlockStatistics
from timm_encmixer.audit.pipeline import accuracy, classify, classify_plain, encrypt_images
from timm_encmixer.audit.visual_similarity import Likeness, controls
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.ciphers.blocks import split
from timm_encmixer.evaluation.accuracy import wrong_key
from timm_encmixer.keys import SecretKey
from timm_encmixer.scheme import DEFAULT_CIPHER, Preprocessing, Scheme

_WRONG_KEYS = 3


@dataclass(frozen=True)
class ModelTruth:
    """What only the base class sees of a model and its cipher.

    Args:
        cipher: Of blocks at their own positions.
        matrix: A, shape (D, D), float64.
        order: Of ciphers that scramble: block of the plain image at each position of the ciphertext.
        encrypted_model: That reads blocks at their own positions.
    """

    cipher: BlockCipher
    matrix: Tensor
    order: Tensor | None
    encrypted_model: nn.Module


@dataclass(frozen=True)
class Truth:
    """What only the base class sees.

    Args:
        images: uint8, shape (N, C, H, W), used by no attack.
        labels: Of `images`; None without labels, or without a plain model that could read recovered images.
        ciphertexts: Of `images`, floats.
        controls: Likeness by name of pictures that do not show what the images show.
        plain_accuracy: Of the plain model; None without labels.
        guessing: Accuracy of guessing.
        model: The truth about the model; None where no model is attacked.
    """

    images: Tensor
    labels: Tensor | None
    ciphertexts: Tensor
    controls: Mapping[str, Likeness]
    plain_accuracy: float | None
    guessing: float
    model: ModelTruth | None

    def accuracy_under(self, key: SecretKey) -> float:
        """Return the encrypted model's accuracy on images that were encrypted with a key."""
        assert self.model is not None  # asked for only where there is one, and labels
        assert self.labels is not None
        model, cipher = self.model.encrypted_model, BlockCipher(key, self.model.cipher.scheme.without_fingerprint())
        return accuracy(lambda plain: classify(model, encrypt_images(cipher, plain)), self.images, self.labels)

    @functools.cached_property
    def accuracy_under_wrong_keys(self) -> float:
        """The best accuracy under a few wrong keys, which a recovered key must exceed."""
        return max(self.accuracy_under(wrong_key(index)) for index in range(_WRONG_KEYS))


@dataclass(kw_only=True)
class Target(ABC):
    """An owner's secrets and images, and the material that attackers get.

    Args:
        plain_model: Reads plain images, in evaluation mode. None: no accuracy is measured.
        images: Plain uint8 images that an attacker may meet, shape (N, C, H, W).
        labels: Of `images`; None without labels.
        test_images: Plain uint8 images that no attacker meets; what is recovered is measured on these.
        test_labels: Of `test_images`; None without labels.
        public_statistics: Of public photos; None where attackers have none for blocks of this side.
        photos: A few public photos; None where attackers have none.
        seed: Of the owner's random numbers.
        ciphertexts: What attackers meet instead of the images' ciphertexts, floats (N, C, H, W): a control such as noise, in
            which an attack must find nothing. None takes the images' ciphertexts.
    """

    plain_model: nn.Module | None
    images: Tensor
    labels: Tensor | None
    test_images: Tensor
    test_labels: Tensor | None
    public_statistics: BlockStatistics | None
    photos: Tensor | None
    seed: int = 0
    ciphertexts: Tensor | None = None

    def __post_init__(self) -> None:
        self.seen = self.encrypt(self.images) if self.ciphertexts is None else self.ciphertexts

    @property
    @abstractmethod
    def cipher(self) -> str:
        """Name of the cipher, for reports."""

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Side of a block in px."""

    @property
    @abstractmethod
    def plain(self) -> Preprocessing:
        """The plain model's preprocessing."""

    @property
    def model_truth(self) -> ModelTruth | None:
        """What is true of the model; None where no model is attacked."""
        return None

    @abstractmethod
    def encrypt(self, images: Tensor) -> Tensor:
        """Return the ciphertexts of uint8 images (N, C, H, W) as floats, with their blocks in order."""

    @abstractmethod
    def scheme_for(self, assumed: str) -> Scheme:
        """Return the public record, or the one that an attacker without a record assumes.

        Args:
            assumed: The cipher that an attack assumes where there is no record.

        Raises:
            SchemeError: No such cipher has blocks of this side.
        """

    @abstractmethod
    def lacks(self, name: str) -> bool:
        """Whether this material is missing."""

    @property
    def keeps_shape(self) -> bool:
        """Whether ciphertexts have the shape of their images."""
        return self.seen.shape[1:] == self.images.shape[1:]

    def truth(self) -> Truth:
        """Return what recovery is measured against."""
        labels = None if self.plain_model is None else self.test_labels
        return Truth(
            self.test_images,
            labels,
            self.encrypt(self.test_images),
            controls(unit(self.test_images), self.patch_size),
            None if labels is None else accuracy(self.classify_plain, self.test_images, labels),
            0.0 if self.plain_model is None else 1 / self.classify_plain(self.test_images[:1]).shape[-1],
            self.model_truth,
        )

    def classify_plain(self, images: Tensor) -> Tensor:
        """Return the plain model's logits of uint8 images or floats in [0, 1]."""
        assert self.plain_model is not None  # asked for only where there is one
        return classify_plain(self.plain_model, images, self.plain)

    def available(self, setting: str) -> float:
        """Return how much material there is, of what a setting of `hold` counts; infinity for settings that count nothing."""
        there = dict.fromkeys(("ciphertexts", "scrambled", "image_pairs", "labelled"), len(self.images))
        return {**there, "known_blocks": len(self.images) * self._blocks_per_image}.get(setting, math.inf)

    def hold(self, material: tuple[str, ...], setting: Mapping[str, float], assumed: str = DEFAULT_CIPHER) -> Held:
        """Return what an attacker holds.

        Args:
            material: Names in `MATERIAL`.
            setting: How much of it: `ciphertexts`, `scrambled`, `image_pairs`, `labelled` and `known_blocks` by number; `noise`
                is added to the owner's stem, in standard deviations of its weights; `epochs` is how long the owner fine-tunes.
            assumed: As `scheme_for`.
        """
        return Held(self.scheme_for(assumed), setting, {name: _copied(self.give(name, setting)) for name in material})

    def give(self, name: str, setting: Mapping[str, float]) -> Any:
        """Return one kind of material: what the method `_give_NAME` makes, else the field NAME. None if it is missing."""
        maker = getattr(self, f"_give_{name}", None)
        return getattr(self, name) if maker is None else maker(setting)

    @property
    def _blocks_per_image(self) -> int:
        return math.prod(side // self.patch_size for side in self.images.shape[-2:])

    def _count(self, name: str, setting: Mapping[str, float]) -> int:
        return int(setting.get(name, len(self.images)))

    def _give_ciphertexts(self, setting: Mapping[str, float]) -> Tensor:
        return self.seen[: self._count("ciphertexts", setting)]

    def _give_image_pairs(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        count = self._count("image_pairs", setting)
        return unit(self.images[:count]), self.seen[:count]

    def _give_known_blocks(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        count = self._count("known_blocks", setting)
        used = slice(0, math.ceil(count / self._blocks_per_image))
        pair = unit(self.images[used]), self.seen[used]
        plain, encrypted = (split(batch.double(), self.patch_size).flatten(0, 2)[:count] - 0.5 for batch in pair)
        return plain, encrypted

    def _give_oracle(self, setting: Mapping[str, float]) -> Oracle:
        return Oracle(self.encrypt)

    def _give_labelled(self, setting: Mapping[str, float]) -> tuple[Tensor, Tensor] | None:
        count = self._count("labelled", setting)
        return None if self.labels is None else (self.images[:count], self.labels[:count])


def _copied(material: Any) -> Any:
    """Return tensors as copies: an attack that changes what it holds must not change it for the next attack."""
    if isinstance(material, tuple):
        return tuple(map(_copied, material))
    return material.clone() if isinstance(material, Tensor) else material
