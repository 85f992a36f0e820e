"""Measure what JPEG costs: bytes and answers for plain images, for ciphertext of `etc`, and for ciphertext of another cipher.

Needs the extra data for parquet folders, and audit for --photos: pip install ".[data,audit]".

    python examples/jpeg.py --model runs/p8 --data data/cifar10                          # accuracy, on labelled images
    python examples/jpeg.py --model vit_base_patch16_clip_224 --random-weights --photos  # agreement, on real photos

The model is a plain one whose blocks are multiples of 8 px. Every image is compressed as a file of its own and read again, as
PNG and as JPEG of each quality, 4:4:4. Of each way the table has the mean size of a file, the accuracy, and how far the logits
are from those of the plain model on images that lost nothing: root mean square, in standard deviations of the logits.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import timm_encmixer as te
from timm_encmixer.checkpoints import load_model
from timm_encmixer.evaluation.columns import text_table
from timm_encmixer.images import normalise, normalised_plain, open_folder, open_labelled_images

PNG = 0  # instead of a quality
PLAIN, OTHER = "plain", "shuffle+negpos"
BATCH = 64


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="plain model: timm's name, hf-hub:ID or a folder")
    parser.add_argument("--random-weights", action="store_true", help="build the architecture instead of loading weights")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="labelled images: class folders, parquet folder or Hub data set")
    source.add_argument("--images", type=Path, help="folder of images without labels")
    source.add_argument("--photos", action="store_true", help="the photos that come with scikit-image and foolbox")
    parser.add_argument("--split", help="split of a table; default: test, else validation, else train")
    parser.add_argument("--limit", type=int, default=1000, help="images, a random choice of fixed seed [1000]")
    parser.add_argument("--qualities", type=int, choices=range(1, 101), metavar="1-100", nargs="+", default=[75, 85, 95])
    parser.add_argument("--ciphers", nargs="+", default=["etc", OTHER], help="that are compared with plain images")
    return parser.parse_args()


def images_of(
    args: argparse.Namespace, plain_view: Callable[[Image.Image], Image.Image], sides: tuple[int, ...]
) -> tuple[list[Image.Image], Tensor | None]:
    """Return the images as the plain model sees them, and their labels."""
    if args.photos:
        from timm_encmixer.audit.photos import sample_photos

        crops = sample_photos(*sides)[: 2 * args.limit : 2]  # every second one is a mirror image
        return [Image.fromarray(crop.permute(1, 2, 0).numpy()) for crop in crops], None
    if args.images is not None:
        return [plain_view(image.convert("RGB")) for _, image in open_folder(args.images, limit=args.limit)], None
    data = open_labelled_images(args.data, split=args.split)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.limit].tolist()
    samples = [data[index] for index in chosen]
    return [plain_view(image) for image, _ in samples], torch.tensor([label for _, label in samples])


def sent(images: Sequence[Image.Image], quality: int) -> tuple[Tensor, float]:
    """Return what arrives of images that travel as files, uint8 (N, C, H, W), and the mean size of a file in bytes."""
    pixels, size = [], 0
    for image in images:
        buffer = io.BytesIO()
        if quality == PNG:
            image.save(buffer, format="PNG", compress_level=6, pnginfo=te.images.png_info(image))
        else:
            image.save(buffer, format="JPEG", quality=quality, subsampling=0)
        size += buffer.tell()
        pixels.append(torch.from_numpy(np.array(Image.open(buffer).convert(image.mode)).reshape(image.height, image.width, -1)))
    return torch.stack(pixels).permute(0, 3, 1, 2), size / len(images)


@torch.inference_mode()
def logits(model: nn.Module, inputs: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    return torch.cat([model(inputs(part)) for part in torch.split(pixels, BATCH)])


def rows(model: nn.Module, key: te.SecretKey, args: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return the table: a row for each quality and way."""
    senders = {cipher: te.encrypt_model(model, key, cipher=cipher) for cipher in args.ciphers}
    plain = senders[args.ciphers[0]].encmixer.plain
    prepare = te.create_transform(senders[args.ciphers[0]], key=key, output="image").prepare
    images, labels = images_of(args, prepare, plain.input_size[1:])
    ways: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor], list[Image.Image]]] = {
        PLAIN: (model, lambda pixels: normalised_plain(pixels, plain), images)
    }
    for cipher, encrypted in senders.items():
        send = te.images.ClientTransform(te.ImageCipher(key, encrypted.encmixer), output="image", resize=False)
        ways[cipher] = encrypted, normalise, [send(image) for image in images]
    truth = logits(model, ways[PLAIN][1], sent(images, PNG)[0])
    spread = truth.std(dim=0).mean()
    table: list[tuple[str, ...]] = [("quality", "images", "bytes", "of plain", "accuracy", "distance")]
    for quality in (PNG, *args.qualities):
        plain_bytes = 0.0
        for way, (network, inputs, files) in ways.items():
            pixels, size = sent(files, quality)
            plain_bytes = plain_bytes or size
            answers = logits(network, inputs, pixels)
            accuracy = "-" if labels is None else f"{100 * (answers.argmax(dim=1) == labels).double().mean():.1f}%"
            distance = (answers - truth).square().mean().sqrt() / spread
            name = "PNG" if quality == PNG else str(quality)
            table.append((name, way, f"{size:.0f}", f"{size / plain_bytes:.3f}", accuracy, f"{distance:.4f}"))
    return table


def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    model = timm.create_model(args.model).eval() if args.random_weights else load_model(args.model)
    print("\n".join(text_table(rows(model, te.SecretKey(bytes(range(32))), args), left=2)))


if __name__ == "__main__":
    main()
