"""The whole story on bundled weights and images, offline: accuracy by key, what ciphertext looks like, and what it leaks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from PIL import Image
from torch import Tensor, nn

from timm_encmixer.bundled import BUNDLED_MODEL, BUNDLED_PHOTOS, bundled_images, bundled_photo
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import ImageError
from timm_encmixer.evaluation.accuracy import Evaluation, evaluate, wrong_key
from timm_encmixer.evaluation.columns import text_table
from timm_encmixer.evaluation.tiles import BAD, GOOD, Caption, draw_panels, draw_rows, stack
from timm_encmixer.files import PNG, file_error, replacing_file
from timm_encmixer.images.labelled import MemoryImages
from timm_encmixer.images.reading import to_channels
from timm_encmixer.images.tensors import cipher_input, normalise, normalised_plain, to_tensor
from timm_encmixer.keys import KeyLike, SecretKey, find_key
from timm_encmixer.limits import LIMITS
from timm_encmixer.models.encryption import encrypt_model, stem_of
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import BLOCK_CIPHERS, DEFAULT_CIPHER, facts_of

PICTURE_NAME = "demo.png"


@dataclass(frozen=True)
class Demo:
    """What `encmixer demo` found: one evaluation per cipher, seconds, and the picture's path."""

    evaluations: list[Evaluation]
    seconds: float
    picture: Path


def run_demo(out: Path, *, key: KeyLike | None = None, wrong_keys: int = 3) -> Demo:
    """Evaluate the bundled model under every cipher, and draw the picture.

    Args:
        out: Folder for demo.png, made if it is not there.
        key: The right key or its file; None makes a new one.
        wrong_keys: Wrong keys to try per cipher.

    Raises:
        FileAccessError: The folder or the picture cannot be written.
    """
    start = time.perf_counter()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(out, "a folder to write", error) from error
    images, labels, classes = bundled_images()
    data, key = MemoryImages(images, labels), SecretKey.generate() if key is None else find_key(key)
    model = timm.create_model(BUNDLED_MODEL, pretrained=True).eval()
    evaluations = [
        evaluate(model, key, data, cipher=cipher, wrong_keys=wrong_keys, batch_size=125) for cipher in _ciphers_for(model)
    ]
    chosen = [images[labels.index(label)] for label in range(len(classes))]
    picture = out / PICTURE_NAME
    photos = [draw_photo(model, key, bundled_photo(name), classes) for name in BUNDLED_PHOTOS]
    with replacing_file(picture, overwrite=True, kind=PNG) as temporary:
        stack([*photos, draw_picture(model, key, chosen, classes)]).save(temporary, format="PNG")
    return Demo(evaluations, time.perf_counter() - start, picture)


def demo_table(demo: Demo) -> str:
    """Return the demo's result as lines of text."""
    rows = [("cipher", "plain", "right key", "no key", "wrong keys", "changed", "max |delta|")]
    for result in demo.evaluations:
        shares = [f"{share:.1%}" for share in (result.plain, result.right_key, result.no_key)]
        wrong = " ".join(f"{share:.1%}" for share in result.wrong_keys.values())
        changes = (f"{result.changed_top1}", f"{result.max_logit_difference:.1e}")
        rows.append((result.cipher, shares[0], shares[1], shares[2], wrong, *changes))
    lines = [f"accuracy on {demo.evaluations[0].images} CIFAR-10 test images", *text_table(rows)]
    default = next(result for result in demo.evaluations if result.cipher == DEFAULT_CIPHER)
    wrong_mean = sum(default.wrong_keys.values()) / len(default.wrong_keys)
    lines += [
        "",
        f"With the right key nothing changes; with a wrong one {DEFAULT_CIPHER} leaves {wrong_mean:.0%} (guessing: 10%).",
        f"{demo.seconds:.1f} s; the picture is {demo.picture}",
        *LIMITS,
    ]
    return "\n".join(lines)


