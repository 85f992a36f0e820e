"""The paper's cipher: a keyed permutation of a block's positions. Source: arXiv 2207.11939, section 3."""

from __future__ import annotations

import numpy as np

from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.ciphers.signed_permutation import SignedPermutation


def shuffle(stream: KeyStream, channels: int, patch: int) -> SignedPermutation:
    """Return u[i] = v[p[i]] for a uniformly random permutation p of a block's positions."""
    block_size = channels * patch**2
    return SignedPermutation(np.array(stream.permutation(block_size)), np.zeros(block_size, dtype=bool))
