"""Train an encrypted model on an encrypted data set: a third party's part, which needs no key.

Needs the extra data: pip install ".[data]".

The owner first encrypts a model and a labelled data set (docs/datasets.md):

    encmixer model encrypt encmixer_256_8_ks5_p4.cifar10 encrypted --key owner.key
    encmixer dataset encrypt labelled labelled-encrypted --key owner.key --model encrypted

Then this script trains on ciphertext. timm's `hfds/` reader reads the data set, and accelerate runs one process or many:

    python examples/train_on_dataset.py --data labelled-encrypted --model local-dir:encrypted --out runs/on-ciphertext
    accelerate launch --multi_gpu --num_processes 8 --num_machines 1 examples/train_on_dataset.py ...

There is no augmentation: it belongs before the cipher (docs/training.md).
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed, tqdm
from timm.data import create_dataset, create_transform, resolve_model_data_config
from torch.utils.data import DataLoader

import timm_encmixer as te
from timm_encmixer.datasets import describe_dataset
from timm_encmixer.distributed import check_launch, exit_on_error


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that encmixer dataset encrypt wrote")
    parser.add_argument("--split", default="train")
    parser.add_argument("--input-key", default="image", help="column of the images")
    parser.add_argument("--target-key", default="label", help="column of the labels")
    parser.add_argument("--model", required=True, help="encrypted model: a folder or hf-hub:owner/name")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model, which is encrypted too")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32, help="per process")
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _check_data(args: argparse.Namespace, record: te.Scheme) -> None:
    """Refuse images that the model does not read, for it would train on them: plain ones, or under another key or cipher."""
    if not args.data.is_dir():
        raise te.EncMixerError("--data", "a folder that encmixer dataset encrypt wrote", f"{args.data}", "check the path")
    made_with = describe_dataset(str(args.data)).get("encmixer")
    if made_with is None:
        remedy = "encrypt it first: encmixer dataset encrypt"
        raise te.EncMixerError("--data", "an encrypted data set with its manifest", f"{args.data} without a record", remedy)
    theirs = te.Scheme.from_dict(made_with)
    same = ("cipher", "patch_size", "in_chans", "fingerprint")
    if any(getattr(theirs, name) != getattr(record, name) for name in same):
        expected = f"ciphertext of {record.cipher} under the key {record.fingerprint}, as the model reads"
        got = f"{theirs.cipher} under {theirs.fingerprint}"
        raise te.EncMixerError("--data", expected, got, "take the model that the data set was encrypted for")


def train(args: argparse.Namespace, accelerator: Accelerator) -> None:
    check_launch()
    set_seed(args.seed)
    record = te.find_scheme(args.model)
    _check_data(args, record)
    model = timm.create_model(args.model if ":" in args.model else f"local-dir:{args.model}", pretrained=True)
    # mean = std = 1/2, and no resizing: the config of an encrypted model asks for ciphertext as it is
    transform = create_transform(**resolve_model_data_config(model))
    data = create_dataset(
        f"hfds/{args.data.resolve()}",
        root=None,
        split=args.split,
        input_key=args.input_key,
        target_key=args.target_key,
        transform=transform,
    )
    loader = DataLoader(data, args.batch_size, shuffle=True, num_workers=args.workers)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    model.train()
    for epoch in range(args.epochs):
        total = torch.zeros((), device=accelerator.device)
        for images, labels in tqdm(loader, desc=f"epoch {epoch + 1}/{args.epochs}", unit="batch"):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        mean = accelerator.reduce(total, "mean").item() / len(loader)
        accelerator.print(f"epoch {epoch + 1}: mean loss {mean:.4f}")
    te.save_encrypted(accelerator, model, args.out, force=True)


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("datasets") is None:
        raise SystemExit('This script needs the extra data. In a checkout: pip install ".[data]"')
    torch.set_flush_denormal(True)  # trained weights lead to denormal gradients, on which CPUs are many times slower
    with exit_on_error():
        train(args, Accelerator())


if __name__ == "__main__":
    main()
