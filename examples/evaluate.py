"""Measure an encrypted model on one process or many: plain, right key, no key, and wrong keys.

Class folders need no extra. Parquet folders and Hub data sets need the extra data: pip install ".[data]".

    python examples/evaluate.py --data data/cifar10 --key owner.key --wrong-keys 5
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 --num_machines 1 examples/evaluate.py ...

Only the main process reads the key. Every sample counts once, on any number of processes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import reduce, tqdm
from torch.utils.data import DataLoader

import timm_encmixer as te
from timm_encmixer.distributed import check_launch, exit_on_error, on_every_process
from timm_encmixer.errors import DataError
from timm_encmixer.evaluation import verify, wrong_key
from timm_encmixer.images import PlainPixels, cipher_input, normalise, normalised_plain, open_labelled_images

FLOOR_IMAGES = 32  # enough for a steady maximum


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of class folders, parquet folder or Hub data set")
    parser.add_argument("--split", help="split of a table; default: test, else validation, else train")
    parser.add_argument("--label-column", help="column of class labels of a table; needed where it has several")
    parser.add_argument("--key", help="key file; default: the file that TIMM_ENCMIXER_KEY names")
    parser.add_argument("--model", default="encmixer_256_8_ks5_p4.cifar10", help="plain or encrypted: name, hf-hub:ID, folder")
    parser.add_argument("--wrong-keys", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=64, help="per process")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


@torch.inference_mode()
def evaluate(args: argparse.Namespace, accelerator: Accelerator) -> dict[str, object]:
    check_launch()
    key = te.share_key(accelerator, args.key)
    encrypted = te.load_encrypted(accelerator, args.model, key=key).to(memory_format=torch.channels_last)
    plain = te.decrypt_model(encrypted, key)
    data = on_every_process(lambda: open_labelled_images(args.data, split=args.split, label_column=args.label_column))
    transform = te.create_transform(encrypted, key=key)
    scheme = transform.cipher.scheme

    floor = verify(  # the encrypted model's error against the plain model's own rounding, in this precision
        plain.to(accelerator.device),
        encrypted.to(accelerator.device),
        key,
        [(str(index), data[index][0]) for index in range(min(FLOOR_IMAGES, len(data)))],
        precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
    )
    loader = accelerator.prepare(DataLoader(PlainPixels(data, transform.preprocess), args.batch_size, num_workers=args.workers))
    plain, encrypted = (accelerator.prepare_model(model, evaluation_mode=True) for model in (plain, encrypted))
    wrong = [te.BlockCipher(wrong_key(index), scheme.without_fingerprint()) for index in range(args.wrong_keys)]

    names = ["plain", "right_key", "no_key", *(f"wrong_key_{index}" for index in range(len(wrong)))]
    right = torch.zeros(len(names), dtype=torch.int64)
    seen = 0
    start = time.perf_counter()
    for pixels, labels in tqdm(loader, desc="evaluating", unit="batch"):
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        answers = [
            plain(normalised_plain(pixels, scheme.plain)),
            encrypted(cipher_input(transform.cipher, pixels)),
            encrypted(normalise(pixels)),
            *(encrypted(cipher_input(cipher, pixels)) for cipher in wrong),
        ]
        hits = torch.stack([logits.argmax(dim=1) == labels for logits in answers], dim=1)
        hits = accelerator.gather_for_metrics(hits)  # leaves out the samples that pad the last batch
        right += hits.sum(dim=0).cpu()
        seen += len(hits)
    seconds = reduce(torch.tensor(time.perf_counter() - start, device=accelerator.device), "mean").item()
    if seen != len(data):
        raise DataError(args.data, f"{len(data)} samples, each once", f"{seen}", "report this as a bug of timm-encmixer")
    return {
        "data": args.data,
        "images": seen,
        "num_processes": accelerator.num_processes,
        "cipher": scheme.cipher,
        "fingerprint": key.fingerprint,
        "right": dict(zip(names, right.tolist(), strict=True)),
        "accuracy": {name: count / seen for name, count in zip(names, right.tolist(), strict=True)},
        "precision": floor.precision,
        "noise_floor": floor.noise_floor,
        "max_logit_difference": floor.max_logit_difference,
        "images_per_second": seen * len(names) / seconds,
    }


def main() -> None:
    args = parse_args()
    with exit_on_error():
        accelerator = Accelerator()
        figures = evaluate(args, accelerator)
        if accelerator.is_main_process:
            text = json.dumps(figures, indent=2)
            print(text)
            if args.json is not None:
                args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
