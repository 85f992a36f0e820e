"""Speed and memory of the uint8 ciphers, against the reshape-permute-index of public code and a plain copy, side by side.

    python tests/benchmarks/bench_cipher.py

One thread, 64 x 3 x 224 x 224, P = 7. In every round each candidate is warmed up and timed twice, so that a busy machine
slows all of them alike; the figures are the fastest of all rounds, which is what the code costs when nothing disturbs it, and
the ratios are between those of the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

import timm_encmixer as te
from timm_encmixer.scheme import facts_of

SHAPE, PATCH, ROUNDS = (64, 3, 224, 224), 7, 25


def reference(images: Tensor, order: Tensor, negative: Tensor | None) -> Tensor:
    """The straightforward way: cut into blocks, index by the key, put together again."""
    n, c, h, w = images.shape
    blocks = images.reshape(n, c, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * PATCH**2)
    blocks = blocks[:, :, order]
    if negative is not None:
        blocks = torch.where(negative, 255 - blocks, blocks)
    cut = blocks.reshape(n, h // PATCH, w // PATCH, c, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return cut.reshape(n, c, h, w)


def parts(cipher: te.BlockCipher) -> tuple[Tensor, Tensor | None]:
    """Read the signed permutation off the cipher, through its public face."""
    matrix = cipher.fold_rows(torch.eye(cipher.scheme.block_size, dtype=torch.float64)).T
    order, negative = matrix.abs().argmax(dim=1), matrix.sum(dim=1) < 0
    return order, negative if bool(negative.any()) else None


def extra_memory(function: Callable[[], object]) -> int:
    """Bytes that a call allocates at its peak, by torch's own accounting."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def main() -> None:
    torch.set_num_threads(1)
    images = torch.randint(0, 256, SHAPE, dtype=torch.uint8)
    key = te.SecretKey.generate()
    candidates: dict[str, Callable[[], Tensor]] = {"plain copy": images.clone}
    for name in (cipher for cipher in te.BLOCK_CIPHERS if facts_of(cipher).exact and facts_of(cipher).fits(PATCH)):
        cipher = te.BlockCipher(key, te.Scheme(cipher=name, patch_size=PATCH))
        order, negative = parts(cipher)
        assert torch.equal(cipher.encrypt(images), reference(images, order, negative))
        candidates[name] = lambda cipher=cipher: cipher.encrypt(images)  # type: ignore[misc]
        candidates[f"{name}, decrypting"] = lambda cipher=cipher: cipher.decrypt(images)  # type: ignore[misc]
        candidates[f"{name}, reference"] = lambda o=order, s=negative: reference(images, o, s)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, function in candidates.items():
            function()  # what the candidate before left in the caches is not this one's fault
            for _ in range(2):
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
    best = {name: min(values) for name, values in times.items()}
    batch_bytes = images.numel()
    print(f"uint8 {' x '.join(map(str, SHAPE))}, P = {PATCH}, one thread, fastest of {ROUNDS} interleaved rounds")
    print(f"{'':<32}{'ms':>8}{'reference is':>15}{'of a copy':>11}{'memory':>10}")
    shuffle = best["shuffle, reference"]
    for name, seconds in best.items():
        cipher = name.partition(",")[0]
        own = best.get(f"{cipher}, reference", shuffle)
        memory = f"{extra_memory(candidates[name]) / batch_bytes:.2f}"
        print(f"{name:<32}{seconds * 1e3:>8.1f}{own / seconds:>14.1f}x{seconds / best['plain copy']:>10.1f}x{memory:>10}")
    print("memory: bytes allocated at the peak of a call, in batches; the result itself is one")


if __name__ == "__main__":
    main()
