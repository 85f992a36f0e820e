"""Run by test_ranks.py on one process and on two: what each process sees, as JSON in a file of its own."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import timm
import torch
import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch.utils.data import DataLoader

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images
from timm_encmixer.distributed import leave, on_every_process, same_everywhere
from timm_encmixer.errors import EncMixerError
from timm_encmixer.images.labelled import MemoryImages, PlainPixels

SAMPLES = 101  # divides by nothing here


class FileTracker(GeneralTracker):
    """Writes all that it is given, in every way that real trackers do."""

    name, requires_logging_directory = "file", False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @property
    def tracker(self) -> Path:
        return self.folder

    def store_init_configuration(self, values: dict) -> None:
        (self.folder / "config.txt").write_text("\n".join(f"{name}: {value!r} {value}" for name, value in values.items()))
        for write in (yaml.dump, pickle.dumps, json.dumps):
            for name, value in values.items():
                try:
                    text = write(value)
                except Exception as error:
                    text = f"{type(error).__name__}: {error}"
                path = self.folder / f"{name}.{write.__module__}"
                path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def log(self, values: dict, step: int | None) -> None:
        (self.folder / "log.txt").write_text(repr(values))


def refused(work) -> str:
    try:
        work()
    except EncMixerError as error:
        return f"{type(error).__name__}: {error}"
    return "not refused"


def equal(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(one, two) for one, two in pairs)


class Rows(torch.utils.data.Dataset):
    """Real images with their own numbers as labels, and a transform that timm may set."""

    def __init__(self) -> None:
        self.images, self.transform = bundled_images()[0][:SAMPLES], None

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index):
        return self.transform(self.images[index]), index


def seen(accelerator: Accelerator, loader: te.EncryptedLoader, expected: torch.Tensor) -> dict[str, object]:
    """Gather every batch as metrics are; compare with what a single process makes of the same samples."""
    rows, largest = [], 0.0
    for inputs, numbers in loader:
        largest = max(largest, float((inputs - expected[numbers]).abs().max()))
        rows += accelerator.gather_for_metrics(numbers).tolist()
    return {"samples": len(rows), "distinct": len(set(rows)), "largest_difference": largest, "batches": len(loader)}


def main(key_file: str, plain: str, out: Path) -> None:
    out.mkdir(exist_ok=True)
    accelerator = Accelerator(log_with=FileTracker(out))
    main_process = accelerator.is_main_process
    result: dict[str, object] = {"processes": accelerator.num_processes}

    key = te.share_key(accelerator, key_file if main_process else "/no/such/file/on/this/process")
    result["fingerprint"] = key.fingerprint
    other = te.SecretKey(bytes(range(1, 33)))
    result["other_key"] = refused(lambda: te.share_key(accelerator, key if main_process else other))
    result["no_key"] = refused(lambda: te.share_key(accelerator, "/no/such/file" if main_process else key))

    def fail_on_last() -> None:
        if accelerator.process_index == accelerator.num_processes - 1:
            raise EncMixerError("here", "this", "that", "do so")

    result["one_fails"] = refused(lambda: on_every_process(fail_on_last))
    result["different"] = refused(lambda: same_everywhere("thing", str(accelerator.process_index)))

    model = te.load_encrypted(accelerator, plain, key=key if main_process else None)
    again = te.encrypt_model(timm.create_model("convmixer_256_8_ks5_p4.cifar10", pretrained=True), key)
    result["same_weights"] = equal(model, again)
    result["record"] = te.scheme_of(model) == te.scheme_of(again)
    mixed = plain if main_process else "convmixer_768_32"
    result["other_model"] = refused(lambda: te.load_encrypted(accelerator, mixed, key=key))
    result["keyless"] = refused(lambda: te.load_encrypted(accelerator, plain))

    transform = te.create_transform(model, key=key)
    images = bundled_images()[0]
    data = PlainPixels(MemoryImages(images[:SAMPLES], range(SAMPLES)), transform.preprocess)
    expected = torch.stack([transform(image) for image in images[:SAMPLES]])
    loader = te.prepare_encrypted(accelerator, DataLoader(data, 16), transform.cipher)
    result["plain_loader"] = seen(accelerator, loader, expected)
    result["second_epoch"] = seen(accelerator, loader, expected)
    config = timm.data.resolve_data_config({}, model=timm.create_model("convmixer_256_8_ks5_p4.cifar10"))
    for name, prefetcher in (("timm_prefetcher", True), ("timm_no_prefetcher", False)):
        made = timm.data.create_loader(
            Rows(), config["input_size"], 16, interpolation=config["interpolation"], crop_pct=config["crop_pct"],
            mean=config["mean"], std=config["std"], num_workers=0, use_prefetcher=prefetcher, device=accelerator.device,
        )  # fmt: skip
        result[name] = seen(accelerator, te.prepare_encrypted(accelerator, made, transform.cipher), expected)
    wrong = te.BlockCipher(other, transform.cipher.scheme.without_fingerprint())
    mine = transform.cipher if main_process else wrong
    result["other_cipher"] = refused(lambda: te.prepare_encrypted(accelerator, DataLoader(data, 16), mine))

    prepared = accelerator.prepare(model)
    te.save_encrypted(accelerator, prepared, out / "saved")
    loaded = timm.create_model(f"local-dir:{out / 'saved'}", pretrained=True)
    result["saved"] = equal(loaded, again)
    result["taken"] = refused(lambda: te.save_encrypted(accelerator, prepared, out / "saved"))
    if main_process:
        result["files"] = sorted(path.name for path in (out / "saved").iterdir())

    config = {"key": key, "key_file": key_file, "cipher": transform.cipher, "record": model.encmixer.to_dict(), "model": "m"}
    accelerator.init_trackers("run", config=config)
    accelerator.log({"key": key}, step=0)
    (out / f"environment-{accelerator.process_index}").write_bytes(
        b"".join(Path(f"/proc/self/{name}").read_bytes() for name in ("environ", "cmdline"))
    )
    accelerator.wait_for_everyone()
    (out / f"result-{accelerator.process_index}.json").write_text(json.dumps(result))
    leave()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
