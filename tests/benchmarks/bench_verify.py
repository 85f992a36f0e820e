"""Processor time of `model verify`, and of its reference in float64 computed by torch alone, by models and numbers of threads.

python tests/benchmarks/bench_verify.py
"""

from __future__ import annotations

import contextlib
import sys
import time

import timm
import torch

from timm_encmixer import SecretKey, encrypt_model
from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images
from timm_encmixer.evaluation.depthwise import ShiftedDepthwise
from timm_encmixer.evaluation.exactness import verify

MODELS = {
    "convmixer_256_8_ks5_p4": (24, 32),
    "vit_tiny_patch16_224": (4, 224),
    "convnext_tiny": (4, 224),
    "convmixer_768_32": (4, 224),
}


def reference_seconds(model: torch.nn.Module, images: torch.Tensor, *, shifted: bool) -> float:
    with torch.inference_mode(), ShiftedDepthwise() if shifted else contextlib.nullcontext():
        start = time.process_time()
        model(images)
        return time.process_time() - start


def main() -> None:
    key, model = SecretKey.generate(), timm.create_model(BUNDLED_MODEL, pretrained=True).eval()
    encrypted, images = encrypt_model(model, key), [(str(i), image) for i, image in enumerate(bundled_images()[0][:24])]
    for threads in (1, 16):
        torch.set_num_threads(threads)
        start = time.process_time()
        verify(model, encrypted, key, images, progress=False)
        seconds = time.process_time() - start
        print(f"verify, bundled model, 24 images of 32 px, {threads:>2} threads: {seconds:.2f} s of processor time")
        print(f"{'reference in float64':<26}{'images':>9}{'by torch':>11}{'by shifts':>11}")
        for name, (count, side) in MODELS.items():
            exact, batch = timm.create_model(name).double().eval(), torch.rand(count, 3, side, side, dtype=torch.float64)
            own, shifts = (reference_seconds(exact, batch, shifted=shifted) for shifted in (False, True))
            print(f"{name:<26}{count:>4} {side:>3}px{own:>10.2f}s{shifts:>10.2f}s")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
