"""Measuring what was recovered, on images that no attack has met. The definitions are those of docs/audit.md."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from timm_encmixer.audit.methods.arrangement import in_place, neighbours, rearranged, turns
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
from timm_encmixer.audit.visual_similarity import Likeness, likeness, luminance, psnr_db, seen
from timm_encmixer.errors import AuditError

ROW_COSINE = 0.9  # a row of A counts as right from here on; for permutations that means exactly right
SHOWN = 6
_CLEARLY = 0.1  # what the accuracy under a recovered key must exceed that under wrong ones by
_WORTH_SHOWING_DB = 1.0  # that pictures gain by being put right
NEIGHBOURS, AS_HANDED_IN = "neighbours that are right", "in place as handed in"
UP_TO_SYMMETRIES = "recovered up to mirrors, channel order and sign"


@dataclass(frozen=True)
class Measurement:
    """How much was recovered.

    Args:
        recovered: Share, 0 to 1.
        handed_in: Likeness of images to the plain ones; None where no images were recovered.
        seen: Likeness of their luminance after `put_right`; None where no images were recovered.
        accuracy: Share of right answers; None without labels.
        details: Further figures by name.
        pictures: Rows of pictures by name, floats in [0, 1], shape (n, C, H, W).
        put_right: Images after `put_right`, shape (N, C, H, W).
        is_likeness: `recovered` is an SSIM. Pictures that show nothing have an SSIM above 0 too, so it decides no verdict.
        use: Of a recovered key: the encrypted model's accuracy above guessing, as a share of the plain model's; 0 where wrong
            keys give nearly as much.
    """

    recovered: float
    handed_in: Likeness | None = None
    seen: Likeness | None = None
    accuracy: float | None = None
    details: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    put_right: Tensor | None = None
    is_likeness: bool = False
    use: float = 0.0


@functools.singledispatch
def measure(recovery: Recovery, truth: Truth, target: Target) -> Measurement:
    """Measure what an attack handed in.

    Raises:
        TypeError: It is of no kind that recovery.py has.
    """
    raise TypeError(f"an attack returned {type(recovery).__name__}")


@measure.register
def _key(recovery: RecoveredKey, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the share of rows of A whose estimate has a cosine of at least ROW_COSINE with the true one.

    If A has signs alone, half of them are right by chance. Then it is twice what exceeds a half. Statistics hardly tell apart
    mirror images, channel orders and signs. So the details say the share for the best of these, where that is larger. Without
    a model there is no true A, and the images that the key gives are measured as images are.
    """
    patch, size = target.patch_size, truth.images.shape[1] * target.patch_size**2
    if not (isinstance(recovery.matrix, Tensor) and recovery.matrix.shape == (size, size)):
        raise AuditError("RecoveredKey", f"a matrix ({size}, {size})", _kind_of(recovery.matrix), "return such a tensor")
    images = invert(recovery.matrix, truth.ciphertexts, patch).clamp(0, 1)
    if truth.model is None:
        return _of_images(images, truth, target)
    cipher, encrypted_model = truth.model.cipher, truth.model.encrypted_model
    right, details = _right_rows(recovery.matrix, truth), {}
    if cipher.scheme.exact:
        variants = (recovery.matrix @ turn for turn in symmetries(cipher.scheme))
        alike = max(_right_rows(sign * variant, truth) for variant in variants for sign in (1, -1))
        if alike > right:
            details[UP_TO_SYMMETRIES] = alike
    share = None
    if truth.labels is not None:
        share = accuracy(
            lambda plain: classify(encrypted_model, apply(recovery.matrix, plain, patch)), truth.images, truth.labels
        )
    measured = _of_images(images, truth, target, classified=False)
    return replace(
        measured,
        recovered=right,
        accuracy=share,
        details=details,
        is_likeness=False,
        use=_use(share, truth),
    )


def _use(share: float | None, truth: Truth) -> float:
    """Return `Measurement.use` of a key under which the encrypted model is right on a share of the images."""
    use = 0.0 if share is None else _above_guessing(share, truth)
    if use <= _CLEARLY:
        return 0.0
    of_wrong_keys = _above_guessing(truth.accuracy_under_wrong_keys, truth)
    return use if use > of_wrong_keys + _CLEARLY else 0.0


