"""General orthogonal maps of a block about mid-grey, as a matrix; for float images only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from timm_encmixer.ciphers.blocks import is_channels_last, join, split


class OrthogonalMap(nn.Module):
    """The map u = 1/2 + A (v - 1/2) for an orthogonal matrix A, shape (D, D), float64; and a permutation of the blocks.

    The matrix is kept in float64 outside the module's buffers, so that `module.half()` does not round the key. Copies in
    the images' dtype and on their device are made on first use.

    Args:
        matrix: A, shape (D, D), float64.
        order: Where the blocks are permuted too, shape (blocks,), int64: block b of the result is made of block order[b].
    """

    def __init__(self, matrix: Tensor, order: Tensor | None = None) -> None:
        super().__init__()
        self.matrix, self.order = matrix, order
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def inverse(self) -> OrthogonalMap:
        """Return the map that undoes `self`; A^-1 is A^T."""
        return OrthogonalMap(self.matrix.T.contiguous(), None if self.order is None else torch.argsort(self.order))

    def permuted(self, order: Tensor | None) -> OrthogonalMap:
        """Return the map that permutes the blocks too, instead of an earlier permutation of them; None permutes none."""
        return OrthogonalMap(self.matrix, order)

    def rows(self, matrix: Tensor) -> Tensor:
        """Return `matrix` A^T; shape (n, D) in and out, float64."""
        return matrix @ self._like(matrix.dtype, matrix.device).T

    def forward(self, images: Tensor, channels: int, patch: int) -> Tensor:
        """Apply the map to each block of float images (N, C, H, W) in [0, 1]; keeps dtype and memory format.

        The result may leave [0, 1]: each block keeps its distance from mid-grey, not its range.
        """
        dtype = torch.promote_types(images.dtype, torch.float32)
        turned = self.rows(split(images.to(dtype) - 0.5, patch).flatten(0, 2)) + 0.5
        n, _, height, width = images.shape
        blocks = turned.reshape(n, -1, turned.shape[1])
        blocks = blocks if self.order is None else blocks[:, self.order.to(blocks.device)]
        joined = join(blocks.reshape(n, height // patch, width // patch, -1), channels, patch).to(images.dtype)
        return joined.contiguous(memory_format=torch.channels_last) if is_channels_last(images) else joined

    def _like(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        if torch.compiler.is_compiling():
            return self.matrix.to(dtype=dtype, device=device)
        if (dtype, device) not in self._copies:
            self._copies[dtype, device] = self.matrix.to(dtype=dtype, device=device)
        return self._copies[dtype, device]
