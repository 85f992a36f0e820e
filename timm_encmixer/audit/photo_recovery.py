"""`recover`: pictures out of ciphertexts that somebody collected, by the attacks that ciphertext alone allows."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timm_encmixer.audit.attack import NOT_RUN, Attack, verdict_of
from timm_encmixer.audit.attacks.registry import ATTACKS
from timm_encmixer.audit.effort import Effort
from timm_encmixer.audit.material import MATERIAL
from timm_encmixer.audit.measures import enlarged, measure
from timm_encmixer.audit.methods.block_map import invert, unit
from timm_encmixer.audit.pipeline import encrypt_images
from timm_encmixer.audit.preparation import ImageSource, opened_public, public_material
from timm_encmixer.audit.recovery import RecoveredImages, RecoveredKey, RecoveredOrder
from timm_encmixer.audit.runner import chosen_attacks
from timm_encmixer.audit.target import Target, Truth
from timm_encmixer.audit.visual_similarity import Likeness, controls
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.ciphers.blocks import join, split
from timm_encmixer.errors import AuditError
from timm_encmixer.evaluation.accuracy import wrong_key
from timm_encmixer.evaluation.threads import threads_for
from timm_encmixer.scheme import Preprocessing, Scheme

Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
_COLLECTED = ("ciphertexts", "scrambled", "public_statistics", "photos", "own_ciphers")
Reconstruct = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recovered:
    """What `recover` made of ciphertexts.

    Args:
        images: The recovered pictures, uint8 (N, H, W, C), in the order of the ciphertexts.
        attacks: Names of the attacks that were run, one after the other.
        collected: How many ciphertexts they used.
        seconds: How long they took.
        verdict: "broken", "partly broken" or "holds", by the thresholds of docs/audit.md; "not run" where no picture was known.
        finding: The verdict in words: what it means for the model's owner.
        psnr_db: Of the known pictures' luminance, put right, in dB. None if no picture was known.
        ssim: Of the same luminance, -1 to 1. None if no picture was known.
    """

    images: NDArray[np.uint8] = field(repr=False)
    attacks: tuple[str, ...]
    collected: int
    seconds: float
    verdict: str
    finding: str
    psnr_db: float | None = None
    ssim: float | None = None


def recover(
    ciphertexts: Images,
    scheme: Scheme,
    *,
    plain: Images | None = None,
    attacks: Iterable[str | Attack] | None = None,
    public_images: ImageSource | None = None,
    public_split: str | None = None,
    budget: str = "quick",
    seed: int = 0,
) -> Recovered:
    """Recover pictures from ciphertexts of one key, as somebody does who collects them and has neither key nor model.

    Args:
        ciphertexts: uint8 images of one size, (N, H, W, C) or as many (H, W, C), C being 1 or 3. One is enough to try.
        scheme: The record of their cipher: that of the model, or `te.Scheme(cipher=..., patch_size=...)`. The fingerprint does
            not matter.
        plain: The true pictures of the first ciphertexts, where they are known; as many as are known. No attack sees them. The
            verdict is measured on these.
        attacks: Attacks by name or with parameters, run one after the other: one that finds the order of the blocks first, then
            one that recovers blocks. None takes the best that the cipher and the material allow.
        public_images: Public photos, as for `run`; None takes the statistics that come with the package, where they fit.
        public_split: As for `run`.
        budget: As for `run`.
        seed: As for `run`.

    Raises:
        AuditError: Images that are not uint8 or of several sizes, or an attack that cannot be run on ciphertext alone.
        DataError: As for `run`.
    """
    seen = _batch(ciphertexts, "ciphertexts")
    known = seen[:0] if plain is None else _batch(plain, "plain")
    if known.shape[1:] != seen.shape[1:] or len(known) > len(seen):
        got = f"{len(known)} of {tuple(known.shape[1:])} for {len(seen)} of {tuple(seen.shape[1:])}, as (C, H, W)"
        raise AuditError("plain", "pictures of the ciphertexts' size, at most as many", got, "give the right ones")
    _check_sizes(seen, scheme)
    plain_size = Preprocessing(input_size=_shape(seen), mean=(0.5,) * seen.shape[1], std=(0.5,) * seen.shape[1], crop_pct=1.0)
    statistics, photos = public_material(
        opened_public(public_images, public_split), plain_size, scheme.patch_size, seed=seed, progress=False
    )
    target = CollectedTarget(
        scheme=scheme.without_fingerprint(),
        preprocessing=plain_size,
        plain_model=None,
        images=known,
        labels=None,
        test_images=known,
        test_labels=None,
        public_statistics=statistics,
        photos=photos,
        seed=seed,
        ciphertexts=unit(seen),
    )
    start = time.perf_counter()
    with threads_for(plain_size.input_size):
        chosen = chosen_attacks(_best(target) if attacks is None else attacks, budget, seed)
        reconstruct = _chained(chosen, target, Effort(budget, seed))
        pictures = reconstruct(target.seen).float().clamp(0, 1)
        seconds = time.perf_counter() - start
        verdict, finding, likeness = _judged(reconstruct, target, chosen[-1])
    images = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    names = tuple(attack.name for attack in chosen)
    figures = (None, None) if likeness is None else (likeness.psnr_db, likeness.ssim)
    return Recovered(images, names, len(seen), seconds, verdict, finding, *figures)


@dataclass(kw_only=True)
class CollectedTarget(Target):
    """Collected ciphertexts. The record is known, and perhaps some plain pictures, which recovery is measured on.

    Args:
        scheme: The public record, without the key's fingerprint.
        preprocessing: The size of the images.
    """

    scheme: Scheme
    preprocessing: Preprocessing
    order: Tensor | None = None  # of the blocks, once an attack has found it: for each position, the block of the ciphertext

    @property
    def cipher(self) -> str:
        """Name of the cipher."""
        return self.scheme.cipher

    @property
    def patch_size(self) -> int:
        """Side of a block in px."""
        return self.scheme.patch_size

    @property
    def plain(self) -> Preprocessing:
        """The size of the images."""
        return self.preprocessing

    def encrypt(self, images: Tensor) -> Tensor:
        """Raise: nobody here has the key."""
        raise AuditError("ciphertexts", "a key to encrypt with", "none", "name an attack that needs ciphertext alone")

    def scheme_for(self, assumed: str) -> Scheme:
        """Return the record of blocks at their own positions, as attacks on blocks take it."""
        return _within_blocks(self.scheme)

    def lacks(self, name: str) -> bool:
        """Whether this material is missing."""
        return name not in _COLLECTED or (MATERIAL[name].optional and self.give(name, {}) is None)

    def available(self, setting: str) -> float:
        """Return how many ciphertexts there are."""
        return len(self.seen) if setting in ("ciphertexts", "scrambled") else math.inf

    def truth(self) -> Truth:
        """Return what recovery is measured against: the known pictures."""
        known = len(self.images)
        shown = controls(unit(self.images), self.patch_size)
        return Truth(self.images, None, self.seen[:known], shown, None, 0.0, None)

    def arranged(self, images: Tensor) -> Tensor:
        """Return images with their blocks in order, as far as that is known."""
        return images if self.order is None else in_order(images, self.order, self.patch_size)

    def _count(self, name: str, setting: Mapping[str, float]) -> int:
        return int(setting.get(name, len(self.seen)))

    def _give_ciphertexts(self, setting: Mapping[str, float]) -> Tensor:
        return self.arranged(self.seen[: self._count("ciphertexts", setting)])

    def _give_scrambled(self, setting: Mapping[str, float]) -> Tensor | None:
        unordered = self.scheme.scrambles and self.order is None
        return self.seen[: self._count("scrambled", setting)] if unordered else None

    def _give_own_ciphers(self, setting: Mapping[str, float]) -> Callable[[int], Reconstruct]:
        scheme = _within_blocks(self.scheme)
        return lambda index: functools.partial(encrypt_images, BlockCipher(wrong_key(index), scheme))


def in_order(images: Tensor, order: Tensor, patch: int) -> Tensor:
    """Return images (N, C, H, W) with block `order[i]` at position i."""
    blocks = split(images, patch)
    return join(blocks.flatten(1, 2)[:, order].reshape(blocks.shape), images.shape[1], patch)


def _within_blocks(scheme: Scheme) -> Scheme:
    """Return the record without the scrambling of blocks; as it is where nothing else would be left."""
    within = scheme.facts.within_blocks
    return scheme if within is None else scheme.replace(cipher=within.name, grid=None, positions=None)


def _best(target: CollectedTarget) -> list[str]:
    """Return the attacks that recover most, as far as the cipher and the material allow them."""
    chosen = [_lowest(target, of_order=True)] if target.scheme.scrambles else []
    if target.scheme.facts.within_blocks is not None:
        chosen.append(_lowest(target, of_order=False))
    return chosen


def _lowest(target: CollectedTarget, *, of_order: bool) -> str:
    """Return the attack of lowest `recover_rank` that can run: of those that find the order of blocks, or of the others."""
    ranked = ((attack.recover_rank, name) for name, attack in ATTACKS.items() if attack.recover_rank is not None)
    names = [name for _, name in sorted(ranked) if ("scrambled" in ATTACKS[name].material) == of_order]
    return next(name for name in names if ATTACKS[name]().obstacle(target) is None)


def _chained(chosen: Sequence[Attack], target: CollectedTarget, effort: Effort) -> Reconstruct:
    """Run attacks one after the other; return the way from ciphertexts (N, C, H, W) to what they recover.

    Raises:
        AuditError: One needs more than ciphertext, or recovers no pictures.
    """
    within: Reconstruct | None = None
    for attack in chosen:
        obstacle = attack.obstacle(target)
        if obstacle is not None:
            remedy = "name an attack that ciphertext alone allows, or leave attacks= out for the best"
            raise AuditError(attack.name, "an attack that can be run on these ciphertexts", obstacle, remedy)
        setting = {} if attack.curve is None else {attack.curve.setting: attack.values(target, effort)[-1]}
        with torch.random.fork_rng():
            torch.manual_seed(effort.seed)
            held = target.hold(attack.material, setting, attack.assumes)
            recovery = attack.within(effort.budget).attack(held, effort)
        if isinstance(recovery, RecoveredOrder):
            target = replace(target, order=recovery.order)
        elif isinstance(recovery, (RecoveredKey, RecoveredImages)):
            within = _way(recovery, target)
        else:
            raise AuditError(attack.name, "an attack that recovers pictures", type(recovery).__name__, "name another one")
    last, blocks = target, within or (lambda images: images)
    return lambda seen: blocks(last.arranged(seen))


def _way(recovery: RecoveredKey | RecoveredImages, target: CollectedTarget) -> Reconstruct:
    """Return the way from ciphertexts, their blocks in order, to pictures."""
    patch, channels = target.patch_size, target.seen.shape[1]
    if isinstance(recovery, RecoveredKey):
        matrix = recovery.matrix
        return lambda seen: invert(matrix, seen, patch)
    made = recovery.reconstruct
    return (lambda seen: enlarged(made(seen), patch, channels)) if recovery.thumbnail else made


def _judged(reconstruct: Reconstruct, target: CollectedTarget, last: Attack) -> tuple[str, str, Likeness | None]:
    """Return the verdict on the known pictures, its words, and how like them the recovered ones are."""
    if not len(target.images):
        return NOT_RUN, "Nobody here knows the true pictures, so nothing was measured.", None
    truth = target.truth()
    measured = measure(RecoveredImages(reconstruct), truth, target)
    verdict = verdict_of(measured, truth.controls)
    return verdict, last.findings[verdict], measured.seen


def _batch(images: Images, where: str) -> Tensor:
    """Return uint8 images of one size as a tensor (N, C, H, W).

    Raises:
        AuditError: There are no images, or they are not uint8 images of one size.
    """
    expected = "uint8 images of one size, (N, H, W, C) or a list of (H, W, C), C being 1 or 3"
    arrays = [np.asarray(image) for image in images]
    kinds = {(array.dtype.name, array.shape) for array in arrays}
    if len(kinds) != 1 or any(array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3) for array in arrays):
        got = ", ".join(f"{dtype} {shape}" for dtype, shape in sorted(kinds)[:3]) or "none"
        raise AuditError(where, expected, got, "convert them, or leave out those of another size")
    return torch.from_numpy(np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2)))


def _shape(images: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = images.shape
    return channels, height, width


def _check_sizes(seen: Tensor, scheme: Scheme) -> None:
    """Refuse ciphertexts that a record does not describe.

    Raises:
        AuditError: Their channels differ, or their sides are no multiples of the block, or they have another number of blocks.
    """
    channels, height, width = _shape(seen)
    grid = (height // scheme.patch_size, width // scheme.patch_size)
    whole = height % scheme.patch_size == 0 and width % scheme.patch_size == 0
    if channels != scheme.in_chans or not whole or scheme.grid not in (None, grid):
        sides = f"multiples of {scheme.patch_size} px"
        if scheme.grid is not None:
            sides = " x ".join(str(count * scheme.patch_size) for count in scheme.grid) + " px"
        expected = f"{scheme.in_chans} channels, and {sides}, as the record says"
        raise AuditError("ciphertexts", expected, f"{channels} channels, {height} x {width} px", "give those of this cipher")
