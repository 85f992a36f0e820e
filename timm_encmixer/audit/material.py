"""What an attacker may hold, and nothing else: an attack sees a `Held`, never the key or the images it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from timm_encmixer.audit.methods.statistics import BlockStatistics
from timm_encmixer.scheme import Scheme

Thing = TypeVar("Thing")


class Material(Generic[Thing]):
    """One kind of material: an attribute of `Held` that is there only if it was handed out.

    Args:
        words: What it is, for reports.
        optional: Whether a target may lack it.
    """

    name: str  # of the attribute

    def __init__(self, words: str, *, optional: bool = False) -> None:
        self.words, self.optional = words, optional

    def __set_name__(self, owner: type[Held], name: str) -> None:
        self.name = name

    def __get__(self, held: Held, owner: type[Held]) -> Thing:
        if self.name not in held.things:
            raise LookupError(f"this attacker does not hold {self.words}")
        thing: Thing = held.things[self.name]
        return thing


class Oracle:
    """Encrypts images of the attacker's choice, and counts them.

    Args:
        encrypt: Takes uint8 images of the model's input size, shape (N, C, H, W); returns floats.
    """

    def __init__(self, encrypt: Callable[[Tensor], Tensor]) -> None:
        self.asked = 0  # images so far
        self._encrypt = encrypt

    def __call__(self, images: Tensor) -> Tensor:
        """Return the ciphertexts of uint8 images (N, C, H, W)."""
        self.asked += len(images)
        return self._encrypt(images)


@dataclass(frozen=True)
class Held:
    """What one attacker holds in one run of one attack; asking for anything else raises LookupError.

    Args:
        scheme: The public record, without the key's fingerprint.
        setting: What is varied, by name.
        things: The material by the name of its attribute.
    """

    scheme: Scheme
    setting: Mapping[str, float]
    things: Mapping[str, Any]

    # floats in [0, 1] (`orthogonal` may leave it), shape (N, C, H, W).
    ciphertexts = Material[Tensor]("ciphertext images")
    # floats like `ciphertexts`, but with their blocks scrambled. All other material has the blocks at their own positions.
    scrambled = Material[Tensor]("ciphertext images whose blocks are scrambled", optional=True)
    # A, shape (D, D), float64.
    block_key = Material[Tensor]("the key of a single block")
    # takes a share of rows, 0 to 1, and a number of tries; gives as many matrices (D, D) that agree with A on this share.
    keys_in_part = Material[Callable[[float, int], list[Tensor]]]("keys that agree with the right one in part")
    # of photos that have nothing to do with the images under attack.
    public_statistics = Material[BlockStatistics]("statistics of public photos", optional=True)
    # public photos at the model's input size, uint8, shape (N, C, H, W).
    photos = Material[Tensor]("a few public photos", optional=True)
    # takes ciphertext normalised by mean = std = 1/2.
    encrypted_model = Material[nn.Module]("the encrypted model")
    # a plain model with its `pretrained_cfg`.
    base_model = Material[nn.Module]("public plain weights that the model was made from", optional=True)
    # plain and encrypted blocks about mid-grey, each of shape (n, D), float64.
    known_blocks = Material[tuple[Tensor, Tensor]]("blocks of images both plain and encrypted")
    # plain and encrypted images, floats, each of shape (N, C, H, W).
    image_pairs = Material[tuple[Tensor, Tensor]]("images both plain and encrypted")
    # takes a number, gives the cipher under a key of the attacker's own: uint8 images (N, C, H, W) to floats.
    own_ciphers = Material[Callable[[int], Callable[[Tensor], Tensor]]](
        "the method, with keys of the attacker's own", optional=True
    )
    oracle = Material[Oracle]("somebody who encrypts images of the attacker's choice")
    # plain uint8 images (N, C, H, W) and labels (N,).
    labelled = Material[tuple[Tensor, Tensor]]("labelled plain images", optional=True)
    # outputs of the stem convolution, shape (N, dim, H/P, W/P).
    features = Material[Tensor]("outputs of the encrypted model's stem")
    # stem rows of another model, plain (re-centred) and encrypted with the same key; each (dim, D), float64.
    other_model = Material[tuple[Tensor, Tensor]]("another model under the same key, plain and encrypted")


MATERIAL: dict[str, Material[Any]] = {name: thing for name, thing in vars(Held).items() if isinstance(thing, Material)}