def _of_images(images: Tensor, truth: Truth, target: Target, *, classified: bool = True) -> Measurement:
    """Measure images (N, C, H, W) in [0, 1]: how like the plain ones they are, and what the plain model reads in them."""
    plain = unit(truth.images)
    if not bool(torch.isfinite(images).all()):
        raise AuditError("recovery", "finite images in [0, 1]", "numbers that are not finite", "return such images")
    as_handed_in, (after, right) = likeness(images, plain), seen(images, plain, target.patch_size)
    share = accuracy(target.classify_plain, images, truth.labels) if classified and truth.labels is not None else None
    pictures = {
        "original": plain[:SHOWN],
        "ciphertext": _shown(truth.ciphertexts, plain),
        "recovered": images[:SHOWN].float(),
    }
    if after.psnr_db - psnr_db(luminance(images), luminance(plain)) > _WORTH_SHOWING_DB:
        pictures["recovered, put right"] = right[:SHOWN].float()
    similar = max(0.0, as_handed_in.ssim)
    return Measurement(similar, as_handed_in, after, share, pictures=pictures, put_right=right, is_likeness=True)


def _shown(ciphertexts: Tensor, plain: Tensor) -> Tensor:
    """Return ciphertexts as pictures; of other numbers of channels their mean, stretched to grey values."""
    some = ciphertexts[:SHOWN].float()
    if some.shape[1] not in (1, 3):
        some = some.mean(dim=1, keepdim=True)
        low, high = some.amin(dim=(1, 2, 3), keepdim=True), some.amax(dim=(1, 2, 3), keepdim=True)
        some = (some - low) / (high - low).clamp(min=1e-9)
    if some.shape[-2:] != plain.shape[-2:]:
        some = torch.nn.functional.interpolate(some, plain.shape[-2:], mode="nearest")
    return some.clamp(0, 1)


