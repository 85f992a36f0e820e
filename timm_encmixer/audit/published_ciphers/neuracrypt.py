"""NeuraCrypt: a random convolutional encoder of patches, whose outputs are published in a random order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from timm_encmixer.audit.published_ciphers.blocks import split
from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Encrypt, PublishedCipher
from timm_encmixer.audit.published_ciphers.draws import Draws

_EPSILON = 1e-5  # of batch normalisation

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class NeuraCrypt(PublishedCipher):
    """A random network encodes each patch and its position; the codes of an image are put into a random order.

    For a patch x of D = C P P numbers: h = relu(W x + b), `width` numbers; then `depth` times h = relu(norm(W h + b)); then y =
    W relu(h + e_k) + b with a random embedding e_k of the patch's position k. The weights and the embeddings are the key. The
    order of the H/P x W/P codes is drawn anew for each image. The ciphertext is float32 of shape (N, H/P, W/P, width), without
    bounds.

    As in the paper and the authors' code: the layers, their sizes (16 px, depth 4, width 2048), Gaussian embeddings, weights
    and biases uniform within 1 / sqrt(inputs) as PyTorch draws them, and the order an image. `norm` is batch normalisation by
    the statistics of the batch, as in that code: so a code depends on the images beside it, and an image alone has other codes.
    We take batches of 128 images, in the order given, and pixels scaled to -1 .. 1. Labels are public and stay as they are.

    Args:
        block: Side of a patch in px.
        depth: Hidden layers with batch normalisation, from 0.
        width: Numbers of a code. Time grows with its square.
        batch: Images that share the statistics of batch normalisation, from 1.
    """

    name: ClassVar[str] = "neuracrypt"
    title: ClassVar[str] = "NeuraCrypt, a random encoder"
    citation: ClassVar[str] = (
        "Yala, Esfahanizadeh, D'Oliveira, Duffy, Ghobadi, Jaakkola, Vaikuntanathan, Barzilay and Medard, NeuraCrypt: Hiding "
        "Private Health Data via Random Neural Networks for Public Training, 2021, arXiv 2106.02484"
    )
    purpose: ClassVar[str] = "Publishing encoded medical images with their labels for training."

    block: int = 16
    depth: int = 4
    width: int = 2048
    batch: int = 128

    def __post_init__(self) -> None:
        """Refuse sizes that no network has."""
        super().__post_init__()
        for field, value, least in (("depth", self.depth, 0), ("width", self.width, 1), ("batch", self.batch, 1)):
            self._require(field, value, isinstance(value, int) and value >= least, f"a whole number from {least}")

    @property
    def ciphertext(self) -> DTypeLike:
        """The dtype of ciphertext: float32."""
        return np.float32

    def _encrypter(self, key: CipherKey) -> Encrypt:
        networks: dict[int, Callable[[Floats, Floats], Floats]] = {}
        orders = key.draws("orders")

        def encrypt(images: NDArray[np.uint8]) -> Floats:
            n, height, width, channels = images.shape
            rows, columns = height // self.block, width // self.block
            if channels not in networks:
                networks[channels] = self._network(key.draws(f"weights/C={channels}"), channels)
            positions = key.draws("positions").normals(rows * columns, self.width)
            codes = np.empty((n, rows * columns, self.width), dtype=np.float32)
            for start in range(0, n, self.batch):
                some = split(images[start : start + self.batch], self.block)
                patches = some.reshape(len(some), rows * columns, -1) * np.float32(2 / 255) - np.float32(1)
                codes[start : start + self.batch] = networks[channels](patches, positions)
            order = orders.orders(n, rows * columns)
            return np.take_along_axis(codes, order[:, :, None], axis=1).reshape(n, rows, columns, self.width)

        return encrypt

    def _network(self, draws: Draws, channels: int) -> Callable[[Floats, Floats], Floats]:
        """Return the encoder of patches (N, k, D) with embeddings (k, width)."""
        sizes = [channels * self.block**2, *[self.width] * (self.depth + 1)]
        first, *hidden, last = [_layer(draws, inputs, self.width) for inputs in sizes]

        def encode(patches: Floats, positions: Floats) -> Floats:
            codes = np.maximum(first(patches), 0)
            for layer in hidden:
                codes = layer(codes)
                mean, variance = codes.mean(axis=(0, 1)), codes.var(axis=(0, 1))
                codes = np.maximum((codes - mean) / np.sqrt(variance + np.float32(_EPSILON)), 0)
            return last(np.maximum(codes + positions, 0))

        return encode


def _layer(draws: Draws, inputs: int, outputs: int) -> Callable[[Floats], Floats]:
    """Return a random linear layer from (..., inputs) to (..., outputs)."""
    bound = np.float32(1 / math.sqrt(inputs))
    weight, bias = draws.uniforms(inputs, outputs) * bound, draws.uniforms(outputs) * bound
    return lambda values: values @ weight + bias
