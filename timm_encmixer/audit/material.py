"""What an attacker may hold, and nothing else: an attack sees a `Held`, never the key or the images it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from timm_encmixer.audit.statistics import BlockStatistics
from timm_encmixer.scheme import Scheme

MATERIAL = {
    "ciphertexts": "ciphertext images",
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
    "nothing": "nothing",
}


class Held:
    """What one attacker holds in one run of one attack.

    Args:
        scheme: The public record, without the key's fingerprint.
        setting: What is varied, by name.
        things: The material by its name in `MATERIAL`; anything else raises LookupError when it is asked for.
    """

    def __init__(self, scheme: Scheme, setting: Mapping[str, float], things: Mapping[str, Any]) -> None:
        self.scheme, self.setting, self._things = scheme, setting, things

    def _get(self, name: str) -> Any:
        if name not in self._things:
            raise LookupError(f"this attacker does not hold {MATERIAL[name]}")
        return self._things[name]

    @property
    def ciphertexts(self) -> Tensor:
        """Floats in [0, 1] (`orthogonal` may leave it), shape (N, C, H, W)."""
        return self._get("ciphertexts")  # type: ignore[no-any-return]

    @property
    def public_statistics(self) -> BlockStatistics:
        """Of photos that have nothing to do with the images under attack."""
        return self._get("public_statistics")  # type: ignore[no-any-return]

    @property
    def photos(self) -> Tensor:
        """Public photos at the model's input size, uint8, shape (N, C, H, W)."""
        return self._get("photos")  # type: ignore[no-any-return]

    @property
    def encrypted_model(self) -> nn.Module:
        """Takes ciphertext normalised by mean = std = 1/2."""
        return self._get("encrypted_model")  # type: ignore[no-any-return]

    @property
    def base_model(self) -> nn.Module:
        """A plain model with its `pretrained_cfg`."""
        return self._get("base_model")  # type: ignore[no-any-return]

    @property
    def known_blocks(self) -> tuple[Tensor, Tensor]:
        """Plain and encrypted blocks about mid-grey, each of shape (n, D), float64."""
        return self._get("known_blocks")  # type: ignore[no-any-return]

    @property
    def image_pairs(self) -> tuple[Tensor, Tensor]:
        """Plain and encrypted images, floats, each of shape (N, C, H, W)."""
        return self._get("image_pairs")  # type: ignore[no-any-return]

    @property
    def oracle(self) -> Callable[[Tensor], Tensor]:
        """Encrypts uint8 images of the model's input size, shape (N, C, H, W), to floats; calls are counted."""
        return self._get("oracle")  # type: ignore[no-any-return]

    @property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Plain uint8 images (N, C, H, W) and labels (N,)."""
        return self._get("labelled")  # type: ignore[no-any-return]

    @property
    def features(self) -> Tensor:
        """Outputs of the stem convolution, shape (N, dim, H/P, W/P)."""
        return self._get("features")  # type: ignore[no-any-return]

    @property
    def other_model(self) -> tuple[Tensor, Tensor]:
        """Stem rows of another model, plain (re-centred) and encrypted with the same key; each (dim, D), float64."""
        return self._get("other_model")  # type: ignore[no-any-return]
