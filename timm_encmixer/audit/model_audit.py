"""`run`: every attack that the given material allows, on one model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from torch import nn

from timm_encmixer.audit.attack import Attack
from timm_encmixer.audit.model_target import ModelTarget
from timm_encmixer.audit.preparation import ImageSource, divide, opened, opened_public, public_material
from timm_encmixer.audit.report import Report
from timm_encmixer.audit.runner import check_classes, chosen_attacks, run_attacks
from timm_encmixer.bundled import BUNDLED_MODEL
from timm_encmixer.checkpoints.loading import ModelLike, load_model
from timm_encmixer.checkpoints.sources import find_source, provenance_of
from timm_encmixer.errors import MissingKeyError
from timm_encmixer.images.labelled import LabelledImages
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.encryption import decrypt_model, encrypt_model
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import DEFAULT_CIPHER


def run(
    model: ModelLike = BUNDLED_MODEL,
    *,
    images: ImageSource | None = None,
    public_images: ImageSource | None = None,
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

    Attackers may meet half of the images (up to 250, or 2,000 with the full budget). Recovery is measured on the other half (up
    to 250, or 1,000). The same arguments give the same figures; only the seconds differ.

    Args:
        model: A model, or what `encmixer model info` takes. A plain one is encrypted here with `cipher`.
        images: Labelled images, a folder (with or without class folders), a parquet folder or a Hub data set; None takes the
            500 images that come with the package.
        public_images: Public photos that are not among `images`, in the same forms. None takes the statistics that come with
            the package, which are of blocks of 4 px.
        attacks: Names in `ATTACKS`, or attacks with parameters of your own; None runs all of `ATTACKS`.
        key: The model's key; needed when it is encrypted. For a plain model None takes a fixed public key.
        cipher: For a plain model.
        base: Public plain weights that `model` was made from; None takes the model's own plain weights if these are public.
        budget: "quick" or "full".
        seed: Of all random numbers.
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
    chosen = chosen_attacks(attacks, budget, seed)
    if isinstance(model, nn.Module):
        label, public_weights = type(model).__name__, provenance_of(getattr(model, "pretrained_cfg", None) or {}).public
    else:
        source = find_source(model)
        label, public_weights, model = source.name, source.provenance.public, load_model(source)
    target = make_target(
        model,
        images=opened(images, split=split, label_column=label_column),
        public_images=opened_public(public_images, public_split),
        key=None if key is None else find_key(key),
        cipher=cipher,
        base=None if base is None else load_model(base),
        public_weights=public_weights,
        budget=budget,
        seed=seed,
        progress=progress,
    )
    return run_attacks(chosen, target, label=label, public=public_images, budget=budget, seed=seed, progress=progress)


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
) -> ModelTarget:
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
    divided = divide(images, scheme.plain, budget=budget, seed=seed, progress=progress)
    statistics, photos = public_material(public_images, scheme.plain, scheme.patch_size, seed=seed, progress=progress)
    target = ModelTarget(
        plain_model=plain_model,
        key=key,
        encrypted_model=encrypted,
        base_model=base,
        images=divided.images,
        labels=divided.labels,
        test_images=divided.test_images,
        test_labels=divided.test_labels,
        public_statistics=statistics,
        photos=photos,
        seed=seed,
    )
    check_classes(images, target)
    return target


def audit_key(seed: int) -> SecretKey:
    """Return the public key that a plain model is audited with, so that figures can be had again."""
    return SecretKey(hashlib.sha256(f"timm-encmixer/audit-key/{seed}".encode()).digest())