@measure.register
def _order(recovery: RecoveredOrder, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the share of blocks at their own positions, up to one turn or mirror image of the whole image.

    A turned image shows all that the image shows. So the best turn is taken first, and everything else is measured after it.
    The details say the share at their own positions as handed in, and the share of neighbours that are right.
    """
    assert truth.model is not None  # the attack runs on models
    assert truth.model.order is not None  # whose ciphers scramble
    patch, (height, width) = target.patch_size, truth.images.shape[-2:]
    grid = (height // patch, width // patch)
    handed_in = truth.model.order[recovery.order].reshape(grid)
    best = max((turn for turn in turns(handed_in) if turn.shape == grid), key=in_place)
    ciphertext, restored = (rearranged(truth.images, blocks, patch) for blocks in (truth.model.order.reshape(grid), best))
    details = {NEIGHBOURS: neighbours(best), AS_HANDED_IN: in_place(handed_in)}
    measured = _of_images(restored, truth, target)
    measured.pictures["ciphertext"] = ciphertext[:SHOWN]
    return replace(measured, recovered=in_place(best), details=details, is_likeness=False)


@measure.register
def _images(recovery: RecoveredImages, truth: Truth, target: Target) -> Measurement:
    """`recovered` is the mean SSIM, or for thumbnails the mean squared correlation with the plain blocks' mean brightness."""
    images = recovery.reconstruct(_met(recovery, truth).clone())
    patch, (count, channels, height, width) = target.patch_size, truth.images.shape
    shape = (count, 1, height // patch, width // patch) if recovery.thumbnail else (count, channels, height, width)
    in_colour = (count, channels, *shape[2:]) if recovery.thumbnail else shape
    if not (isinstance(images, Tensor) and images.shape in (shape, in_colour)):
        raise AuditError("RecoveredImages", f"a tensor {shape}", _kind_of(images), "return as many images as were given")
    images = images.detach().float().clamp(0, 1)
    if not recovery.thumbnail:
        return _of_images(images, truth, target)
    measured = _of_images(enlarged(images, patch, truth.images.shape[1]), truth, target)
    measured.pictures.update(_portrait(recovery, truth))
    return replace(measured, recovered=_thumbnail_likeness(images, truth.images, patch), is_likeness=False)


def _kind_of(thing: object) -> str:
    return f"a tensor {tuple(thing.shape)}" if isinstance(thing, Tensor) else type(thing).__name__


def _met(recovery: RecoveredImages, truth: Truth) -> Tensor:
    """Return what the attacker sees of the images that are measured."""
    if recovery.sees != "features":
        return truth.ciphertexts
    assert truth.model is not None  # features are a model's
    return stem_outputs(truth.model.encrypted_model, truth.ciphertexts)


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
    shares = [truth.accuracy_under(key) for key in recovery.keys]
    mean = sum(shares) / len(shares)
    return Measurement(_above_guessing(max(shares), truth), accuracy=max(shares), details={"mean": mean, "lowest": min(shares)})


@measure.register
def _matrices(recovery: GuessedMatrices, truth: Truth, target: Target) -> Measurement:
    """`recovered` as for guesses, but from the mean over all matrices."""
    assert truth.labels is not None  # as above
    assert truth.model is not None
    patch, encrypted_model = target.patch_size, truth.model.encrypted_model
    shares = [
        accuracy(
            lambda plain, a=matrix: classify(encrypted_model, apply(a, plain, patch)),  # type: ignore[misc]
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
    assert truth.model is not None
    made, count = recovery.images, len(recovery.images)
    originals, labels = target.images[:count], target.labels[:count]
    if int((made.int() - originals.int()).abs().max()) > recovery.epsilon:
        raise ValueError("an adversarial image is further from its original than allowed")
    right = target.classify_plain(originals).argmax(dim=1) == labels
    fooled = (target.classify_plain(made).argmax(dim=1) != labels) & right
    keyed = classify(truth.model.encrypted_model, encrypt_images(truth.model.cipher, made)).argmax(dim=1)
    transferred = float((fooled & (keyed != labels)).sum() / fooled.sum().clamp(min=1))
    details = {"fooled on the plain model": float(fooled.sum() / right.sum().clamp(min=1))}
    share = float((keyed == labels).double().mean())
    pictures = {"original": unit(originals[fooled][:SHOWN]), "adversarial, misread": unit(made[fooled][:SHOWN])}
    return Measurement(transferred, accuracy=share, details=details, pictures=pictures if bool(fooled.any()) else {})


def _right_rows(matrix: Tensor, truth: Truth) -> float:
    assert truth.model is not None  # rows are compared where there is a true A
    estimate = matrix.double() / matrix.double().norm(dim=1, keepdim=True).clamp(min=1e-12)
    right = float(((estimate * truth.model.matrix).sum(dim=1) >= ROW_COSINE).double().mean())
    facts = truth.model.cipher.scheme.facts
    return max(0.0, 2 * right - 1) if facts.inverts and not facts.moves else right


def _above_guessing(share: float, truth: Truth) -> float:
    assert truth.plain_accuracy is not None  # there are labels
    room = max(truth.plain_accuracy - truth.guessing, 1e-9)
    return min(1.0, max(0.0, (share - truth.guessing) / room))


def _thumbnail_likeness(thumbnails: Tensor, images: Tensor, patch: int) -> float:
    """Return the mean over images of r squared between a thumbnail and the plain blocks' mean brightness."""
    true = torch.nn.functional.avg_pool2d(unit(images).double().mean(dim=1, keepdim=True), patch).flatten(1)
    made = thumbnails.double().mean(dim=1).flatten(1)
    true, made = (rows - rows.mean(dim=1, keepdim=True) for rows in (true, made))
    scale = (true.square().sum(dim=1) * made.square().sum(dim=1)).clamp(min=1e-12)
    return float(((true * made).sum(dim=1).square() / scale).mean())


def _portrait(recovery: RecoveredImages, truth: Truth) -> dict[str, Tensor]:
    """Return a row of three pictures that show what the thumbnail of a larger image shows; none where there is no such image.

    Channels must be RGB, and without a model the cipher may take images of one size only.
    """
    if truth.model is None or truth.model.cipher.scheme.in_chans != 3:
        return {}
    patch = truth.model.cipher.scheme.patch_size
    face = portrait(patch)[None]
    met = encrypt_images(truth.model.cipher, face)
    row = [unit(face), met.float(), enlarged(recovery.reconstruct(met).float(), patch, 3)]
    return {f"a face at {face.shape[-1]} px": torch.cat(row).clamp(0, 1)}


def enlarged(thumbnails: Tensor, patch: int, channels: int) -> Tensor:
    """Return thumbnails (N, 1 or channels, h, w) as images (N, channels, h * patch, w * patch)."""
    return thumbnails.repeat_interleave(patch, 2).repeat_interleave(patch, 3).expand(-1, channels, -1, -1)
