"""Pixel-wise encryption: each pixel has its own reflections and its own order of colours, and stays where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from timm_encmixer.audit.published_ciphers.blocks import colour_orders, coloured
from timm_encmixer.audit.published_ciphers.cipher import CipherKey, Decrypt, Encrypt
from timm_encmixer.audit.published_ciphers.draws import Draws
from timm_encmixer.audit.published_ciphers.permuting import PermutingCipher


@dataclass(frozen=True, kw_only=True)
class Pixelwise(PermutingCipher):
    """Each number of each pixel is reflected or not, and the colours of each pixel are put into one of their orders.

    For pixel i and channel c: u[i][c] = v[i][q_i[c]], or 255 minus that where the keyed bit r_c(i) is 1, with one of the 6
    orders q_i of three colours.

    As in the paper: random bits for each pixel and channel, the shuffle of colours for each pixel, one key for all images. We
    take independent bits of probability 1/2, so it does not matter which step is first. Public code of others
    (ito-hiroki/learnable_encryption_robustness) has the reflections alone.
    """

    name: ClassVar[str] = "pixelwise"
    title: ClassVar[str] = "Pixel-wise encryption, one key"
    citation: ClassVar[str] = (
        "Sirichotedumrong, Maekawa, Kinoshita and Kiya, Privacy-Preserving Deep Neural Networks with Pixel-based Image "
        "Encryption Considering Data Augmentation in the Encrypted Domain, ICIP 2019, arXiv 1905.01827"
    )
    purpose: ClassVar[str] = "Training on encrypted images with data augmentation."

    block: int = 1

    def _moved(self, places: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        negative = draws.integers(2, *places.shape) == 1
        return coloured(places, draws.integers(colour_orders(places.shape[-1]), len(places))), negative


@dataclass(frozen=True, kw_only=True)
class PixelwisePerImage(Pixelwise):
    """`Pixelwise` with an independent key for each image. Nobody keeps the keys, so there is no decryption.

    The model learns what all keys leave: it is trained on images under many keys, and takes plain images too.
    """

    name: ClassVar[str] = "pixelwise_per_image"
    title: ClassVar[str] = "Pixel-wise encryption, a key an image"
    citation: ClassVar[str] = (
        "Sirichotedumrong, Kinoshita and Kiya, Pixel-Based Image Encryption without Key Management for Privacy-Preserving Deep "
        "Neural Networks, IEEE Access 7, 2019, doi 10.1109/ACCESS.2019.2959017"
    )
    purpose: ClassVar[str] = "Training and inference on encrypted images without sharing a key."
    key_use: ClassVar[str] = "a key an image"

    def _encrypter(self, key: CipherKey) -> Encrypt:
        draws = key.draws("images")

        def encrypt(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
            shape = images.shape[1:]
            return np.concatenate([self._applied(self._image_map(draws, shape), image[None]) for image in images])

        return encrypt

    def _decrypter(self, key: CipherKey) -> Decrypt | None:
        return None
