"""What an attacker may hold, and nothing else: an attack sees a `Held`, never the key or the images it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from timm_encmixer.audit.methods.statistics import BlockStatistics
from timm_encmixer.scheme import Scheme

MATERIAL = {
    "ciphertexts": "ciphertext images",
    "scrambled": "ciphertext images whose blocks are scrambled",
    "block_key": "the key of a single block",
    "public_statistics": "statistics of public photos",
    "photos": "a few public photos",
    "encrypted_model": "the encrypted model",
    "base_model": "public plain weights that the model was made from",
    "known_blocks": "blocks of images both plain and encrypted",
    "image_pairs": "images both plain and encrypted",
    "oracle": "somebody who encrypts images of the attacker's choice",
    "labelled": "labelled plain images",
    "features": "outputs of the encrypted model's stem",
    "other_model": "another model under the same key, plain and encrypted",
}


Thing = TypeVar("Thing")


class _Material(Generic[Thing]):
    """An attribute of `Held` that is there only if it was handed out."""

    def __set_name__(self, owner: type[Held], name: str) -> None:
        self._name = name

    def __get__(self, held: Held, owner: type[Held]) -> Thing:
        if self._name not in held.things:
            raise LookupError(f"this attacker does not hold {MATERIAL[self._name]}")
        thing: Thing = held.things[self._name]
        return thing


@dataclass(frozen=True)
class Held:
    """What one attacker holds in one run of one attack; asking for anything else raises LookupError.

    Args:
        scheme: The public record, without the key's fingerprint.
        setting: What is varied, by name.
        things: The material by its name in `MATERIAL`, which are also the names of the attributes.
    """

    scheme: Scheme
    setting: Mapping[str, float]
    things: Mapping[str, Any]

    # floats in [0, 1] (`orthogonal` may leave it), shape (N, C, H, W).
    ciphertexts = _Material[Tensor]()
    # the same with their blocks scrambled; `ciphertexts` and all other material have them in their places.
    scrambled = _Material[Tensor]()
    # A, shape (D, D), float64.
    block_key = _Material[Tensor]()
    # of photos that have nothing to do with the images under attack.
    public_statistics = _Material[BlockStatistics]()
    # public photos at the model's input size, uint8, shape (N, C, H, W).
    photos = _Material[Tensor]()
    # takes ciphertext normalised by mean = std = 1/2.
    encrypted_model = _Material[nn.Module]()
    # a plain model with its `pretrained_cfg`.
    base_model = _Material[nn.Module]()
    # plain and encrypted blocks about mid-grey, each of shape (n, D), float64.
    known_blocks = _Material[tuple[Tensor, Tensor]]()
    # plain and encrypted images, floats, each of shape (N, C, H, W).
    image_pairs = _Material[tuple[Tensor, Tensor]]()
    # encrypts uint8 images of the model's input size, shape (N, C, H, W), to floats; calls are counted.
    oracle = _Material[Callable[[Tensor], Tensor]]()
    # plain uint8 images (N, C, H, W) and labels (N,).
    labelled = _Material[tuple[Tensor, Tensor]]()
    # outputs of the stem convolution, shape (N, dim, H/P, W/P).
    features = _Material[Tensor]()
    # stem rows of another model, plain (re-centred) and encrypted with the same key; each (dim, D), float64.
    other_model = _Material[tuple[Tensor, Tensor]]()
