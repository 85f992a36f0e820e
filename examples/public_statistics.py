"""Compute the public statistics that `encmixer audit` uses without --public-images, and how common colours are in photos.

Needs the extras audit and, for parquet and Hub data sets, data: pip install ".[audit,data]".

    python examples/public_statistics.py --data data/cifar10 --out timm_encmixer/audit

They are means and covariances of blocks of 4 px, and counts of the blocks' mean colours, of CIFAR-10 training images after the
bundled model's preprocessing. No image can be seen in them.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_MODEL
from timm_encmixer.images import open_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder or Hub data set of public photos")
    parser.add_argument("--split", default="train")
    parser.add_argument("--count", type=int, default=20_000, help="images, the first so many of a fixed random order")
    parser.add_argument("--out", type=Path, required=True, help="folder of the files to write")
    args = parser.parse_args()
    if importlib.util.find_spec("scipy") is None:
        raise SystemExit('This script needs the extra audit. In a checkout: pip install ".[audit]"')

    model = te.encrypt_model(timm.create_model(BUNDLED_MODEL), te.SecretKey.generate())  # for its record only
    preprocess = te.create_transform(model.encmixer.without_fingerprint(), key=te.SecretKey.generate()).preprocess
    photos = open_images(args.data, split=args.split)
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0))[: args.count].tolist()
    from timm_encmixer.audit.methods.colours import BUNDLED_COLOURS, colour_counts
    from timm_encmixer.audit.methods.statistics import BUNDLED_STATISTICS

    images, patch = torch.stack([preprocess(photos[index][0]) for index in order]), model.encmixer.patch_size
    te.audit.image_statistics(images, patch).save(args.out / BUNDLED_STATISTICS.name)
    save_file({"counts": colour_counts(images, patch)}, args.out / BUNDLED_COLOURS.name)
    print(f"{args.out}: blocks of {patch} px from {len(images)} images")


if __name__ == "__main__":
    main()
