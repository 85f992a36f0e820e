"""Train a plain ConvMixer on small images with timm's parts and accelerate; encrypt it afterwards.

Needs the extra data: pip install ".[data]".

The encryption needs no special training. This script knows nothing of keys. To resume after an interruption, run the same
command again: it goes on from the last finished epoch, and the result is the same. `accelerate launch` runs several processes.

    python examples/train.py --data data/cifar10 --out runs/cifar10
    encmixer model encrypt runs/cifar10 runs/cifar10-encrypted --key owner.key
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import shutil
import time
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed, tqdm
from timm.data import create_dataset, create_loader, resolve_model_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, ParseKwargs
from torch.utils.data import Subset

from timm_encmixer.distributed import check_launch, exit_on_error  # importing it registers convmixer_256_8_ks5_p4 too

LOG_HEAD = "epoch,px,loss,held_out_accuracy,learning_rate,seconds\n"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that datasets.load_dataset reads (train, test)")
    parser.add_argument("--out", type=Path, required=True, help="gets model.safetensors, config.json, log.csv, result.json")
    parser.add_argument("--input-key", default="img")
    parser.add_argument("--target-key", default="label")
    parser.add_argument("--model", default="convmixer_256_8_ks5_p4", help="any plain timm model name")
    parser.add_argument(
        "--model-kwargs", nargs="*", default={}, action=ParseKwargs, help="for timm.create_model: dim=128 depth=8 ..."
    )
    parser.add_argument(
        "--freeze-stem", action="store_true", help="keep a random orthogonal stem as it is: see docs/security.md"
    )
    parser.add_argument(
        "--phases",
        nargs="+",
        default=["20:24:0.35", "8:32:0.6"],
        metavar="EPOCHS:PX:SCALE",
        help="training crops by phase: epochs, side in pixels, smallest share of the image's area",
    )
    parser.add_argument("--batch-size", type=int, default=128, help="per process")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--warmup-epochs", type=int, default=2)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--clip-grad", type=float, default=1.0)
    parser.add_argument("--ema-decay", type=float, default=0.998)
    parser.add_argument("--holdout", type=int, default=1000, help="training images kept aside to watch progress")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop-after", type=int, help="stop after this epoch; the same command without it goes on")
    return parser.parse_args()


@torch.no_grad()
def accuracy(accelerator: Accelerator, model: torch.nn.Module, loader: torch.utils.data.DataLoader) -> float:
    """Share of right top-1 answers in [0, 1]; every sample counts once, on any number of processes."""
    model.eval()
    right = seen = 0
    for images, labels in loader:
        answers = model(images.to(memory_format=torch.channels_last)).argmax(dim=1)
        answers, labels = accelerator.gather_for_metrics((answers, labels))
        right += int((answers == labels).sum())
        seen += len(labels)
    return right / seen


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is old or new at every moment, never half written."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def freeze_stem(model: torch.nn.Module) -> None:
    """Give the stem random orthogonal weights, as large as its own, and freeze them: they hold no trace of photos."""
    weight = model.get_submodule(model.pretrained_cfg["first_conv"]).weight
    with torch.no_grad():
        drawn = torch.nn.init.orthogonal_(torch.empty(weight[0].numel(), len(weight))).T.reshape(weight.shape)
        weight.copy_(drawn * weight.std() / drawn.std())
    weight.requires_grad_(False)


def resume(accelerator: Accelerator, out: Path) -> int:
    """Load the state after the last finished epoch, if there is one, and return that epoch's number."""
    latest = out / "latest.json"
    if not latest.is_file():
        return 0
    finished: int = json.loads(latest.read_text())["finished"]
    accelerator.load_state(str(out / f"state-{finished}"))
    accelerator.print(f"resuming after epoch {finished}")
    return finished


