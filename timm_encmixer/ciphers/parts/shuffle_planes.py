"""A permutation of the positions of each colour channel by itself: numbers keep their channel.

So it commutes with any normalisation per channel. The stem reads ciphertext that is normalised as the plain image is, and the
normalisation leaves no constant to be folded. What it leaves too is each channel's histogram (docs/security.md).
Source: our own; a shuffle as in arXiv 2207.11939, section 3, for each channel.
"""

from __future__ import annotations

import numpy as np

from timm_encmixer.ciphers.key_stream import KeyStream, permuted
from timm_encmixer.ciphers.signed_permutation import SignedPermutation


def shuffle_planes(stream: KeyStream, channels: int, patch: int) -> SignedPermutation:
    """Return u[c, i] = v[c, p_c[i]] for independent uniformly random permutations p_c of the P * P positions."""
    plane, words = patch**2, stream.words()
    source = [np.array(permuted(plane, words)) + channel * plane for channel in range(channels)]
    return SignedPermutation(np.concatenate(source), np.zeros(channels * plane, dtype=bool))
