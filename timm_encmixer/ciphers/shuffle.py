"""The paper's cipher: a keyed permutation of a block's positions. Source: arXiv 2207.11939, section 3."""

from __future__ import annotations

import numpy as np

from timm_encmixer.ciphers.derive import KeyStream
from timm_encmixer.ciphers.signed_permutation import SignedPermutation


def shuffle(stream: KeyStream, block_size: int) -> SignedPermutation:
    """Return u[i] = v[p[i]] for a uniformly random permutation p of the `block_size` positions."""
    return SignedPermutation(np.array(stream.permutation(block_size)), np.zeros(block_size, dtype=bool))