def save(accelerator: Accelerator, out: Path, finished: int) -> None:
    """Save the state after an epoch, then name it as the latest, then drop the others: a kill in between loses an epoch."""
    accelerator.save_state(str(out / f"state-{finished}"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_whole(out / "latest.json", json.dumps({"finished": finished}))
        for other in out.glob("state-*"):
            if other.name != f"state-{finished}":
                shutil.rmtree(other)


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("datasets") is None:
        raise SystemExit('This script needs the extra data. In a checkout: pip install ".[data]"')
    torch.set_flush_denormal(True)  # trained weights lead to denormal gradients, on which CPUs are many times slower
    accelerator = Accelerator()  # --mixed_precision and the number of processes come from `accelerate launch`
    check_launch()
    set_seed(args.seed)
    phases = [(int(epochs), int(px), float(scale)) for epochs, px, scale in (p.split(":") for p in args.phases)]
    epochs = sum(phase[0] for phase in phases)

    model = timm.create_model(args.model, **args.model_kwargs).to(memory_format=torch.channels_last)
    if args.freeze_stem:
        freeze_stem(model)
    config = resolve_model_data_config(model)
    train_set, held_out_set, test_set = (
        create_dataset(
            f"hfds/{args.data.resolve()}",
            root=None,
            split=split,
            is_training=split == "train",
            input_key=args.input_key,
            target_key=args.target_key,
        )
        for split in ("train", "train", "test")
    )
    order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(args.seed)).tolist()
    common = {
        "batch_size": args.batch_size,
        "interpolation": config["interpolation"],
        "mean": config["mean"],
        "std": config["std"],
        "num_workers": args.workers,
        "use_prefetcher": False,
        "persistent_workers": False,
    }

    def evaluation_loader(indices: list[int] | range, split: str) -> torch.utils.data.DataLoader:
        dataset = held_out_set if split == "train" else test_set
        loader = create_loader(dataset, config["input_size"], crop_pct=config["crop_pct"], **common)
        plain = torch.utils.data.DataLoader(Subset(dataset, indices), args.batch_size, collate_fn=loader.collate_fn)
        return accelerator.prepare(plain)

    held_out = evaluation_loader(order[: args.holdout], "train")

    def training_loader(px: int, scale: float) -> torch.utils.data.DataLoader:
        subset = Subset(train_set, order[args.holdout :])
        # timm sets the transform on the data set it is given: the one below the subset is what its workers read
        loader = create_loader(
            train_set, (3, px, px), is_training=True, scale=(scale, 1.0), ratio=(4 / 5, 5 / 4), color_jitter=0.1, **common
        )
        return accelerator.prepare(
            torch.utils.data.DataLoader(
                subset,
                args.batch_size,
                shuffle=True,
                drop_last=True,
                num_workers=args.workers,
                collate_fn=loader.collate_fn,
                worker_init_fn=loader.worker_init_fn,
            )
        )

    optimizer = create_optimizer_v2(model, opt="adamw", lr=args.lr, weight_decay=args.weight_decay)
    steps = (len(train_set) - args.holdout) // (args.batch_size * accelerator.num_processes)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=epochs,
        warmup_epochs=args.warmup_epochs,
        warmup_lr=args.lr / 20,
        min_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    ema = ModelEmaV3(model, decay=args.ema_decay, use_warmup=True, warmup_power=0.75)
    criterion = LabelSmoothingCrossEntropy(args.smoothing)
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(ema)  # the schedule follows from the update's number

    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "log.csv"
    first = resume(accelerator, args.out)
    if accelerator.is_main_process:  # an epoch may have been logged whose state was not saved any more
        rows = log.read_text().splitlines(keepends=True)[: first + 1] if first else [LOG_HEAD]
        write_whole(log, "".join(rows))

    for epoch in range(first, min(epochs, args.stop_after or epochs)):
        start = time.perf_counter()
        px, scale = [(px, scale) for length, px, scale in phases for _ in range(length)][epoch]
        loader = training_loader(px, scale)
        model.train()
        total = torch.zeros((), device=accelerator.device, dtype=torch.float64)
        for step, (images, labels) in enumerate(tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", mininterval=10, leave=False)):
            with accelerator.autocast():
                loss = criterion(model(images.to(memory_format=torch.channels_last)).float(), labels)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), args.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            update = epoch * steps + step + 1
            scheduler.step_update(update)
            ema.update(accelerator.unwrap_model(model), step=update)
            total += loss.detach()
        score = accuracy(accelerator, ema.module, held_out)
        row = [
            epoch + 1,
            px,
            repr(accelerator.reduce(total, "mean").item() / steps),
            f"{score:.4f}",
            f"{optimizer.param_groups[0]['lr']:.6f}",
            f"{time.perf_counter() - start:.0f}",
        ]
        accelerator.print(*row, sep="  ", flush=True)
        if accelerator.is_main_process:
            with log.open("a", newline="") as file:
                csv.writer(file).writerow(row)
        save(accelerator, args.out, epoch + 1)

    if (args.stop_after or epochs) < epochs:
        return
    test_accuracy = accuracy(accelerator, ema.module, evaluation_loader(range(len(test_set)), "test"))
    accelerator.print(f"test accuracy {test_accuracy:.4f} on {len(test_set)} images")
    if accelerator.is_main_process:
        ema.module.to(memory_format=torch.contiguous_format)  # safetensors takes no other
        timm.models.save_for_hf(ema.module, str(args.out), safe_serialization=True)
        result = {"test_accuracy": test_accuracy, "test_images": len(test_set), "epochs": epochs, "seed": args.seed}
        (args.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    with exit_on_error():
        main()
