"""A keyed Haar-random orthogonal matrix: the largest cipher of the family. Its ciphertext is float, never PNG.

Source: Mezzadri, How to generate random matrices from the classical compact groups (arXiv math-ph/0609050).
"""

from __future__ import annotations

import numpy as np

from timm_encmixer.ciphers.key_stream import KeyStream
from timm_encmixer.ciphers.orthogonal_map import OrthogonalMap


def orthogonal(stream: KeyStream, channels: int, patch: int) -> OrthogonalMap:
    """Return u = 1/2 + A (v - 1/2), with A = Q sign(diag R) of the QR decomposition of a Gaussian matrix."""
    block_size = channels * patch**2
    count = block_size * block_size
    gaussian = stream.gaussians(count + count % 2)[:count].reshape(block_size, block_size)
    q, r = np.linalg.qr(gaussian)
    return OrthogonalMap(q * np.sign(np.diagonal(r)))
