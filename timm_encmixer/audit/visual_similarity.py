"""What an eye sees in recovered images: how like the plain ones they are, as handed in and after `put_right`.

Statistics of photos hardly tell apart the order of channels, a negative of one, mirror images and turns, and the contrast. A
picture in wrong colours or upside down shows what the plain one shows, though its error is large. So the best of these is taken
first (`put_right`), and the luminance is compared after it. Controls are the same figures of
pictures that do not show what makes an image this one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from timm_encmixer.ciphers.blocks import join, split

_LUMINANCE = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601
_MOST_DB = 100.0  # of an image without error
_JUDGED = 24  # images by which turns and the order of channels are chosen
_BLURRED_PX = 4  # the blurred control has so many values along each side
_FLAT = 1e-9  # variance below which a channel shows nothing


@dataclass(frozen=True)
class Likeness:
    """How like images are to the plain ones: means over images.

    Args:
        psnr_db: Peak signal-to-noise ratio in dB, at most 100 an image.
        ssim: Structural similarity, -1 to 1.
    """

    psnr_db: float
    ssim: float

    def beats(self, others: Mapping[str, Likeness]) -> bool:
        """Whether the PSNR, or the SSIM, is better than all the others'."""
        return all(self.psnr_db > other.psnr_db for other in others.values()) or all(
            self.ssim > other.ssim for other in others.values()
        )


def likeness(images: Tensor, plain: Tensor) -> Likeness:
    """Compare two batches of images, floats in [0, 1], of the same shape (N, C, H, W)."""
    images, plain = images.double(), plain.double()
    window = min(7, *(side - 1 + side % 2 for side in plain.shape[-2:]))
    similarity = [
        structural_similarity(  # type: ignore[no-untyped-call]
            a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, win_size=window
        )
        for a, b in zip(plain, images, strict=True)
    ]
    return Likeness(psnr_db(images, plain), float(sum(similarity) / len(similarity)))


def psnr_db(images: Tensor, plain: Tensor) -> float:
    """Return the mean over images of the peak signal-to-noise ratio in dB, at most 100 an image; arguments as `likeness`."""
    error = (images.double() - plain.double()).square().mean(dim=(1, 2, 3)).clamp(min=10 ** (-_MOST_DB / 10))
    return float((-10 * error.log10()).mean())


def luminance(images: Tensor) -> Tensor:
    """Return the luminance (N, 1, H, W) of images (N, C, H, W): BT.601 of three channels, else their mean."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    weights = torch.tensor(_LUMINANCE, dtype=images.dtype).reshape(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def seen(images: Tensor, plain: Tensor, patch: int) -> tuple[Likeness, Tensor]:
    """Return the likeness of the luminance after `put_right`, and the images that it returns; arguments as for `put_right`."""
    right = put_right(images, plain, patch)
    return likeness(luminance(right), luminance(plain)), right


def put_right(images: Tensor, plain: Tensor, patch: int) -> Tensor:
    """Return recovered images after the best of the changes that statistics of photos hardly see.

    For all images alike: one turn or mirror image of every block, one of the whole image, and one order of the channels, chosen
    by the correlation of channels with the plain ones. For each channel of each image: the brightness and the contrast of
    least squared error; a negative contrast makes a negative.

    Args:
        images: Floats in [0, 1], shape (N, C, H, W).
        plain: The true images, in the same form.
        patch: Side of a block in px. Where the sides are no multiples of it, blocks are left as they are.
    """
    if any(side % patch for side in images.shape[-2:]):
        patch = min(images.shape[-2:]) if images.shape[-1] == images.shape[-2] else 1
    judged, true = images[:_JUDGED].float(), plain[:_JUDGED].float()
    best: tuple[float, _Turn, list[int]] | None = None
    for turn in _turns(square=images.shape[-1] == images.shape[-2], blocks=patch > 1):
        likenesses = _correlations(turn(judged, patch), true).square().mean(dim=0)
        for order in _orders(images.shape[1]):
            score = float(likenesses[order, range(len(order))].sum())
            if best is None or score > best[0] + 1e-9:  # as handed in comes first
                best = score, turn, order
    assert best is not None  # there is one without a turn
    _, turn, order = best
    return _levelled(turn(images, patch)[:, order], plain)


def controls(plain: Tensor, patch: int) -> dict[str, Likeness]:
    """Return the figures of `seen` for pictures that do not show what an image shows, by name.

    They are the image blurred to 4 x 4 values, its mean colour, and, where there are several images, another image.
    """
    small = torch.nn.functional.adaptive_avg_pool2d(plain, _BLURRED_PX)
    blurred = torch.nn.functional.interpolate(small, plain.shape[-2:], mode="bilinear", align_corners=False)
    colour = plain.mean(dim=(2, 3), keepdim=True).expand_as(plain)
    shown = {"blurred": blurred, "mean colour": colour}
    if len(plain) > 1:
        shown["unrelated"] = plain.roll(1, dims=0)
    return {name: seen(images, plain, patch)[0] for name, images in shown.items()}


@dataclass(frozen=True)
class _Turn:
    """Quarter turns, 0 to 3, and a mirror image before them: of each block, and of the arrangement of blocks."""

    block: tuple[int, bool]
    whole: tuple[int, bool]

    def __call__(self, images: Tensor, patch: int) -> Tensor:
        if self.block == self.whole == (0, False):
            return images
        cut = split(images, patch)
        blocks = cut.reshape(*cut.shape[:3], images.shape[1], patch, patch)
        turned = _turned(_turned(blocks, self.block, (4, 5)), self.whole, (1, 2))
        return join(turned.flatten(3), images.shape[1], patch)


def _turned(tensor: Tensor, turn: tuple[int, bool], dims: tuple[int, int]) -> Tensor:
    quarters, mirrored = turn
    return torch.rot90(tensor.flip(dims[1]) if mirrored else tensor, quarters, dims)


def _turns(*, square: bool, blocks: bool) -> Iterator[_Turn]:
    every = list(itertools.product(range(4), (False, True)))
    of_whole = every if square else [turn for turn in every if turn[0] % 2 == 0]
    for whole, block in itertools.product(of_whole, every if blocks else every[:1]):
        yield _Turn(block, whole)


def _orders(channels: int) -> list[list[int]]:
    return [list(order) for order in itertools.permutations(range(channels))] if channels <= 3 else [list(range(channels))]


def _centred(images: Tensor) -> Tensor:
    flat = images.flatten(2)
    return flat - flat.mean(dim=2, keepdim=True)


def _correlations(images: Tensor, plain: Tensor) -> Tensor:
    """Return the correlation of each channel with each plain one, shape (N, C, C); 0 for one that shows nothing."""
    one, other = (centred / centred.norm(dim=2, keepdim=True).clamp(min=_FLAT) for centred in map(_centred, (images, plain)))
    likenesses: Tensor = one @ other.mT
    return likenesses


def _levelled(images: Tensor, plain: Tensor) -> Tensor:
    """Return images whose channels have the brightness and contrast of least squared error."""
    one, other = _centred(images.double()), _centred(plain.double())
    variance = one.square().mean(dim=2)
    slope = torch.where(variance > _FLAT, (one * other).mean(dim=2) / variance.clamp(min=_FLAT), 0.0)
    fitted = slope[..., None] * one + plain.double().flatten(2).mean(dim=2, keepdim=True)
    return fitted.reshape_as(images).clamp(0, 1).to(plain)
