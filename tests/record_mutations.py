"""Change records, configs and headers at random, and read and use them: only errors of the package may come out, and soon.

Run: python tests/record_mutations.py --count 20000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "dataset"))
from mutations import mutated

import timm_encmixer as te
from timm_encmixer.checkpoints.inspection import describe
from timm_encmixer.checkpoints.tensor_file import TensorFile
from timm_encmixer.errors import EncMixerError
from timm_encmixer.images.image_record import ImageRecord, check_ciphertext

KEY = te.SecretKey(bytes(range(32)))
MOST_SECONDS, MOST_BYTES = 1.0, 100 * 2**20  # of processor time and of Python's memory, for one mutation
PHOTO = Image.new("RGB", (32, 32))
COMPAT = Path(__file__).parent / "compat"  # what earlier versions wrote, under this key
CIPHER = te.BlockCipher(KEY, te.Scheme(patch_size=4))
CIPHERTEXT = CIPHER.encrypt(PHOTO)


def use_record(text: str, _: Path) -> None:
    """Read a record, and encrypt an image under it."""
    scheme = te.Scheme.from_json(text).without_fingerprint()
    transform = te.create_transform(scheme, key=KEY)
    if scheme.plain is not None and max(scheme.plain.input_size) <= 256:
        transform(PHOTO)


def use_image_record(text: str, _: Path) -> None:
    """Read the record of an image, and compare the image with it."""
    image = CIPHERTEXT.copy()
    image.info["encmixer"] = text
    check_ciphertext(image, CIPHER, where="image", strict=True)


def use_config(text: str, folder: Path) -> None:
    """Read a model's config.json and do with the model what there is to do."""
    (folder / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    describe(folder)
    for call in (te.decrypt_checkpoint, te.encrypt_checkpoint):
        try:
            call(folder, folder.parent / "out", KEY, force=True)
        except EncMixerError:
            continue
    te.create_transform(folder, key=KEY)


def use_header(text: str, folder: Path) -> None:
    """Read a safetensors file with this header, and decrypt it."""
    whole = (folder / "whole").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = text.encode(errors="surrogatepass")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + whole[8 + length :])
    TensorFile.open(folder / "model.safetensors")
    te.decrypt_checkpoint(folder, folder.parent / "out", KEY, force=True)


def documents(folder: Path) -> dict[str, tuple[str, Callable[[str, Path], None], Path]]:
    """Write small encrypted models; returns each kind of document with what is done with it, and its model's folder."""
    found: dict[str, tuple[str, Callable[[str, Path], None], Path]] = {}
    for name in ("encrypted-1-shuffle+negpos", "encrypted-2-shuffle+negpos", "encrypted-3-shuffle+negpos+scramble"):
        model = Path(shutil.copytree(COMPAT / name, folder / name))
        shutil.copy(model / "model.safetensors", model / "whole")
        config = (model / "config.json").read_text()
        with (model / "whole").open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = file.read(length).decode()
        version = name.split("-")[1]
        found[f"record {version}"] = json.dumps(json.loads(config)["encmixer"]), use_record, model
        found[f"config {version}"] = config, use_config, model
        found[f"header {version}"] = header, use_header, model
    found["image record"] = ImageRecord.of(np.asarray(CIPHERTEXT), CIPHER).to_text(), use_image_record, folder
    return found


def run(count: int, seed: int, folder: Path, *, limits: bool = False) -> dict[str, dict[str, float]]:
    """Mutate and use each kind of document; returns how many were refused, and the longest use in seconds of processor time.

    Args:
        count: How many of each kind.
        seed: Of the changes.
        folder: Where to work.
        limits: Refuse uses that take too long or too much memory; not in tests, which depend on no machine's speed.
    """
    chance = random.Random(seed)
    found = {}
    torch.set_num_threads(1)
    for kind, (text, use, model) in documents(folder).items():
        whole = {path.name: path.read_bytes() for path in model.glob("*.*")}
        use(text, model)  # as it is it is right; and what it loads is loaded
        refused, longest, most = 0, 0.0, 0
        for number in range(count):
            changed = mutated(text, chance)
            begin = time.process_time()
            tracemalloc.start()
            try:
                use(changed, model)
            except EncMixerError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{kind}, mutation {number}: {changed[:3000]!r}") from error
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            seconds = time.process_time() - begin
            if limits and (seconds > MOST_SECONDS or most > MOST_BYTES):
                raise AssertionError(f"{kind}, mutation {number}: {seconds:.1f} s, {most / 2**20:.0f} MiB: {changed[:3000]!r}")
            longest = max(longest, seconds)
            for name, content in whole.items() if use in (use_config, use_header) else ():
                (model / name).write_bytes(content)
        found[kind] = {"mutations": count, "refused": refused, "longest_seconds": round(longest, 3), "mib": most / 2**20}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(args.count, args.seed, Path(folder), limits=True), indent=2))
    print(f"most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
