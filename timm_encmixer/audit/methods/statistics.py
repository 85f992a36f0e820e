"""Second-order statistics of image blocks: what natural photos have in common, and what every cipher of the family keeps.

With u - 1/2 = A (v - 1/2) the covariances of ciphertext blocks are A S A^T for the covariances S of plain blocks, within a
block and between neighbours. Those of any public photos are nearly the same S.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from timm_encmixer.ciphers.blocks import split

OFFSETS = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # rows down, columns to the right, in blocks
BUNDLED_STATISTICS = Path(__file__).parents[1] / "public-statistics.safetensors"
_BATCH = 256


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of blocks about mid-grey, all float64.

    Args:
        mean: Mean block, shape (D,).
        covariances: By offset: covariance of a block with the one at that offset, shape (D, D).
        light: Mean block of the upper half of the images less that of the lower half, shape (D,): light comes from above.
        patch_size: P in pixels; 0 where the blocks are not pixels.
        images: How many images went in.
    """

    mean: Tensor
    covariances: dict[tuple[int, int], Tensor]
    light: Tensor
    patch_size: int = 0
    images: int = 0

    @property
    def within(self) -> Tensor:
        """Covariance within a block, shape (D, D)."""
        return self.covariances[0, 0]

    def save(self, path: Path) -> None:
        """Write a safetensors file, in float32."""
        tensors = {"mean": self.mean, "light": self.light}
        tensors |= {f"covariance.{down}.{right}": matrix for (down, right), matrix in self.covariances.items()}
        metadata = {"patch_size": str(self.patch_size), "images": str(self.images)}
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, path, metadata)

    @classmethod
    def load(cls, path: Path = BUNDLED_STATISTICS) -> BlockStatistics:
        """Read what `save` wrote."""
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).double() for name in file.keys()}  # noqa: SIM118  # no dict
            metadata = file.metadata()
        covariances = {}
        for name, tensor in tensors.items():
            kind, _, offset = name.partition(".")
            if kind == "covariance":
                down, right = offset.split(".")
                covariances[int(down), int(right)] = tensor
        return cls(tensors["mean"], covariances, tensors["light"], int(metadata["patch_size"]), int(metadata["images"]))


def image_statistics(images: Tensor, patch: int) -> BlockStatistics:
    """Return the statistics of images (N, C, H, W), uint8 or floats in [0, 1], cut into blocks of `patch` pixels."""
    statistics = block_statistics([blocks_of(batch, patch) for batch in torch.split(images, _BATCH)])
    return BlockStatistics(statistics.mean, statistics.covariances, statistics.light, patch, len(images))


def blocks_of(images: Tensor, patch: int) -> Tensor:
    """Return images (N, C, H, W), uint8 or floats in [0, 1], as blocks about mid-grey (N, rows, columns, D), float64."""
    return split(_unit(images), patch) - 0.5


def block_statistics(batches: list[Tensor]) -> BlockStatistics:
    """Return the statistics of blocks that are given as batches of shape (N, rows, columns, D)."""
    batches = [batch.double() for batch in batches]
    count = sum(len(batch) for batch in batches)
    _, rows, columns, size = batches[0].shape
    mean = sum((batch.sum(dim=(0, 1, 2)) for batch in batches), torch.zeros(size, dtype=torch.float64))
    mean = mean / (count * rows * columns)
    light = torch.zeros(size, dtype=torch.float64)
    covariances = {}
    for down, right in OFFSETS:
        if down < rows and abs(right) < columns:
            total = torch.zeros(size, size, dtype=torch.float64)
            for batch in batches:
                centred = batch - mean
                near = centred[:, : rows - down, max(0, -right) : columns - max(0, right)].flatten(0, 2)
                far = centred[:, down:, max(0, right) : columns + min(0, right)].flatten(0, 2)
                total += near.T @ far
            covariances[down, right] = total / (count * (rows - down) * (columns - abs(right)))
    half = rows // 2
    for batch in batches if half else []:
        light += (batch[:, :half].mean(dim=(1, 2)) - batch[:, rows - half :].mean(dim=(1, 2))).sum(dim=0) / count
    return BlockStatistics(mean, covariances, light, images=count)


def common(one: BlockStatistics, other: BlockStatistics) -> tuple[Tensor, Tensor]:
    """Return the covariances at the offsets that both have, each stacked to shape (K, D, D), within a block first."""
    offsets = [offset for offset in OFFSETS if offset in one.covariances and offset in other.covariances]
    return torch.stack([one.covariances[o] for o in offsets]), torch.stack([other.covariances[o] for o in offsets])


def correlation(covariance: Tensor) -> Tensor:
    """Return a covariance with its diagonal scaled to 1; positions that never vary get correlation 0."""
    scale = covariance.diagonal().clamp(min=1e-12).rsqrt()
    return covariance * scale * scale[:, None]


def _unit(images: Tensor) -> Tensor:
    return images.double() / 255 if images.dtype == torch.uint8 else images.double()
