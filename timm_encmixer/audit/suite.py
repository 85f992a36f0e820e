"""`run`: every attack that the given material allows, on one model."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from timm_encmixer.audit.attack import BUDGETS, Attack, Effort
from timm_encmixer.audit.attacks.registry import ATTACKS
from timm_encmixer.audit.material import MATERIAL
from timm_encmixer.audit.methods.statistics import BlockStatistics, image_statistics
from timm_encmixer.audit.names import check_names
from timm_encmixer.audit.photos import sample_photos
from timm_encmixer.audit.report import Report
from timm_encmixer.audit.target import Target
from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images
from timm_encmixer.checkpoints.loading import ModelLike, load_model
from timm_encmixer.checkpoints.sources import find_source, provenance_of
from timm_encmixer.errors import AuditError, DataError, MissingKeyError
from timm_encmixer.evaluation.accuracy import check_labels, warn_of_classes
from timm_encmixer.evaluation.threads import threads_for
from timm_encmixer.images.labelled import UNLABELLED, LabelledImages, MemoryImages, open_images
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.images.reading import to_channels
from timm_encmixer.images.tensors import to_tensor
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.encryption import decrypt_model, encrypt_model
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import DEFAULT_CIPHER, Preprocessing, Scheme

_TEST_IMAGES = {"quick": 250, "full": 1000}
_ATTACKED_IMAGES = {"quick": 250, "full": 2000}
_PUBLIC_IMAGES = 10_000
_PHOTOS = 96
_LEAST_IMAGES = 4
_NAME = re.compile(r"[a-z0-9_]+")  # pictures of an attack are files of its name


def run(
    model: ModelLike = BUNDLED_MODEL,
    *,
    images: LabelledImages | str | os.PathLike[str] | None = None,
    public_images: LabelledImages | str | os.PathLike[str] | None = None,
    attacks: Iterable[str | Attack] | None = None,
    key: KeyLike | None = None,
    cipher: str = DEFAULT_CIPHER,
    base: ModelLike | None = None,
    budget: str = "quick",
    seed: int = 0,
    split: str | None = None,
    label_column: str | None = None,
    public_split: str | None = None,
    progress: bool = True,
) -> Report:
    """Attack a model and its images, and measure what each attacker gets.

    Half of the images are what attackers may meet (up to 250, or 2,000 with the full budget); recovery is measured on the other
    half (up to 250, or 1,000). The same arguments give the same figures; only the seconds differ.

    Args:
        model: A model, or what `encmixer model info` takes. A plain one is encrypted here with `cipher`.
        images: Labelled images, a folder (with or without class folders), a parquet folder or a Hub data set; None takes the
            500 images that come with the package.
        public_images: Public photos that are not among `images`, likewise; None takes the statistics that come with the
            package, which are of blocks of 4 px.
        attacks: Names in `ATTACKS`, or attacks with parameters of your own; None runs all of `ATTACKS`.
        key: The model's key; needed when it is encrypted. For a plain model None takes a fixed public key.
        cipher: For a plain model.
        base: Public plain weights that `model` was made from; None takes the model's own plain weights if these are public.
        budget: "quick" or "full".
        seed: For everything that is left to chance.
        split: Split of a table of images, or of a folder of splits; None takes test, else validation, else train.
        label_column: Column of class labels of a table; needed where it has several.
        public_split: Split of a table of public photos; None takes train, else as for `split`.
        progress: Show progress bars on a terminal.

    Returns:
        The report; `save` writes it.

    Raises:
        AuditError: Unknown attack or budget.
        MissingKeyError: An encrypted model without its key.
        KeyMismatchError: It is encrypted with another key.
        DataError: No images, too few, or labels that the model does not have.
    """
    chosen = _chosen(attacks)
    if budget not in BUDGETS:
        raise AuditError("budget", f"one of {', '.join(BUDGETS)}", repr(budget), "choose one of these")
    if isinstance(model, nn.Module):
        label, public_weights = type(model).__name__, provenance_of(getattr(model, "pretrained_cfg", None) or {}).public
    else:
        source = find_source(model)
        label, public_weights, model = source.name, source.provenance.public, load_model(source)
    target = make_target(
        model,
        images=_opened(images, split=split, label_column=label_column),
        public_images=None
        if public_images is None
        else _opened(public_images, split=public_split, prefer=("train",), unlabelled=True),
        key=None if key is None else find_key(key),
        cipher=cipher,
        base=None if base is None else load_model(base),
        public_weights=public_weights,
        budget=budget,
        seed=seed,
        progress=progress,
    )
    results, effort = {}, Effort(budget, seed)
    work = sum(attack.work * len(attack.values(target, effort)) for attack in chosen if attack.obstacle(target) is None)
    with threads_for(target.plain.input_size):
        truth = target.truth()
        with _bar(work, progress) as bar:
            for attack in chosen:
                bar.set_postfix_str(attack.name)
                told = replace(effort, done=functools.partial(_tell, bar, attack.work))
                results[attack.name] = attack(target, truth, told)
    return Report(
        model=label,
        cipher=target.cipher,
        patch_size=target.scheme.patch_size,
        in_chans=target.scheme.in_chans,
        input_size=target.plain.input_size,
        budget=budget,
        seed=seed,
        attacked_images=len(target.images),
        test_images=len(target.test_images),
        labelled=target.labels is not None,
        public=_public_words(public_images, target),
        plain_accuracy=truth.plain_accuracy,
        guessing=truth.guessing,
        results=results,
    )


@contextlib.contextmanager
def _bar(work: float, progress: bool) -> Iterator[Any]:
    """Show the progress of all runs; the time left is what the average pace so far leaves, and is told every second."""
    style = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    hidden, ended = None if progress else True, threading.Event()
    with tqdm(total=work, desc="audit", bar_format=style, smoothing=0, miniters=0, disable=hidden) as bar:
        clock = threading.Thread(target=_refresh, args=(bar, ended), daemon=True)
        clock.start()
        try:
            yield bar
        finally:
            ended.set()
            clock.join()


def _refresh(bar: Any, ended: threading.Event) -> None:
    while not ended.wait(1):
        bar.refresh()


def _tell(bar: Any, work: float, share: float) -> None:
    bar.update(work * share)


def _chosen(attacks: Iterable[str | Attack] | None) -> list[Attack]:
    """Return attacks by their names, each name once; one with parameters takes the place of an earlier one of its name."""
    wanted = list(ATTACKS) if attacks is None else list(attacks)
    check_names([name for name in wanted if isinstance(name, str)], "attacks")
    made = [ATTACKS[attack]() if isinstance(attack, str) else attack for attack in wanted]
    for attack in made:
        if not isinstance(attack, Attack):
            got = f"{attack.__name__}, a class" if isinstance(attack, type) else type(attack).__name__
            raise AuditError("attacks", "names, or attacks such as RandomKey()", got, "make one: ATTACKS[name]()")
        if not _NAME.fullmatch(getattr(attack, "name", "")) or not set(attack.material) <= set(MATERIAL):
            expected = "a name of lower-case letters, digits and _, and material that there is"
            raise AuditError(type(attack).__name__, expected, "others", "see timm_encmixer/audit/material.py")
    return list({attack.name: attack for attack in made}.values())


def make_target(
    model: nn.Module,
    *,
    images: LabelledImages,
    public_images: LabelledImages | None,
    key: SecretKey | None,
    cipher: str,
    base: nn.Module | None,
    public_weights: bool,
    budget: str,
    seed: int,
    progress: bool = False,
) -> Target:
    """Prepare what is attacked; arguments and errors are those of `run`.

    With `public_weights` the model's own plain weights are public, and are the base where `base` is None.
    """
    model.eval()
    scheme = scheme_of(model)
    if scheme is not None and key is None:
        raise MissingKeyError("key", "the key of the encrypted model", "none", "an owner audits their own model: pass its key")
    key = key or audit_key(seed)
    plain_model = decrypt_model(model, key) if scheme is not None else model
    encrypted = model if scheme is not None else encrypt_model(model, key, cipher=cipher)
    scheme = scheme_of(encrypted)
    assert scheme is not None  # encrypted just now
    assert scheme.plain is not None
    if base is None and public_weights:
        base = plain_model
    count = min(len(images), _ATTACKED_IMAGES[budget] + _TEST_IMAGES[budget])
    if count < _LEAST_IMAGES:
        raise DataError("images", f"at least {_LEAST_IMAGES}, for half of them are kept to measure on", f"{count}", "give more")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    pixels, labels = _pixels(images, order, scheme, progress)
    tested = min(_TEST_IMAGES[budget], count // 2)
    statistics, photos = _public(public_images, scheme, seed, progress)
    target = Target(
        plain_model,
        key,
        encrypted,
        pixels[tested:],
        None if labels is None else labels[tested:],
        pixels[:tested],
        None if labels is None else labels[:tested],
        statistics,
        photos,
        base,
        seed,
    )
    if labels is not None:
        outputs = target.classify_plain(pixels[:1]).shape[-1]
        check_labels(labels, outputs, where="images")
        warn_of_classes(images, outputs, where="images")
    return target


def audit_key(seed: int) -> SecretKey:
    """Return the public key that a plain model is audited with, so that figures can be had again."""
    return SecretKey(hashlib.sha256(f"timm-encmixer/audit-key/{seed}".encode()).digest())


def _opened(source: LabelledImages | str | os.PathLike[str] | None, **options: Any) -> LabelledImages:
    if source is None:
        images, labels, _ = bundled_images()
        return MemoryImages(images, labels)
    return source if isinstance(source, LabelledImages) else open_images(os.fspath(source), **options)


def _pixels(images: LabelledImages, order: Sequence[int], scheme: Scheme, progress: bool) -> tuple[Tensor, Tensor | None]:
    """Return preprocessed uint8 images (N, C, H, W) and labels, None if any image has none."""
    assert scheme.plain is not None  # the record of an encrypted model
    transform = _Preprocess(scheme.plain)
    bar = tqdm(order, desc="reading images", unit="image", disable=None if progress else True, leave=False)
    samples = [images[index] for index in bar]
    labels = torch.tensor([int(label) for _, label in samples])
    pixels = torch.stack([transform(image) for image, _ in samples])
    return pixels, None if bool((labels == UNLABELLED).any()) else labels


class _Preprocess:
    def __init__(self, plain: Preprocessing) -> None:
        self._plain = plain

    def __call__(self, image: Image.Image) -> Tensor:
        return to_tensor(resize_and_crop(to_channels(image, self._plain.input_size[0]), self._plain))


def _public(
    public: LabelledImages | None, scheme: Scheme, seed: int, progress: bool
) -> tuple[BlockStatistics | None, Tensor | None]:
    """Return statistics of public photos, and a few of the photos; None where there are none for this model."""
    assert scheme.plain is not None  # the record of an encrypted model
    if public is not None:
        order = torch.randperm(len(public), generator=torch.Generator().manual_seed(seed))[:_PUBLIC_IMAGES].tolist()
        pixels, _ = _pixels(public, order, scheme, progress)
        return image_statistics(pixels, scheme.patch_size), pixels[:_PHOTOS]
    bundled = BlockStatistics.load()
    fits = (bundled.patch_size, len(bundled.mean)) == (scheme.patch_size, scheme.block_size)
    channels, height, width = scheme.plain.input_size
    photos = sample_photos(height, width)
    if channels == 1:
        photos = photos.float().mean(dim=1, keepdim=True).round().to(torch.uint8)
    return bundled if fits else None, photos if channels in (1, 3) else None


def _public_words(source: LabelledImages | str | os.PathLike[str] | None, target: Target) -> str:
    if target.public_statistics is None:
        return "none: the statistics that come with the package are of blocks of another size"
    count = target.public_statistics.images
    if source is None:
        return f"the statistics that come with the package, of {count} CIFAR-10 training images"
    return f"{count} images{'' if isinstance(source, LabelledImages) else f' of {os.fspath(source)}'}"
