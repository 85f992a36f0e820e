"""A third party fine-tunes an encrypted model for a new task, and sees the images only encrypted.

Needs scikit-learn, for its scanned digits: pip install scikit-learn.

1. The owner encrypts a model and the new task's images (scikit-learn's scanned digits, brought to the model's input).
2. The third party gets the encrypted model, ciphertext and labels, and no key. It returns a fine-tuned model.
3. The owner decrypts that model, which now reads plain images, and compares it with plain fine-tuning from the same seed.

By default the stem is frozen. Then every later layer sees the same numbers as in plain fine-tuning, and the results agree to
rounding. With --train-stem the paths differ a little, because the normalisation that is folded into the stem rescales its
gradient (docs/training.md).

    python examples/finetune_encrypted.py --key owner.key --out runs/finetuned
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed, tqdm
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import timm_encmixer as te
from timm_encmixer.checkpoints import load_model
from timm_encmixer.distributed import check_launch, exit_on_error
from timm_encmixer.images import normalise, normalised_plain
from timm_encmixer.scheme import facts_of

CIPHERS = [name for name in te.BLOCK_CIPHERS if facts_of(name).exact and facts_of(name).fits(4)]  # of blocks of 4 px


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="convmixer_256_8_ks5_p4.cifar10", help="plain model: timm name, hf-hub:ID, folder")
    parser.add_argument("--key", help="key file; default: the file that TIMM_ENCMIXER_KEY names")
    parser.add_argument("--cipher", choices=CIPHERS, default="shuffle+negpos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two models and the figures")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32, help="per process")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--train-stem", action="store_true", help="train the stem too")
    parser.add_argument("--limit", type=int, help="use the first so many digits")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def digits(limit: int | None) -> tuple[list[Image.Image], list[int]]:
    """Scanned digits, 8 x 8 px with values 0 to 16, as grey RGB images."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = [Image.fromarray((scan * 255 / 16).round().astype("uint8")).convert("RGB") for scan in scans.images[:limit]]
    return images, scans.target[:limit].tolist()


def fine_tune(
    accelerator: Accelerator, model: nn.Module, inputs: Tensor, labels: Tensor, classes: int, args: argparse.Namespace
) -> nn.Module:
    """Replace the head and train: plain or encrypted, the same lines."""
    set_seed(args.seed)
    model.reset_classifier(classes)
    model.train().to(memory_format=torch.channels_last)
    if not args.train_stem:
        model.stem[0].requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=0.9, weight_decay=5e-4)
    order = torch.Generator().manual_seed(args.seed)
    loader = DataLoader(TensorDataset(inputs, labels), args.batch_size, shuffle=True, drop_last=True, generator=order)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(args.epochs):
        for batch, targets in tqdm(loader, desc=f"epoch {epoch + 1}/{args.epochs}", unit="batch"):
            loss = nn.functional.cross_entropy(model(batch.to(memory_format=torch.channels_last)), targets)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    return accelerator.unwrap_model(model).eval()


def third_party(accelerator: Accelerator, handed_over: Path, handed_back: Path, args: argparse.Namespace) -> None:
    """All that happens outside: an encrypted model, ciphertext and labels in, a fine-tuned model out. No key anywhere."""
    task = torch.load(handed_over / "task.pt", weights_only=True)
    model = te.load_encrypted(accelerator, handed_over / "model")
    tuned = fine_tune(
        accelerator, model, normalise(task["ciphertext"], scheme=model.encmixer), task["labels"], task["classes"], args
    )
    te.save_encrypted(accelerator, tuned, handed_back, force=True)


@torch.inference_mode()
def right(accelerator: Accelerator, model: nn.Module, inputs: Tensor, labels: Tensor) -> int:
    loader = accelerator.prepare(DataLoader(TensorDataset(inputs, labels), 64))
    model = model.eval().to(accelerator.device)
    return sum(int(accelerator.gather_for_metrics(model(batch).argmax(1) == targets).sum()) for batch, targets in loader)


def run(args: argparse.Namespace, accelerator: Accelerator) -> dict[str, object]:
    check_launch()
    key = te.share_key(accelerator, args.key)
    images, targets = digits(args.limit)
    classes = 1 + max(targets)
    labels = torch.tensor(targets)

    # the owner
    plain = load_model(args.model)
    encrypted = te.encrypt_model(plain, key, cipher=args.cipher)
    sender = te.create_transform(encrypted, key=key, output="uint8")
    pixels = torch.stack([sender.preprocess(image) for image in images])
    held_out = len(images) // 4
    if accelerator.is_main_process:
        (args.out / "handed-over").mkdir(parents=True, exist_ok=True)
        te.save_model(encrypted, args.out / "handed-over" / "model", force=True)
        task = {"ciphertext": sender.cipher.encrypt(pixels[held_out:]), "labels": labels[held_out:], "classes": classes}
        torch.save(task, args.out / "handed-over" / "task.pt")
    accelerator.wait_for_everyone()

    third_party(accelerator, args.out / "handed-over", args.out / "handed-back", args)

    # the owner once more
    scheme = encrypted.encmixer
    tuned = load_model(str(args.out / "handed-back"))
    decrypted = te.decrypt_model(tuned, key)
    inputs = normalised_plain(pixels, scheme.plain)
    compared = fine_tune(accelerator, plain, inputs[held_out:], labels[held_out:], classes, args)
    te.save_encrypted(accelerator, compared, args.out / "plain-fine-tuned", force=True)  # BatchNorm's statistics of one process
    compared = load_model(str(args.out / "plain-fine-tuned"))
    test, truth = inputs[:held_out], labels[:held_out]
    ciphertext = normalise(sender.cipher.encrypt(pixels[:held_out]), scheme=scheme)
    with torch.inference_mode():
        difference = (decrypted(test[:64]) - compared(test[:64])).abs().max().item()
    return {
        "num_processes": accelerator.num_processes,
        "trained_on": len(images) - held_out,
        "tested_on": held_out,
        "stem_trained": args.train_stem,
        "right": {
            "encrypted_model_on_ciphertext": right(accelerator, tuned, ciphertext, truth),
            "encrypted_model_on_plain_images": right(accelerator, tuned, test, truth),
            "decrypted_model_on_plain_images": right(accelerator, decrypted, test, truth),
            "plain_fine_tuning": right(accelerator, compared, test, truth),
        },
        "max_logit_difference": difference,
    }


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("sklearn") is None:
        raise SystemExit("This script needs scikit-learn: pip install scikit-learn")
    torch.set_flush_denormal(True)  # trained weights lead to denormal gradients, on which CPUs are many times slower
    with exit_on_error():
        accelerator = Accelerator()
        figures = run(args, accelerator)
        if accelerator.is_main_process:
            text = json.dumps(figures, indent=2)
            print(text)
            (args.out / "result.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
