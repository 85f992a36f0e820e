"""Measuring what was recovered, on images that no attack has met. The definitions are those of docs/audit.md."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from timm_encmixer.audit.methods.block_map import apply, invert, symmetries, unit
from timm_encmixer.audit.photos import portrait
from timm_encmixer.audit.pipeline import accuracy, classify, encrypt_images, stem_outputs
from timm_encmixer.audit.recovery import (
    AdversarialImages,
    GuessedKeys,
    GuessedMatrices,
    RecoveredImages,
    RecoveredKey,
    RecoveredModels,
    RecoveredOrder,
    Recovery,
)
from timm_encmixer.audit.target import Target, Truth
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.ciphers.blocks import join, split

ROW_COSINE = 0.9  # a row of A counts as right from here on; for permutations that means exactly right
SHOWN = 6
NEIGHBOURS, AS_HANDED_IN = "neighbours that are right", "in place as handed in"
UP_TO_SYMMETRIES = "recovered up to mirrors, channel order and sign"


@dataclass(frozen=True)
class Measurement:
    """How much was recovered.

    Args:
        recovered: Share, 0 to 1.
        psnr_db: Mean over images of the peak signal-to-noise ratio, in dB; None where no images were recovered.
        ssim: Mean structural similarity, -1 to 1; likewise.
        accuracy: Share of right answers; None without labels.
        details: Further figures by name.
        pictures: Rows of pictures by name, floats in [0, 1], shape (n, C, H, W).
    """

    recovered: float
    psnr_db: float | None = None
    ssim: float | None = None
    accuracy: float | None = None
    details: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)


@functools.singledispatch
def measure(recovery: Recovery, truth: Truth, target: Target) -> Measurement:
    """Measure what an attack handed in.

    Raises:
        TypeError: It is none of the kinds of recovery.py.
    """
    raise TypeError(f"an attack returned {type(recovery).__name__}")


@measure.register
def _key(recovery: RecoveredKey, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the share of rows of A whose estimate has a cosine of at least ROW_COSINE with the true one.

    Where A has nothing but signs, half of which are right by chance, it is what exceeds a half, doubled. What statistics hardly
    tell apart is said beside it: the same share for the best mirror image, channel order and sign, where that is larger.
    """
    right, details = _right_rows(recovery.matrix, truth), {}
    if truth.cipher.scheme.exact:
        variants = (recovery.matrix @ turn for turn in symmetries(truth.cipher.scheme))
        alike = max(_right_rows(sign * variant, truth) for variant in variants for sign in (1, -1))
        if alike > right:
            details[UP_TO_SYMMETRIES] = alike
    patch = truth.cipher.scheme.patch_size
    images = invert(recovery.matrix, truth.ciphertexts, patch).clamp(0, 1)
    share = None
    if truth.labels is not None:
        share = accuracy(
            lambda plain: classify(truth.encrypted_model, apply(recovery.matrix, plain, patch)), truth.images, truth.labels
        )
    return Measurement(right, *_fidelity(images, truth), share, details, _pictures(images, truth))


