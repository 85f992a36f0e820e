"""Encrypting whole data sets: what the cipher costs, what a second process brings, and that memory does not grow.

    python tests/benchmarks/bench_dataset.py

Needs `pip install -e ".[test]"`. The images are mosaics of the bundled photos as JPEG: 32 x 32 px for the bundled model, and
512 x 384 px, of which a 768/32 takes 224 x 224 px. All ratios are measured side by side in this run:
- cipher: the whole conversion of one parquet shard (read, decode, resize, encrypt, PNG, write) against the same with the
  cipher taken out, alternating on one thread, median of the rounds' ratios;
- records: the same against a conversion that does not write each image's own record;
- processes: `encrypt_dataset` on 1 and 2 processes, alternating, without the seconds that importing torch takes;
- memory: how far the resident set of a fresh process rises above its start, for data sets of growing size and shards.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from peak_memory import grown_bytes

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, bundled_images
from timm_encmixer.datasets.samples import ShardWork
from timm_encmixer.datasets.tables import convert_parquet
from timm_encmixer.distributed import leave
from timm_encmixer.images.codec import ENCRYPT, ImageCodec, make_codec
from timm_encmixer.images.formats.png import FORMAT as PNG
from timm_encmixer.images.formats.png import png_encoder

LAUNCH = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
ROUNDS = 31
KINDS = 500  # of mosaics; a data set repeats them


@functools.cache
def photos_of_the_package() -> list[Image.Image]:
    return bundled_images()[0]


@functools.lru_cache(maxsize=KINDS)
def mosaic(number: int, columns: int, rows: int) -> bytes:
    photos = photos_of_the_package()
    image = Image.new("RGB", (32 * columns, 32 * rows))
    for place in range(columns * rows):
        photo = photos[(number * 37 + place) % len(photos)]
        image.paste(photo, (place % columns * 32, place // columns * 32))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=92)
    return buffer.getvalue()


def shards(folder: Path, count: int, rows: int, grid: tuple[int, int]) -> Path:
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    for shard in range(count):
        cells = [{"bytes": mosaic((shard * rows + row) % KINDS, *grid), "path": None} for row in range(rows)]
        table = pyarrow.table({"image": pyarrow.array(cells, kind), "label": [row % 10 for row in range(rows)]})
        parquet.write_table(table, folder / f"train-{shard:05d}.parquet")
    return folder


def seconds_of(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return what each job took in each round, each first in every other round."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name in list(jobs) if number % 2 else list(jobs)[::-1]:
            start = time.perf_counter()
            jobs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Return the median of the rounds' ratios: what slows the machine for a while slows both sides of a round."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def cipher_cost(name: str, shard: Path, rows: int, codec: ImageCodec, scratch: Path) -> None:
    with_cipher, without, compressed, bare = "encrypted", "cipher taken out", "PNG at level 1", "images without their records"
    codecs = {
        with_cipher: codec,
        without: dataclasses.replace(codec, transform=lambda batch: batch),
        bare: dataclasses.replace(codec, encode=png_encoder(PNG.for_ciphertext)),
        compressed: dataclasses.replace(codec, encode=png_encoder(PNG.for_plain)),
    }

    def convert(label: str) -> Callable[[], object]:
        return lambda: convert_parquet(shard, scratch / f"{label}.parquet", ShardWork("shard", codecs[label]), ())

    seconds = seconds_of({label: convert(label) for label in (with_cipher, without)}, ROUNDS)
    rates = {label: rows / statistics.median(took) for label, took in seconds.items()}
    print(f"{name}: {rates[with_cipher]:.0f} images/s, cipher taken out {rates[without]:.0f} images/s (one process, median)")
    print(f"  throughput with / without cipher {ratio(seconds, without, with_cipher):.3f}   (limit 0.95)")
    seconds = seconds_of({label: convert(label) for label in (with_cipher, bare)}, ROUNDS)
    print(f"  throughput with / without the images' records {ratio(seconds, bare, with_cipher):.3f}")
    seconds = seconds_of({label: convert(label) for label in (with_cipher, compressed)}, ROUNDS // 3)
    sizes = {label: (scratch / f"{label}.parquet").stat().st_size for label in (with_cipher, compressed)}
    print(
        f"  with PNG compression at level 1 instead of 0: {ratio(seconds, with_cipher, compressed):.2f} of the throughput, "
        f"{sizes[compressed] / sizes[with_cipher]:.3f} of the size"
    )


def worker(args: argparse.Namespace) -> None:
    """Encrypt a data set as one of the processes, and say how long it took and how much memory."""
    from timm_encmixer.datasets import join_processes

    join_processes().wait_for_everyone()
    done: dict[str, float] = {}

    def encrypt() -> None:
        start = time.perf_counter()
        done["images"] = te.encrypt_dataset(args.src, args.dst, args.key, str(args.model), progress=False).images
        done["seconds"] = time.perf_counter() - start

    grown = grown_bytes(encrypt)
    if join_processes().is_main_process:
        print(json.dumps({**done, "mib": grown / 2**20}))
    leave()


def run_worker(processes: int, src: Path, dst: Path, key: Path, model: Path) -> dict[str, float]:
    launcher = [] if processes == 1 else ["-m", "accelerate.commands.launch", *LAUNCH.split()]
    options = {"src": src, "dst": dst, "key": key, "model": model}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = subprocess.run(
        [sys.executable, *launcher, __file__, "--worker", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    value: dict[str, float] = json.loads(next(line for line in result.stdout.splitlines() if line.startswith("{")))
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name in ("src", "dst", "key", "model"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        secret = te.SecretKey.generate()
        secret.save(root / "key")
        small = te.encrypt_checkpoint(BUNDLED_FOLDER, root / "small", secret)
        large = te.encrypt_model(timm.create_model("convmixer_768_32"), secret).encmixer
        little = shards(root / "little", 1, 1000, (1, 1))
        photos = shards(root / "photos", 1, 60, (16, 12))
        for label, folder, rows, record in (("32 px", little, 1000, small), ("224 px from 512 x 384 px", photos, 60, large)):
            codec = make_codec(ENCRYPT, te.ImageCipher(secret, record))
            cipher_cost(label, next(folder.glob("*.parquet")), rows, codec, root)

        src = shards(root / "src", 16, 2000, (1, 1))
        runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for number in range(3):
            for processes in (1, 2):
                dst = root / f"dst-{number}-{processes}"
                runs[processes].append(run_worker(processes, src, dst, root / "key", root / "small"))
        rates = {processes: max(run["images"] / run["seconds"] for run in of) for processes, of in runs.items()}
        print(f"processes: 1 gives {rates[1]:.0f} images/s, 2 give {rates[2]:.0f} images/s")
        print(f"  2 processes / 1 process {rates[2] / rates[1]:.2f}   (limit 1.7)")

        shards(root / "whole", 1, 32_000, (1, 1))
        for count, files in ((1, src), (4, src), (16, src), (1, root / "whole")):
            part = root / f"part-{files.name}-{count}"
            part.mkdir()
            for shard in sorted(files.glob("*.parquet"))[:count]:
                (part / shard.name).symlink_to(shard)
            run = run_worker(1, part, root / f"dst-{part.name}", root / "key", root / "small")
            print(f"memory: {run['images']:6.0f} images, shards {count:2d}: {run['mib']:.0f} MiB above the start   (limit 512)")


if __name__ == "__main__":
    main()
