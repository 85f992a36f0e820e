"""Accuracy of a model with the right key, with no key and with wrong keys, on the same images in one pass."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from timm_encmixer.checkpoints.loading import ModelLike, load_model
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import DataError, warn_caller
from timm_encmixer.evaluation.columns import text_table
from timm_encmixer.images.labelled import LabelledImages, open_labelled_images
from timm_encmixer.images.tensors import cipher_input, normalise, normalised_plain
from timm_encmixer.images.transform import ClientTransform
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.models.encryption import decrypt_model, encrypt_model
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import DEFAULT_CIPHER

_NAMED = 3  # classes, in a warning


@dataclass
class Evaluation:
    """Shares of right top-1 answers in [0, 1], and how far encrypted logits are from plain ones."""

    images: int
    cipher: str
    patch_size: int
    fingerprint: str
    plain: float
    right_key: float
    no_key: float
    wrong_keys: dict[str, float] = field(default_factory=dict)  # by fingerprint
    changed_top1: int = 0  # between plain and right key
    max_logit_difference: float = 0.0  # between plain and right key, both fp32

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `encmixer eval --json`."""
        return asdict(self)


def wrong_key(index: int) -> SecretKey:
    """Return the index-th wrong key of every evaluation: public, so that figures can be had again."""
    return SecretKey(hashlib.sha256(f"timm-encmixer/wrong-key/{index}".encode()).digest())


