"""Time of the encrypted model against the plain one, and what the client's cipher costs per image beside it.

    python tests/benchmarks/bench_inference.py

Plain and encrypted model alternate, each first in every other round; the ratio is the median of the rounds' ratios.
On a GPU: convmixer_768_32, batch 256 at 224 px, by torch.cuda.Event, in bfloat16 as servers run it, with the cipher on the
device. On CPUs: the bundled model and, as it takes seconds an image, one 768/32 image at a time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import nn

import timm_encmixer as te
from timm_encmixer.images.tensors import cipher_input, normalise


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gpu_seconds(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def compare(name: str, plain: nn.Module, batch: int, px: int, rounds: int, device: str, dtype: torch.dtype) -> None:
    key = te.SecretKey.generate()
    layout = torch.channels_last
    plain = plain.eval()
    encrypted = te.encrypt_model(plain, key)
    cipher = te.BlockCipher(key, encrypted.encmixer)
    plain, encrypted = (model.to(device, dtype).to(memory_format=layout) for model in (plain, encrypted))
    pixels = torch.randint(0, 256, (batch, 3, px, px), dtype=torch.uint8, device=device)
    inputs = normalise(pixels).to(dtype).contiguous(memory_format=layout)
    seconds = gpu_seconds if device == "cuda" else cpu_seconds
    jobs: dict[str, Callable[[], object]] = {"plain": lambda: plain(inputs), "encrypted": lambda: encrypted(inputs)}
    ratios, plain_seconds, cipher_seconds = [], [], []
    with torch.inference_mode():
        for job in (*jobs.values(), lambda: cipher.encrypt(pixels), lambda: cipher_input(cipher, pixels)):
            job()
        for number in range(rounds):
            order = list(jobs) if number % 2 else list(jobs)[::-1]
            took = {job: seconds(jobs[job]) for job in order}
            ratios.append(took["encrypted"] / took["plain"])
            plain_seconds.append(took["plain"])
            cipher_seconds.append(seconds(lambda: cipher.encrypt(pixels)))
    model_us, cipher_us = (statistics.median(values) / batch * 1e6 for values in (plain_seconds, cipher_seconds))
    print(f"{name}, {batch} x {px} px, {device}, {dtype}".replace("torch.", ""))
    print(f"  encrypted / plain {statistics.median(ratios):.3f}   (median of {rounds} rounds; limit 0.97 to 1.03)")
    print(f"  plain model {model_us:10.1f} us an image")
    print(f"  cipher      {cipher_us:10.1f} us an image, {cipher_us / model_us:.2%} of the model")


def main() -> None:
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name())
        for dtype in (torch.bfloat16, torch.float32):
            compare("convmixer_768_32", timm.create_model("convmixer_768_32"), 256, 224, 20, "cuda", dtype)
        return
    small = timm.create_model("convmixer_256_8_ks5_p4.cifar10", pretrained=True)
    compare("convmixer_256_8_ks5_p4", small, 64, 32, 101, "cpu", torch.float32)
    compare("convmixer_768_32", timm.create_model("convmixer_768_32"), 1, 224, 15, "cpu", torch.float32)


if __name__ == "__main__":
    main()