@measure.register
def _order(recovery: RecoveredOrder, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the share of blocks at their own positions, up to one turn or mirror image of the whole image.

    A turned image shows all that the image shows. So the best turn is taken first, and everything else is measured after it.
    The details say the share at their own positions as handed in, and the share of neighbours that are right.
    """
    assert truth.order is not None  # the attack runs on ciphers that scramble only
    patch, (height, width) = truth.cipher.scheme.patch_size, truth.images.shape[-2:]
    grid = (height // patch, width // patch)
    handed_in = truth.order[recovery.order].reshape(grid)
    best = max((turn for turn in _turns(handed_in) if turn.shape == grid), key=_in_place)
    ciphertext, restored = (_rearranged(truth.images, blocks, patch) for blocks in (truth.order.reshape(grid), best))
    details = {NEIGHBOURS: _neighbours(best), AS_HANDED_IN: _in_place(handed_in)}
    share = None if truth.labels is None else accuracy(target.classify_plain, restored, truth.labels)
    pictures = {**_pictures(restored, truth), "ciphertext": ciphertext[:SHOWN]}
    return Measurement(_in_place(best), *_fidelity(restored, truth), share, details, pictures)


# An arrangement is the block of the plain image at each position of a grid; int64, shape (rows, columns).


def _in_place(arrangement: Tensor) -> float:
    """Return the share of blocks that are at their own positions."""
    own = torch.arange(arrangement.numel()).reshape(arrangement.shape)
    return float((arrangement == own).double().mean())


def _rearranged(images: Tensor, arrangement: Tensor, patch: int) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] with their blocks arranged so."""
    blocks = split(unit(images), patch).flatten(1, 2)[:, arrangement.flatten()]
    return join(blocks.reshape(-1, *arrangement.shape, blocks.shape[2]), images.shape[1], patch)


def _turns(arrangement: Tensor) -> Iterator[Tensor]:
    """Yield an arrangement in its eight turns and mirror images."""
    for turned in (torch.rot90(arrangement, k) for k in range(4)):
        yield from (turned, turned.flip(1))


def _neighbours(arrangement: Tensor) -> float:
    """Return the share of neighbours in an arrangement that are neighbours in the image, in the same direction."""
    columns = arrangement.shape[1]
    across = (arrangement[:, 1:] == arrangement[:, :-1] + 1) & (arrangement[:, 1:] % columns != 0)
    down = arrangement[1:] == arrangement[:-1] + columns
    return float(torch.cat([across.flatten(), down.flatten()]).double().mean())


@measure.register
def _images(recovery: RecoveredImages, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the mean SSIM, or for thumbnails the mean squared correlation with the plain blocks' mean brightness."""
    features = recovery.sees == "features"
    seen = stem_outputs(truth.encrypted_model, truth.ciphertexts) if features else truth.ciphertexts
    images = recovery.reconstruct(seen).float().clamp(0, 1)
    recovered, face = None, {}
    if recovery.thumbnail:
        patch = truth.cipher.scheme.patch_size
        face = _portrait(recovery, truth)
        recovered = _thumbnail_likeness(images, truth.images, patch)
        images = _enlarged(images, patch, truth.images.shape[1])
    fidelity = _fidelity(images, truth)
    share = None if truth.labels is None else accuracy(target.classify_plain, images, truth.labels)
    recovered = max(0.0, fidelity[1]) if recovered is None else recovered
    return Measurement(recovered, *fidelity, share, pictures={**_pictures(images, truth), **face})


@measure.register
def _models(recovery: RecoveredModels, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the best classifier's accuracy above guessing, as a share of the plain model's."""
    assert truth.labels is not None  # attacks that need labels do not run without
    details = {name: accuracy(c, truth.images, truth.labels) for name, c in recovery.classifiers.items()}
    best = max(details.values())
    details |= {name: accuracy(c, truth.images, truth.labels) for name, c in recovery.control.items()}
    return Measurement(_above_guessing(best, truth), accuracy=best, details=details)


@measure.register
def _guesses(recovery: GuessedKeys, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the best guess's accuracy above guessing, as a share of the plain model's."""
    assert truth.labels is not None  # as above
    scheme = truth.cipher.scheme.without_fingerprint()
    shares = [
        accuracy(
            lambda plain, k=key: classify(truth.encrypted_model, encrypt_images(BlockCipher(k, scheme), plain)),  # type: ignore[misc]
            truth.images,
            truth.labels,
        )
        for key in recovery.keys
    ]
    mean = sum(shares) / len(shares)
    return Measurement(_above_guessing(max(shares), truth), accuracy=max(shares), details={"mean": mean, "lowest": min(shares)})


@measure.register
def _matrices(recovery: GuessedMatrices, truth: Truth, target: Target) -> Measurement:
    """`recovered` as for guesses, but from the mean over all matrices."""
    assert truth.labels is not None  # as above
    patch = truth.cipher.scheme.patch_size
    shares = [
        accuracy(
            lambda plain, a=matrix: classify(truth.encrypted_model, apply(a, plain, patch)),  # type: ignore[misc]
            truth.images,
            truth.labels,
        )
        for matrix in recovery.matrices
    ]
    mean = sum(shares) / len(shares)
    return Measurement(_above_guessing(mean, truth), accuracy=mean, details={"highest": max(shares)})


@measure.register
def _adversarial(recovery: AdversarialImages, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the share of images that fool the plain model that also fool the keyed pipeline.

    Raises:
        ValueError: An image is further from its original than `epsilon`.
    """
    assert target.labels is not None  # as above
    made, count = recovery.images, len(recovery.images)
    originals, labels = target.images[:count], target.labels[:count]
    if int((made.int() - originals.int()).abs().max()) > recovery.epsilon:
        raise ValueError("an adversarial image is further from its original than allowed")
    right = target.classify_plain(originals).argmax(dim=1) == labels
    fooled = (target.classify_plain(made).argmax(dim=1) != labels) & right
    keyed = classify(truth.encrypted_model, encrypt_images(truth.cipher, made)).argmax(dim=1)
    transferred = float((fooled & (keyed != labels)).sum() / fooled.sum().clamp(min=1))
    details = {"fooled on the plain model": float(fooled.sum() / right.sum().clamp(min=1))}
    share = float((keyed == labels).double().mean())
    pictures = {"original": unit(originals[fooled][:SHOWN]), "adversarial, misread": unit(made[fooled][:SHOWN])}
    return Measurement(transferred, accuracy=share, details=details, pictures=pictures if bool(fooled.any()) else {})


def _right_rows(matrix: Tensor, truth: Truth) -> float:
    estimate = matrix.double() / matrix.double().norm(dim=1, keepdim=True).clamp(min=1e-12)
    right = float(((estimate * truth.matrix).sum(dim=1) >= ROW_COSINE).double().mean())
    return max(0.0, 2 * right - 1) if truth.cipher.scheme.cipher == "negpos" else right


def _above_guessing(share: float, truth: Truth) -> float:
    assert truth.plain_accuracy is not None  # there are labels
    room = max(truth.plain_accuracy - truth.guessing, 1e-9)
    return min(1.0, max(0.0, (share - truth.guessing) / room))


def _fidelity(images: Tensor, truth: Truth) -> tuple[float, float]:
    """Return mean PSNR in dB, at most 100 an image, and mean SSIM of images in [0, 1]."""
    plain = unit(truth.images).double()
    error = (images.double() - plain).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
    window = min(7, *(side - 1 + side % 2 for side in plain.shape[-2:]))
    similarity = [
        structural_similarity(  # type: ignore[no-untyped-call]
            a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, win_size=window
        )
        for a, b in zip(plain, images.double(), strict=True)
    ]
    return float((-10 * error.log10()).mean()), float(sum(similarity) / len(similarity))


def _thumbnail_likeness(thumbnails: Tensor, images: Tensor, patch: int) -> float:
    """Return the mean over images of r squared between a thumbnail and the plain blocks' mean brightness."""
    true = torch.nn.functional.avg_pool2d(unit(images).double().mean(dim=1, keepdim=True), patch).flatten(1)
    made = thumbnails.double().mean(dim=1).flatten(1)
    true, made = (rows - rows.mean(dim=1, keepdim=True) for rows in (true, made))
    scale = (true.square().sum(dim=1) * made.square().sum(dim=1)).clamp(min=1e-12)
    return float(((true * made).sum(dim=1).square() / scale).mean())


def _portrait(recovery: RecoveredImages, truth: Truth) -> dict[str, Tensor]:
    """Return a row of three pictures that show what the thumbnail of a larger image shows; none where channels are not RGB."""
    scheme = truth.cipher.scheme
    if scheme.in_chans != 3:
        return {}
    face = portrait(scheme.patch_size)[None]
    seen = encrypt_images(truth.cipher, face)
    row = [unit(face), seen.float(), _enlarged(recovery.reconstruct(seen).float(), scheme.patch_size, 3)]
    return {f"a face at {face.shape[-1]} px": torch.cat(row).clamp(0, 1)}


def _enlarged(thumbnails: Tensor, patch: int, channels: int) -> Tensor:
    return thumbnails.repeat_interleave(patch, 2).repeat_interleave(patch, 3).expand(-1, channels, -1, -1)


def _pictures(images: Tensor, truth: Truth) -> dict[str, Tensor]:
    return {
        "original": unit(truth.images[:SHOWN]),
        "ciphertext": truth.ciphertexts[:SHOWN].float().clamp(0, 1),
        "recovered": images[:SHOWN].float(),
    }