def evaluate(
    model: ModelLike,
    key: KeyLike,
    data: LabelledImages | str | os.PathLike[str],
    *,
    cipher: str = DEFAULT_CIPHER,
    wrong_keys: int = 0,
    batch_size: int = 64,
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure the accuracy of a model, plain or encrypted, on plain images and on images encrypted with several keys.

    Args:
        model: A model or its source, plain (it is encrypted here with `cipher`) or encrypted with `key` (it is decrypted for
            the plain figure); put in evaluation mode.
        key: The right key or its file.
        data: Labelled images, or where they are, as for `te.images.open_labelled_images`.
        cipher: For a plain model.
        wrong_keys: How many of `wrong_key` to try.
        batch_size: Images at a time.
        limit: Use the first so many images.
        progress: Show a progress bar on a terminal.

    Raises:
        KeyMismatchError: `model` is encrypted with another key.
        DataError: No images, or labels that the model does not have.
        ImageError: An image cannot be used.

    Examples:
        >>> images, labels, _ = te.bundled.bundled_images()
        >>> data = te.images.MemoryImages(images, labels)
        >>> result = te.evaluate("encrypted", "owner.key", data, limit=20, progress=False)
        >>> result.right_key == result.plain
        True
    """
    data = _labelled(data)
    model, key = load_model(model), find_key(key)
    encrypted = model if scheme_of(model) is not None else encrypt_model(model, key, cipher=cipher)
    plain = decrypt_model(model, key) if scheme_of(model) is not None else model
    scheme = scheme_of(encrypted)
    assert scheme is not None  # encrypted just now
    assert scheme.plain is not None
    right = ClientTransform(BlockCipher(key, scheme))
    wrong = {k.fingerprint: BlockCipher(k, scheme.without_fingerprint()) for k in map(wrong_key, range(wrong_keys))}
    count = len(data) if limit is None else min(limit, len(data))
    if count == 0:
        raise DataError("data", "at least one image", "none", "check the data set and limit= (--limit)")
    result = Evaluation(count, scheme.cipher, scheme.patch_size, key.fingerprint, 0.0, 0.0, 0.0, dict.fromkeys(wrong, 0.0))
    right_answers: Counter[str] = Counter()
    device = next(encrypted.parameters()).device
    encrypted.eval(), plain.eval()
    with torch.inference_mode():
        for start in tqdm(
            range(0, count, batch_size), desc=f"evaluating {scheme.cipher}", unit="batch", disable=None if progress else True
        ):
            pixels, labels = (part.to(device) for part in _batch(data, right, range(start, min(start + batch_size, count))))
            plain_logits = plain(normalised_plain(pixels, scheme.plain))
            check_labels(labels, plain_logits.shape[-1], where="data")
            if start == 0:
                warn_of_classes(data, plain_logits.shape[-1], where="data")
            logits = encrypted(cipher_input(right.cipher, pixels))
            result.max_logit_difference = max(result.max_logit_difference, float((logits - plain_logits).abs().max()))
            result.changed_top1 += int((logits.argmax(1) != plain_logits.argmax(1)).sum())
            right_answers["plain"] += _right(plain_logits, labels)
            right_answers["right key"] += _right(logits, labels)
            right_answers["no key"] += _right(encrypted(normalise(pixels, scheme=scheme)), labels)
            for name, block_cipher in wrong.items():
                right_answers[name] += _right(encrypted(cipher_input(block_cipher, pixels)), labels)
    shares = {name: right_answers[name] / count for name in ("plain", "right key", "no key", *wrong)}
    result.plain, result.right_key, result.no_key = (shares.pop(name) for name in ("plain", "right key", "no key"))
    result.wrong_keys = shares
    return result


def check_labels(labels: Tensor, outputs: int, *, where: str) -> None:
    """Refuse labels that a model has no output for.

    Raises:
        DataError: There is one.
    """
    if int(labels.min()) < 0 or int(labels.max()) >= outputs:
        got = f"{int(labels.min())} to {int(labels.max())}"
        raise DataError(where, f"labels from 0 to {outputs - 1}, as the model has", got, "use the model's own data")


def warn_of_classes(data: LabelledImages, outputs: int, *, where: str) -> None:
    """Warn of a data set with another number of classes than the model has outputs: its labels may mean other classes."""
    if data.classes and len(data.classes) != outputs:
        named = ", ".join(f"{label} {name}" for label, name in enumerate(data.classes[:_NAMED]))
        more = ", ..." if len(data.classes) > _NAMED else ""
        warn_caller(
            f"{where}: {len(data.classes)} classes, and the model has {outputs} outputs. The labels are {named}{more}: "
            "where the model has other numbers for these, its answers count as wrong"
        )


def _batch(data: LabelledImages, transform: ClientTransform, indices: range) -> tuple[Tensor, Tensor]:
    samples = [data[index] for index in indices]
    pixels = torch.stack([transform.preprocess(image) for image, _ in samples])
    pixels = pixels.contiguous(memory_format=torch.channels_last)  # convolutions on CPU are several times faster so
    return pixels, torch.tensor([int(label) for _, label in samples])


def _right(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(dim=1) == labels).sum())


def evaluation_table(result: Evaluation) -> str:
    """Return an evaluation as lines of text."""
    rows = [
        ("plain model, plain images", result.plain),
        ("encrypted model, right key", result.right_key),
        ("encrypted model, plain images (no key)", result.no_key),
        *((f"encrypted model, wrong key {name}", share) for name, share in result.wrong_keys.items()),
    ]
    head = f"{result.images} images, cipher {result.cipher}, block {result.patch_size} px, key {result.fingerprint}"
    lines = [head, *text_table([(name, f"{share:.2%}") for name, share in rows], indent="  ")]
    lines.append(
        f"  right key against plain: {result.changed_top1} changed top-1, max |delta logit| {result.max_logit_difference:.2e}"
    )
    return "\n".join(lines)


def _labelled(data: Any) -> LabelledImages:
    """Return labelled images; those of a folder, a table or the Hub are opened."""
    if isinstance(data, (str, os.PathLike)):
        return open_labelled_images(os.fspath(data))
    if isinstance(data, (tuple, list)) or not hasattr(data, "__getitem__"):
        remedy = "give a folder, or te.images.MemoryImages(images, labels)"
        raise DataError("data", "labelled images", type(data).__name__, remedy)
    images: LabelledImages = data
    return images
