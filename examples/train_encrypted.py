"""Train on encrypted images only, and show that the path is that of plain training.

Needs the extra audit, for matplotlib: pip install ".[audit]".

Every cipher is orthogonal and the stem is linear. So SGD from an encrypted start on ciphertext takes the steps of SGD from the
plain start on plain images, if both are normalised by mean = std = 1/2. The script trains one random start both ways,
in float64 and in float32. It writes losses.csv, losses.png, result.json and the model that was trained on ciphertext.

    python examples/train_encrypted.py --key owner.key --out runs/encrypted
    python examples/train_encrypted.py --key owner.key --out runs/adamw --optimizer adamw --lr 0.001 --cipher orthogonal

docs/training.md says which optimizers keep the path. `accelerate launch` runs the script on several processes.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed, tqdm
from torch import Tensor, nn
from torch.utils.data import DataLoader

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images
from timm_encmixer.distributed import check_launch, exit_on_error, on_every_process
from timm_encmixer.images import LabelledImages, MemoryImages, PlainPixels, normalise, open_labelled_images
from timm_encmixer.scheme import facts_of

CIPHERS = [name for name in te.BLOCK_CIPHERS if facts_of(name).fits(4)]  # of blocks of 4 px
CLASSES = 10
HALF = (0.5, 0.5, 0.5)
CONFIG = {"mean": HALF, "std": HALF, "input_size": (3, 32, 32), "crop_pct": 1.0}
FLOAT32_NOISE = ("plain_float32", "plain_float64")
Batches = Iterable[list[Tensor]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"images of {CLASSES} classes, as for encmixer eval; default: the bundled ones")
    parser.add_argument("--split", default="train", help="split of a table")
    parser.add_argument("--label-column", help="column of class labels of a table; needed where it has several")
    parser.add_argument("--key", help="key file; default: the file that TIMM_ENCMIXER_KEY names")
    parser.add_argument("--cipher", choices=CIPHERS, default="shuffle+negpos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32, help="per process")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def train(
    accelerator: Accelerator, model: nn.Module, batches: Batches, args: argparse.Namespace, label: str
) -> tuple[nn.Module, list[float]]:
    """Train a model; nothing here knows whether its inputs are encrypted. Returns it and the loss of every step."""
    model = accelerator.prepare(model.train().to(memory_format=torch.channels_last))
    options = {"lr": args.lr, "weight_decay": args.weight_decay}
    if args.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, **options)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), **options)
    optimizer = accelerator.prepare(optimizer)
    losses = []
    endless = forever(batches)
    for _ in tqdm(range(args.steps), desc=label, unit="step"):
        inputs, labels = next(endless)
        loss = nn.functional.cross_entropy(model(inputs), labels)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(accelerator.reduce(loss.detach(), "mean").item())
    return accelerator.unwrap_model(model), losses


def forever(batches: Batches) -> Iterator[list[Tensor]]:
    while True:
        yield from batches


class NormalisedLoader:
    """What `prepare_encrypted` gives, without the cipher: for the plain run that the encrypted one is compared with."""

    def __init__(self, sharded: DataLoader, dtype: torch.dtype) -> None:
        self.sharded, self.dtype = sharded, dtype

    def __iter__(self) -> Iterator[list[Tensor]]:
        for pixels, labels in self.sharded:
            yield [normalise(pixels, self.dtype), labels]


def compare(args: argparse.Namespace, accelerator: Accelerator) -> tuple[nn.Module, dict[str, list[float]]]:
    """Train the same start on plain and on encrypted images, in two precisions."""
    check_launch()
    key = te.share_key(accelerator, args.key)

    def load() -> LabelledImages:
        if not args.data:
            return MemoryImages(*bundled_images()[:2])
        return open_labelled_images(args.data, split=args.split, label_column=args.label_column)

    data = on_every_process(load)

    def start(dtype: torch.dtype) -> nn.Module:
        """The same random weights every time."""
        set_seed(args.seed)
        shape = {"dim": 32, "depth": 4, "kernel_size": 5, "patch_size": 4, "num_classes": CLASSES}
        return timm.create_model("convmixer_custom", pretrained_cfg_overlay=CONFIG, **shape).to(dtype)

    def loader() -> DataLoader:
        """Plain uint8 images, in the same random order every time. Augmentation belongs here, before the cipher."""
        preprocess = te.create_transform(te.encrypt_model(start(torch.float32), key), key=key).preprocess
        order = torch.Generator().manual_seed(args.seed)
        return DataLoader(PlainPixels(data, preprocess), args.batch_size, shuffle=True, drop_last=True, generator=order)

    losses = {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        plain_batches = NormalisedLoader(accelerator.prepare(loader()), dtype)
        _, losses[f"plain_{name}"] = train(accelerator, start(dtype), plain_batches, args, f"plain {name}")

        encrypted = te.encrypt_model(start(dtype), key, cipher=args.cipher)  # all that is seen from here on is encrypted
        cipher = te.BlockCipher(key, encrypted.encmixer)
        batches = te.prepare_encrypted(accelerator, loader(), cipher, dtype=dtype)
        trained, losses[f"encrypted_{name}"] = train(accelerator, encrypted, batches, args, f"encrypted {name}")
    return trained, losses


def summary(args: argparse.Namespace, losses: dict[str, list[float]]) -> dict[str, object]:
    def gap(one: str, other: str) -> float:
        return max(abs(a - b) for a, b in zip(losses[one], losses[other], strict=True))

    return {
        "optimizer": args.optimizer,
        "cipher": args.cipher,
        "steps": args.steps,
        "first_loss": losses["plain_float64"][0],
        "last_loss": losses["plain_float64"][-1],
        "gap_float64": gap("plain_float64", "encrypted_float64"),
        "gap_float32": gap("plain_float32", "encrypted_float32"),
        "noise_float32": gap(*FLOAT32_NOISE),
    }


def write(out: Path, losses: dict[str, list[float]], figures: dict[str, object]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with (out / "losses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *losses])
        writer.writerows([step, *row] for step, row in enumerate(zip(*losses.values(), strict=True), start=1))
    (out / "result.json").write_text(json.dumps(figures, indent=2) + "\n")

    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(8, 7), layout="constrained")
    above.plot(losses["plain_float64"], label="plain", linewidth=3, alpha=0.5)
    above.plot(losses["encrypted_float64"], label="encrypted", linewidth=1)
    above.set(ylabel="training loss", title=f"{figures['optimizer']}, {figures['cipher']}: one start, two runs")
    above.legend()
    for one, other in (("plain_float64", "encrypted_float64"), ("plain_float32", "encrypted_float32"), FLOAT32_NOISE):
        gaps = [abs(a - b) or float("nan") for a, b in zip(losses[one], losses[other], strict=True)]
        below.semilogy(gaps, ".-", markersize=3, linewidth=0.5, label=f"{one} - {other}".replace("_", " "))
    below.set(xlabel="step", ylabel="difference of losses (none where equal)")
    below.legend(loc="center right")
    figure.savefig(out / "losses.png", dpi=120)


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit('This script needs matplotlib, of the extra audit. In a checkout: pip install ".[audit]"')
    with exit_on_error():
        accelerator = Accelerator()
        trained, losses = compare(args, accelerator)
        if accelerator.is_main_process:
            args.out.mkdir(parents=True, exist_ok=True)
        te.save_encrypted(accelerator, trained, args.out / "model", force=True)
        if accelerator.is_main_process:
            figures = summary(args, losses)
            write(args.out, losses, figures)
            print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