def draw_photo(model: nn.Module, key: KeyLike, photo: Image.Image, classes: Sequence[str]) -> Image.Image:
    """Draw a photo, its ciphertext, and what the right and a wrong key make of it, each with a model's answer.

    The model reads the photo at its own size. What is beyond the last whole block is cut off, at all sides alike, as the centre
    crop of a model's preprocessing cuts. An answer is green where it is the plain model's.

    Args:
        model: Plain, of the bundled model's kind: it takes every size that is a multiple of its blocks.
        key: The right key or its file.
        photo: Of any size from one block.
        classes: Names of the model's classes.

    Raises:
        ImageError: The photo is smaller than a block, or its pixels cannot be brought to 8 bits.
    """
    cast = _Cast.of(model, find_key(key), DEFAULT_CIPHER)
    scheme = cast.right.scheme
    pixels = to_tensor(_whole_blocks(to_channels(photo, scheme.in_chans), scheme.patch_size))[None]
    ciphertext = cast.right.encrypt(pixels)
    logits = cast.plain_answers(pixels)[0]

    def answer(who: str, others: Tensor) -> Caption:
        share, best = others.softmax(0).max(0)
        return Caption(f"{who}: {classes[int(best)]}, {share:.0%}", GOOD if best == logits.argmax() else BAD)

    restored = cast.right.decrypt(ciphertext)
    same = torch.equal(restored, pixels)
    equals = Caption("equals the plain photo", GOOD) if same else Caption("differs from the plain photo", BAD)
    return draw_panels(
        [
            (pixels[0] / 255, [Caption("plain photo"), answer("plain model", logits)]),
            (ciphertext[0] / 255, [Caption("ciphertext"), answer("encrypted model", cast.answers(cast.right, pixels)[0])]),
            (restored[0] / 255, [Caption("decrypted, right key"), equals]),
            (
                cast.wrong.decrypt(ciphertext)[0] / 255,
                [Caption("decrypted, wrong key"), answer("wrong key", cast.answers(cast.wrong, pixels)[0])],
            ),
        ]
    )


def draw_picture(model: nn.Module, key: SecretKey, images: list[Image.Image], classes: list[str]) -> Image.Image:
    """Draw rows of images, one column an image: plain, encrypted by each cipher, with a wrong key, without a key, decrypted.

    Below an image stands the answer of the model that reads it, green where it is right: `images[i]` shows `classes[i]`.
    Ciphertext of `orthogonal` is float and is clipped to [0, 1] for display only.
    """
    pixels = torch.stack([to_tensor(image) for image in images])
    casts = {cipher: _Cast.of(model, key, cipher) for cipher in _ciphers_for(model)}
    default = casts[DEFAULT_CIPHER]
    ciphertext = default.right.encrypt(pixels)
    rows: dict[str, Tensor] = {"plain": pixels / 255}
    answers: dict[str, Tensor] = {"plain": default.plain_answers(pixels)}
    for cipher, cast in casts.items():
        rows[f"encrypted: {cipher}"] = cast.right.encrypt(pixels / 255)
        answers[f"encrypted: {cipher}"] = cast.answers(cast.right, pixels)
    rows["encrypted, wrong key"] = default.wrong.encrypt(pixels) / 255
    answers["encrypted, wrong key"] = default.answers(default.wrong, pixels)
    rows["not encrypted"] = pixels / 255
    answers["not encrypted"] = default.answers(None, pixels)
    rows["decrypted, right key"] = default.right.decrypt(ciphertext) / 255
    rows["decrypted, wrong key"] = default.wrong.decrypt(ciphertext) / 255
    captions = {
        name: [
            Caption(classes[answer], GOOD if answer == truth else BAD) for truth, answer in enumerate(logits.argmax(1).tolist())
        ]
        for name, logits in answers.items()
    }
    return draw_rows(rows, classes, captions)


@dataclass(frozen=True)
class _Cast:
    """A plain model and its encryption, with the right cipher and one of a wrong key."""

    plain: nn.Module
    encrypted: nn.Module
    right: BlockCipher
    wrong: BlockCipher

    @classmethod
    def of(cls, model: nn.Module, key: SecretKey, cipher: str) -> _Cast:
        encrypted = encrypt_model(model, key, cipher=cipher)
        scheme = scheme_of(encrypted)
        assert scheme is not None  # encrypted just now
        return cls(model, encrypted, BlockCipher(key, scheme), BlockCipher(wrong_key(0), scheme.without_fingerprint()))

    @torch.inference_mode()
    def plain_answers(self, pixels: Tensor) -> Tensor:
        assert self.right.scheme.plain is not None
        logits: Tensor = self.plain(normalised_plain(pixels, self.right.scheme.plain))
        return logits

    @torch.inference_mode()
    def answers(self, cipher: BlockCipher | None, pixels: Tensor) -> Tensor:
        """Logits of the encrypted model on images that a cipher encrypted, or that nobody did."""
        met = normalise(pixels, scheme=self.right.scheme) if cipher is None else cipher_input(cipher, pixels)
        logits: Tensor = self.encrypted(met)
        return logits


def _ciphers_for(model: nn.Module) -> list[str]:
    """Return the ciphers of blocks that have the side of a model's blocks."""
    side = stem_of(model)[0].shape[-1]
    return [cipher for cipher in BLOCK_CIPHERS if facts_of(cipher).fits(side)]


def _whole_blocks(photo: Image.Image, block: int) -> Image.Image:
    """Return the centre of a photo, whose sides are the largest multiples of a block."""
    width, height = (side - side % block for side in photo.size)
    if not (width and height):
        got = f"{photo.height} x {photo.width} px"
        raise ImageError("photo", f"at least one block of {block} x {block} px", got, "give a larger photo")
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))
