"""The whole story on bundled weights and images, offline: accuracy by key, what ciphertext looks like, and what it leaks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.evaluation.accuracy import Evaluation, evaluate, wrong_key
from timm_encmixer.evaluation.tiles import draw_rows
from timm_encmixer.files import file_error, replacing_file
from timm_encmixer.images.labelled import MemoryImages
from timm_encmixer.keys import SecretKey
from timm_encmixer.models.encryption import encrypt_model, scheme_of
from timm_encmixer.scheme import CIPHERS, DEFAULT_CIPHER, Scheme

PICTURE_NAME = "demo.png"
LIMITS = (
    "The key is access control and visual obfuscation at no cost; it does not make images or weights confidential:",
    "many ciphertexts, one plain/encrypted pair, or the plain weights give it away. Read docs/security.md first.",
)


@dataclass(frozen=True)
class Demo:
    """What `encmixer demo` found: one evaluation per cipher, seconds, and the picture's path."""

    evaluations: list[Evaluation]
    seconds: float
    picture: Path


def run_demo(out: Path, *, key: SecretKey | None = None, wrong_keys: int = 3) -> Demo:
    """Evaluate the bundled model under every cipher, and draw the picture.

    Args:
        out: Folder for demo.png, made if it is not there.
        key: The right key; None makes a new one.
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
    data, key = MemoryImages(images, labels), key or SecretKey.generate()
    model = timm.create_model(BUNDLED_MODEL, pretrained=True).eval()
    evaluations = [evaluate(model, key, data, cipher=cipher, wrong_keys=wrong_keys, batch_size=125) for cipher in CIPHERS]
    chosen = [images[labels.index(label)] for label in range(len(classes))]
    picture = out / PICTURE_NAME
    with replacing_file(picture, overwrite=True) as temporary:
        draw_picture(model, key, chosen, classes).save(temporary, format="PNG")
    return Demo(evaluations, time.perf_counter() - start, picture)


def table(demo: Demo) -> str:
    """Return the demo's result as lines of text."""
    header = (
        f"{'cipher':<16} {'plain':>8} {'right key':>10} {'no key':>8} {'wrong keys':>22} {'changed':>8} {'max |delta|':>12}"
    )
    lines = [f"accuracy on {demo.evaluations[0].images} CIFAR-10 test images", header]
    for result in demo.evaluations:
        wrong = " ".join(f"{share:.1%}" for share in result.wrong_keys.values())
        lines.append(
            f"{result.cipher:<16} {result.plain:>8.1%} {result.right_key:>10.1%} {result.no_key:>8.1%} {wrong:>22} "
            f"{result.changed_top1:>8} {result.max_logit_difference:>12.1e}"
        )
    default = next(result for result in demo.evaluations if result.cipher == DEFAULT_CIPHER)
    wrong_mean = sum(default.wrong_keys.values()) / len(default.wrong_keys)
    lines += [
        "",
        f"With the right key nothing changes; with a wrong one {DEFAULT_CIPHER} leaves {wrong_mean:.0%} (guessing: 10%).",
        f"{demo.seconds:.1f} s; the picture is {demo.picture}",
        *LIMITS,
    ]
    return "\n".join(lines)


def draw_picture(model: nn.Module, key: SecretKey, images: list[Image.Image], classes: list[str]) -> Image.Image:
    """Draw rows of plain, encrypted (each cipher), decrypted and wrongly decrypted images, one column per image.

    Ciphertext of `orthogonal` is float and is clipped to [0, 1] for display only.
    """
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).float() / 255
    schemes: dict[str, Scheme] = {}
    for cipher in CIPHERS:
        scheme = scheme_of(encrypt_model(model, key, cipher=cipher))
        assert scheme is not None  # encrypted just now
        schemes[cipher] = scheme
    default = BlockCipher(key, schemes[DEFAULT_CIPHER])
    ciphertext = default.encrypt(pixels)
    thief = BlockCipher(wrong_key(0), schemes[DEFAULT_CIPHER].without_fingerprint())
    rows = {
        "plain": pixels,
        **{f"encrypted: {cipher}": BlockCipher(key, scheme).encrypt(pixels) for cipher, scheme in schemes.items()},
        "decrypted, right key": default.decrypt(ciphertext),
        "decrypted, wrong key": thief.decrypt(ciphertext),
    }
    return draw_rows(rows, classes)
