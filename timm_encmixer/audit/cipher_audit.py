"""`run_cipher`: every attack that the given material allows, on any cipher of images, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from timm_encmixer.audit.attack import Attack
from timm_encmixer.audit.cipher_target import CipherTarget, converted, decrypted_psnr_db, own_key
from timm_encmixer.audit.methods.dependence import ALONE, WITH_OTHERS, dependence, find_side
from timm_encmixer.audit.preparation import ImageSource, divide, opened, opened_public, public_material
from timm_encmixer.audit.report import Report
from timm_encmixer.audit.runner import check_classes, chosen_attacks, run_attacks
from timm_encmixer.bundled import BUNDLED_MODEL
from timm_encmixer.checkpoints.loading import ModelLike, load_model
from timm_encmixer.errors import AuditError
from timm_encmixer.images.labelled import UNLABELLED, LabelledImages, MemoryImages
from timm_encmixer.models.pretrained_cfg import preprocessing_of
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import PATCH_PX, Preprocessing

_USUAL_SIDE = 4  # px: the package has public statistics of such blocks


def run_cipher(
    encrypt: Callable[[Any], Any],
    *,
    block: int | None = None,
    images: ImageSource | NDArray[np.uint8] | None = None,
    public_images: ImageSource | NDArray[np.uint8] | None = None,
    decrypt: Callable[[Any], Any] | None = None,
    keyed: bool = False,
    plain_model: ModelLike | None = None,
    size: tuple[int, int] | None = None,
    name: str | None = None,
    attacks: Iterable[str | Attack] | None = None,
    budget: str = "quick",
    seed: int = 0,
    split: str | None = None,
    label_column: str | None = None,
    public_split: str | None = None,
    progress: bool = True,
) -> Report:
    """Attack any cipher of images, without a model, and measure what each attacker gets.

    Attackers know the side of a block and nothing else of the cipher; each assumes what it is made for. Attacks on models are
    not run, and the report says so.

    Args:
        encrypt: Takes uint8 images (N, H, W, C); returns uint8 images, or floats (N, h, w, c). If `keyed`, it takes a key of 32
            bytes and returns such a function.
        block: Side in px of the blocks that attackers take the cipher to work on, 2 to 32; the images' sides are multiples of
            it. Ciphers of single pixels are attacked with any. None asks the cipher: the first side whose blocks depend on one
            plain block alone, 4 px before others, and 4 px where there is none. The report says in any case whether it fits.
        images: As for `run`, or uint8 images (N, H, W, C) in an array.
        public_images: As for `run`, or such an array.
        decrypt: The inverse of `encrypt`: takes ciphertexts and returns images. The report says how exact it is.
        keyed: `encrypt` (and `decrypt`) make functions of keys. The audit gives them fixed public keys, and attackers use the
            method with keys of their own.
        plain_model: Reads recovered images, so that the report says how much of its accuracy is left. None takes the bundled
            model for the bundled images, and no model for other images.
        size: Height and width of the images in px; None takes those of the plain model, of an array, or of the first image.
        name: Of the cipher, for the report; None takes that of `encrypt`.
        attacks: As for `run`.
        budget: As for `run`.
        seed: As for `run`.
        split: As for `run`.
        label_column: As for `run`.
        public_split: As for `run`.
        progress: As for `run`.

    Returns:
        The report; `save` writes it.

    Raises:
        AuditError: Unknown attack or budget, a block that does not fit, or a function that fails or returns no images.
        DataError: As for `run`.
    """
    chosen = chosen_attacks(attacks, budget, seed)
    if plain_model is None and images is None:
        plain_model = BUNDLED_MODEL
    model = None if plain_model is None else load_model(plain_model).eval()
    if model is not None and scheme_of(model) is not None:
        raise AuditError("plain_model", "a plain model", "an encrypted one", "pass one that reads plain images")
    source = _from_array(images) if isinstance(images, np.ndarray) else opened(images, split=split, label_column=label_column)
    public = _from_array(public_images) if isinstance(public_images, np.ndarray) else public_images
    plain = _preprocessing(model, source, size, channels=images.shape[-1] if isinstance(images, np.ndarray) else 3)
    _check_block(block, plain)
    key = own_key(seed, 0)
    function, inverse = (_made(encrypt, key), decrypt and _made(decrypt, key)) if keyed else (encrypt, decrypt)
    divided = divide(source, plain, budget=budget, seed=seed, progress=progress)
    function_name = name or str(getattr(encrypt, "__name__", type(encrypt).__name__))

    def asked(chosen_images: Tensor) -> Tensor:
        return converted(function, chosen_images, function_name)

    if block is None:
        block = _found_side(asked, divided.images[0], seed)
    found = dependence(asked, divided.images[0], block, seed=seed)
    statistics, photos = public_material(opened_public(public, public_split), plain, block, seed=seed, progress=progress)
    target = CipherTarget(
        function=function,
        function_name=function_name,
        block=block,
        preprocessing=plain,
        factory=encrypt if keyed else None,
        plain_model=model,
        images=divided.images,
        labels=divided.labels,
        test_images=divided.test_images,
        test_labels=divided.test_labels,
        public_statistics=statistics,
        photos=photos,
        seed=seed,
    )
    if model is not None:
        check_classes(source, target)
    exact = None if inverse is None else decrypted_psnr_db(function, inverse, target.test_images)
    return run_attacks(
        chosen,
        target,
        label="",
        public=public,
        budget=budget,
        seed=seed,
        progress=progress,
        decrypted_psnr_db=exact,
        block_fits={ALONE: True, WITH_OTHERS: False}.get(found.kind),
        block_words=found.words,
    )


def _check_block(block: int | None, plain: Preprocessing) -> None:
    """Refuse a side that does not divide the images, and images that no side divides."""
    sides = _sides(*plain.input_size[1:])
    if block is not None and (type(block) is not int or block not in sides):
        expected = (
            f"a side from {PATCH_PX[0]} to {PATCH_PX[-1]} px that divides {plain.input_size[1]} x {plain.input_size[2]} px"
        )
        raise AuditError("block", expected, repr(block)[:100], "leave it out, and the audit asks the cipher")
    if not sides:
        got = f"{plain.input_size[1]} x {plain.input_size[2]} px"
        raise AuditError(
            "images", f"sides that a block from {PATCH_PX[0]} to {PATCH_PX[-1]} px divides", got, "give another size"
        )


def _sides(height: int, width: int) -> list[int]:
    """Return the sides of blocks that divide an image, the usual one first."""
    sides = [side for side in PATCH_PX if not (height % side or width % side)]
    return sorted(sides, key=lambda side: (side != _USUAL_SIDE, side))


def _found_side(asked: Callable[[Tensor], Tensor], image: Tensor, seed: int) -> int:
    """Return the side of blocks that fits what a cipher does; where none does, the first that divides the image."""
    sides = _sides(image.shape[1], image.shape[2])
    return find_side(asked, image, sides, seed=seed) or sides[0]


def _made(factory: Callable[[Any], Any], key: bytes) -> Callable[[Any], Any]:
    """Return the cipher that a factory makes of a key.

    Raises:
        AuditError: It fails, or makes no function.
    """
    name, expected = (
        str(getattr(factory, "__name__", type(factory).__name__)),
        "a function of a key that returns the cipher (keyed)",
    )
    try:
        made = factory(key)
    except Exception as error:
        remedy = "correct it, or leave `keyed` out for a function of images"
        raise AuditError(name, expected, f"{type(error).__name__}: {error}"[:200], remedy) from error
    if not callable(made):
        raise AuditError(name, expected, f"one that returns {type(made).__name__}", "return a function of images")
    function: Callable[[Any], Any] = made
    return function


def _from_array(images: NDArray[np.uint8]) -> MemoryImages:
    if images.ndim != 4 or not len(images) or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        got = f"{images.dtype} of shape {images.shape}"
        raise AuditError("images", "uint8 images (N, H, W, C), C being 1 or 3", got, "convert them")
    return MemoryImages(
        [Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images], [UNLABELLED] * len(images)
    )


def _preprocessing(
    model: nn.Module | None, images: LabelledImages, size: tuple[int, int] | None, channels: int
) -> Preprocessing:
    """Return how images are brought to one size, and what a plain model normalises by."""
    if size is not None and not (isinstance(size, tuple) and len(size) == 2 and all(type(side) is int for side in size)):
        raise AuditError("size", "height and width in px, such as (32, 32)", repr(size)[:100], "give such a pair")
    if model is not None:
        cfg: Any = model.pretrained_cfg
        plain = preprocessing_of(cfg, cfg["input_size"][0])
        return plain if size is None else replace(plain, input_size=(plain.input_size[0], *size))
    width, height = images[0][0].size if size is None else size[::-1]
    half = (0.5,) * channels
    return Preprocessing(input_size=(channels, height, width), mean=half, std=half, crop_pct=1.0)
