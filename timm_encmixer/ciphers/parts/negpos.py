"""The negative-positive transform: a keyed half of a block's positions is reflected about mid-grey (x -> 255 - x)."""

from __future__ import annotations

import numpy as np

from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.ciphers.signed_permutation import SignedPermutation


def negpos(stream: KeyStream, channels: int, patch: int) -> SignedPermutation:
    """Return u[i] = 1 - v[i] at the first floor(D / 2) positions of a random permutation, u[i] = v[i] elsewhere."""
    block_size = channels * patch**2
    negative = np.zeros(block_size, dtype=bool)
    negative[stream.permutation(block_size)[: block_size // 2]] = True
    return SignedPermutation(np.arange(block_size), negative)
