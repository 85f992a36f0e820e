"""Compare ciphers of image encryption: the accuracy that they leave, what they cost, and what attacks get.

Needs the extras audit and data: pip install ".[audit,data]".

    python examples/benchmark.py --data data/cifar10 --out runs/benchmark    # every cipher; hours on a CPU
    python examples/benchmark.py --data data/cifar10 --out runs/benchmark --ciphers le ele
    python examples/benchmark.py --out runs/benchmark --attacks-only         # needs no data
    python examples/benchmark.py --out runs/benchmark --tables               # write docs/benchmark.md from what is there

A cipher is measured in the conventional way: a ConvMixer is trained on its ciphertext, with the same network, epochs and seed
for all. This package's own ciphers are measured in their own way: the network is trained on plain images once, and encrypted
afterwards. Attacks meet the images that come with the package. Each cipher has a JSON file of its own in --out, so an
interrupted run goes on with the next cipher; delete a file to measure it again. `--budget full` trains the network of the paper
(arXiv 2207.11939) and needs a GPU.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import timm_encmixer as te
from timm_encmixer.bundled import bundled_images
from timm_encmixer.evaluation.tiles import draw_rows

Array = NDArray[Any]
DOCS = Path(__file__).parent.parent / "docs"
FIGURES, DOCUMENT, GALLERY = DOCS / "figures" / "benchmark", DOCS / "benchmark.md", DOCS / "pictures" / "benchmark.jpg"
KEY, WRONG = bytes(range(32)), bytes(range(1, 33))
SIDE, CLASSES, CHUNK, BATCH = 32, 10, 4096, 128
BUDGETS = {  # of training: network, epochs
    "quick": ({"dim": 128, "depth": 4, "kernel_size": 5}, 3),
    "full": ({"dim": 256, "depth": 8, "kernel_size": 5}, 200),
}
PARAMETERS: Mapping[str, dict[str, Any]] = {  # where the paper's value does not fit images of 32 px
    "etc_blocks": {"block": 4},
    "vit_blocks": {"block": 4},
    "cfe": {"block": 8, "sub_block": 4},
    "neuracrypt": {"block": 4, "width": 128},
}
PUBLISHED_CIPHERS = (
    "identity",
    "le",
    "ele",
    "pixelwise",
    "pixelwise_per_image",
    "etc_blocks",
    "shf",
    "np",
    "ffx",
    "vit_blocks",
    "cfe",
    "neuracrypt",
    "instahide",
    "aes_ctr",
    "noise",
    "encmixer_shuffle_negpos",
    "encmixer_etc",
)
PATCH = 4  # of the network; that of a cipher which needs another one:
PATCHES = {"encmixer_etc": 8}
ATTACKS = (
    "ciphertext_only_shuffle",
    "ciphertext_only_orthogonal",
    "ciphertext_only_etc",
    "known_plaintext",
    "known_tables",
    "chosen_plaintext",
    "own_keys_network",
    "thumbnail",
    "feature_reconstruction",
)
BY_POSITION = ("ele", "pixelwise", "etc_blocks", "vit_blocks", "cfe")  # whose key differs from block to block
MEASURED, PHOTO = 200, 3  # images whose bytes are counted; the image that the gallery shows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as a folder that datasets.load_dataset reads (train, test)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument(
        "--ciphers",
        "--schemes",
        dest="ciphers",
        nargs="+",
        default=list(PUBLISHED_CIPHERS),
        choices=PUBLISHED_CIPHERS,
        metavar="NAME",
    )
    parser.add_argument("--budget", default="quick", choices=BUDGETS)
    parser.add_argument("--epochs", type=int, help="of training; default: those of the budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training; accuracies are means over them")
    parser.add_argument("--attacks-only", action="store_true", help="train nothing")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables of docs/benchmark.md")
    return parser.parse_args()


def make_cipher(name: str) -> Any:
    return te.audit.PUBLISHED_CIPHERS[name](**PARAMETERS.get(name, {}))


def cifar(data: Path, split: str) -> tuple[NDArray[np.uint8], Tensor]:
    """Images (N, 32, 32, 3) and labels of a split."""
    from timm_encmixer.images import open_labelled_images

    images = open_labelled_images(str(data), split=split)
    samples = [images[index] for index in range(len(images))]
    return np.stack([np.asarray(image.convert("RGB")) for image, _ in samples]), torch.tensor([label for _, label in samples])


def augmented(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift by up to 4 px and mirror at random: the owner of the images does this before encrypting."""
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    down, right = rng.integers(0, 9, (2, len(images)))
    cut = windows[np.arange(len(images)), down, right].transpose(0, 2, 3, 1)
    return np.where(rng.random(len(images))[:, None, None, None] < 0.5, cut, cut[:, :, ::-1])


class Inputs:
    """Ciphertext as the network reads it: about 0, of standard deviation 1 where it is no image.

    Args:
        sample: Some ciphertext.
    """

    def __init__(self, sample: Array) -> None:
        self.shape = sample.shape[1:]
        if sample.dtype == np.uint8:
            self.mean, self.scale = np.float32(127.5), np.float32(127.5)
        else:
            self.mean, self.scale = np.float32(sample.mean()), np.float32(max(sample.std(), 1e-6))

    def __call__(self, ciphertext: Array, device: str) -> Tensor:
        """Return a batch (N, C, H, W) of ciphertext (N, h, w, c)."""
        scaled = torch.from_numpy((ciphertext.astype(np.float32) - self.mean) / self.scale)
        return scaled.permute(0, 3, 1, 2).to(device)  # channels_last already


def make_network(inputs: Inputs, budget: str, patch: int) -> nn.Module:
    height, _, channels = inputs.shape
    half = (0.5,) * channels
    overlay = {"input_size": (channels, height, height), "crop_pct": 1.0, "mean": half, "std": half}
    shape, _ = BUDGETS[budget]
    patch = patch * height // SIDE  # ciphertext that has one place per block gets a stem of one pixel
    network = timm.create_model(
        "convmixer_custom",
        **shape,
        patch_size=max(1, patch),
        in_chans=channels,
        num_classes=CLASSES,
        pretrained_cfg_overlay=overlay,
    )
    return network.to(memory_format=torch.channels_last)


def train(
    encrypt: Callable[[Array], Array], data: Path, *, budget: str, epochs: int, patch: int, seed: int, device: str
) -> tuple[nn.Module, Inputs]:
    """Train on ciphertext of augmented images."""
    images, labels = cifar(data, "train")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    inputs = Inputs(encrypt(images[:512]))
    network = make_network(inputs, budget, patch).to(device)
    steps = epochs * sum(-(-len(part) // BATCH) for part in np.array_split(np.arange(len(images)), -(-len(images) // CHUNK)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for chosen in np.array_split(rng.permutation(len(images)), -(-len(images) // CHUNK)):
            ciphertext = encrypt(augmented(images[chosen], rng))
            for part in np.array_split(np.arange(len(chosen)), -(-len(chosen) // BATCH)):
                loss = criterion(network(inputs(ciphertext[part], device)), labels[chosen[part]].to(device))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
        print(
            f"  epoch {epoch + 1}/{epochs}: loss {total * epochs / steps:.3f}, {time.perf_counter() - start:.0f} s", flush=True
        )
    return network.eval(), inputs


@torch.inference_mode()
def accuracy(network: nn.Module, read: Callable[[Array], Tensor], images: Array, labels: Tensor) -> float:
    parts = np.array_split(np.arange(len(images)), -(-len(images) // CHUNK))
    answers = []
    for part in parts:
        for batch in torch.split(read(images[part]), 4 * BATCH):
            answers.append(network(batch).argmax(dim=1).cpu())
    return float((torch.cat(answers) == labels).double().mean())


def conventional(cipher: Any, args: argparse.Namespace, seed: int, device: str) -> dict[str, float]:
    """Accuracy of a network that was trained on ciphertext."""
    encrypt, patch = cipher.encryption(KEY), PATCHES.get(cipher.name, PATCH)
    how = {"budget": args.budget, "epochs": args.epochs, "patch": patch, "seed": seed, "device": device}
    network, inputs = train(encrypt, args.data, **how)
    images, labels = cifar(args.data, "test")

    def measured(function: Callable[[Array], Array]) -> float:
        return accuracy(network, lambda plain: inputs(function(plain), device), images, labels)

    found = {"right key": measured(encrypt), "wrong key": measured(cipher.encryption(WRONG))}
    if inputs.shape == images.shape[1:] and cipher.ciphertext == np.uint8:
        found["no key"] = measured(lambda plain: plain)
    return found


def ours(cipher: Any, args: argparse.Namespace, seed: int, device: str) -> dict[str, float]:
    """Accuracy of a network that was trained on plain images and encrypted afterwards."""
    patch = PATCHES.get(cipher.name, PATCH)
    how = {"budget": args.budget, "epochs": args.epochs, "patch": patch, "seed": seed, "device": device}
    network, inputs = train(lambda plain: plain, args.data, **how)
    network = network.cpu().to(memory_format=torch.contiguous_format)
    encrypted = te.encrypt_model(network, te.SecretKey(KEY), cipher=cipher.cipher)
    images, labels = cifar(args.data, "test")

    def sent(key: bytes) -> Callable[[Array], Array]:
        return te.ImageCipher(te.SecretKey(key), encrypted.encmixer.without_fingerprint()).encrypt_batch

    def measured(model: nn.Module, function: Callable[[Array], Array]) -> float:
        on_device = model.to(device)
        return accuracy(on_device, lambda plain: inputs(function(plain), device), images, labels)

    found = {"plain model": measured(network, lambda plain: plain)}
    found |= {"right key": measured(encrypted, sent(KEY)), "wrong key": measured(encrypted, sent(WRONG))}
    return {**found, "no key": measured(encrypted, lambda plain: plain)}


def costs(cipher: Any) -> dict[str, float]:
    """Processor time of encrypting, and mean bytes of an image."""
    images = np.stack([np.asarray(image) for image in bundled_images()[0]])
    encrypt = cipher.encryption(KEY)
    encrypt(images[:100])
    start = time.process_time()
    ciphertext = encrypt(images)
    found = {"seconds per 1000 images": (time.process_time() - start) * 1000 / len(images)}
    if ciphertext.dtype == np.uint8 and ciphertext.shape[-1] == 3:
        for name, options in {"PNG": {"compress_level": 6}, "JPEG": {"quality": 85, "subsampling": 0}}.items():
            sizes = []
            for pixels in ciphertext[:MEASURED]:
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, format=name, **options)
                sizes.append(buffer.tell())
            found[f"bytes as {name}"] = sum(sizes) / len(sizes)
    return found


def attacks(cipher: Any, data: Path | None) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """What each attack gets, and pictures of the best recovery: plain, ciphertext, recovered."""
    block = max(4, cipher.block)
    chosen: list[Any] = [*ATTACKS, te.audit.ATTACKS["inverse_network"](local=True)]
    if block > 4:  # an alignment takes as long as the cube of the number of pixels
        chosen += [
            te.audit.ATTACKS[name](points=(25, 250)) for name in ("ciphertext_only_shuffle", "ciphertext_only_orthogonal")
        ]
    run = functools.partial(te.audit.run_cipher, cipher.encryption, keyed=True, name=cipher.name, progress=False)
    reports = [run(block=block, attacks=chosen, public_images=None if block == 4 or data is None else str(data))]
    if cipher.name in BY_POSITION:  # the whole image as one block: every position has a key of its own
        whole = (
            te.audit.ATTACKS["known_plaintext"](points=(64, 250)),
            te.audit.ATTACKS["known_tables"](points=(64, 250), halves=True),
        )
        reports.append(run(block=SIDE, attacks=whole))
    best: dict[str, Any] = {}
    for report in reports:
        for name, result in report.results.items():
            if name not in best or (result.seen_ssim or 0) > (best[name][1].seen_ssim or 0):
                best[name] = report.patch_size, result
    kept = (
        "verdict",
        "recovered",
        "psnr_db",
        "ssim",
        "seen_psnr_db",
        "seen_ssim",
        "seen_accuracy",
        "seconds",
        "effort",
        "reason",
    )
    found = {
        name: {**{key: result.to_dict()[key] for key in kept}, "needed": result.needed, "block": block}
        for name, (block, result) in best.items()
    }
    winner = max((result for _, result in best.values() if result.seen_ssim is not None), key=lambda result: result.seen_ssim)
    rows = {"plain": "original", "ciphertext": "ciphertext", "recovered": "recovered"}
    pictures = {name: _tile(winner.pictures[row][PHOTO]) for name, row in rows.items()}
    if "recovered, put right" in winner.pictures:
        pictures["recovered"] = _tile(winner.pictures["recovered, put right"][PHOTO])
    return {"controls": reports[0].to_dict()["controls"], "best": winner.name, "attacks": found}, pictures


def _tile(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy())


def settings(name: str, args: argparse.Namespace) -> dict[str, Any]:
    return {"scheme": repr(make_cipher(name)), "budget": args.budget, "epochs": args.epochs, "seeds": args.seeds}


def measure(name: str, args: argparse.Namespace) -> None:
    """Measure a cipher and write its file."""
    path, cipher = args.out / f"{name}.json", make_cipher(name)
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known and known["settings"] != settings(name, args):
        raise SystemExit(f"{path}: it was measured with other settings; delete it, or take another --out")
    if "attacks" not in known:
        print(f"{name}: attacks", flush=True)
        found, pictures = attacks(cipher, args.data)
        known = {"settings": settings(name, args), "costs": costs(cipher), **found}
        for row, picture in pictures.items():
            picture.save(args.out / f"{name}-{row}.png")
        write_whole(path, known)
    if "accuracy" not in known and not args.attacks_only:
        print(f"{name}: training", flush=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        way = ours if isinstance(cipher, te.audit.PUBLISHED_CIPHERS["encmixer_shuffle_negpos"]) else conventional
        runs = [way(cipher, args, seed, device) for seed in args.seeds]
        known["accuracy"] = {row: float(np.mean([run[row] for run in runs])) for row in runs[0]}
        write_whole(path, known)


def reports() -> dict[str, Any]:
    """What docs/figures has, by cipher."""
    paths = {name: FIGURES / f"{name}.json" for name in PUBLISHED_CIPHERS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def accuracy_table(found: Mapping[str, Any]) -> str:
    """Markdown: accuracies and costs."""
    head = ("cipher", "key", "how", "plain model", "right key", "wrong key", "no key", "s per 1,000", "PNG bytes", "JPEG bytes")
    rows = []
    plain = {PATCH: found.get("identity", {}).get("accuracy", {}).get("right key")}
    for name, report in found.items():
        cipher, accuracies, cost = te.audit.PUBLISHED_CIPHERS[name], report.get("accuracy", {}), report["costs"]
        own = issubclass(cipher, te.audit.PUBLISHED_CIPHERS["encmixer_shuffle_negpos"])
        shares = [accuracies.get("plain model", plain.get(PATCHES.get(name, PATCH)))]
        shares += [accuracies.get(row) for row in ("right key", "wrong key", "no key")]
        sizes = [cost.get(f"bytes as {kind}") for kind in ("PNG", "JPEG")]
        rows.append(
            (
                f"`{name}`",
                cipher.key_use,
                "encrypted afterwards" if own else "trained on ciphertext",
                *("-" if share is None else f"{share:.1%}" for share in shares),
                f"{cost['seconds per 1000 images']:.3f}",
                *("-" if size is None else f"{size:,.0f}" for size in sizes),
            )
        )
    return _markdown(head, rows)


def attack_table(found: Mapping[str, Any]) -> str:
    """Markdown: for each cipher and attack the verdict and the SSIM of what is seen."""
    names = list(dict.fromkeys(name for report in found.values() for name in report["attacks"]))
    rows = []
    for cipher, report in found.items():
        rows.append((f"`{cipher}`", *(_cell(report["attacks"].get(name)) for name in names)))
    return _markdown(("cipher", *(f"`{name}`" for name in names)), rows)


def best_of(report: Mapping[str, Any]) -> str:
    """The attack that shows most; of those that show as much the first, which needs least."""
    seen = {
        name: round(result["seen_ssim"], 2) for name, result in report["attacks"].items() if result["seen_ssim"] is not None
    }
    return max(seen, key=lambda name: seen[name])


def best_table(found: Mapping[str, Any]) -> str:
    """Markdown: for each cipher the attack that shows most, and its effort."""
    head = ("cipher", "best attack", "seen", "SSIM", "read by the plain model", "broken from", "effort", "seconds")
    rows = []
    for cipher, report in found.items():
        name = best_of(report)
        best = report["attacks"][name]
        needed = "-" if best["needed"] is None else f"{best['needed']:g}"
        seen = (f"{best['seen_psnr_db']:.1f} dB", f"{best['seen_ssim']:.2f}", f"{best['seen_accuracy']:.1%}")
        rows.append((f"`{cipher}`", f"`{name}`", *seen, needed, best["effort"] or "-", f"{best['seconds']:.1f}"))
    controls = next(iter(found.values()))["controls"]
    words = ", ".join(f"{name} {one['psnr_db']:.1f} dB and {one['ssim']:.2f}" for name, one in controls.items())
    return f"{_markdown(head, rows)}\n\nControls: {words}."


def _cell(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "not measured"
    if result["reason"] is not None:
        return "not run"
    seen = "" if result["seen_ssim"] is None else f" {result['seen_ssim']:.2f}"
    return f"{result['verdict']}{seen}"


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


TABLES = {"accuracy": accuracy_table, "best": best_table, "attacks": attack_table}


def with_tables(document: str) -> str:
    """docs/benchmark.md with its tables as the files in docs/figures have them."""
    found = reports()
    for name, table in TABLES.items():
        begin, end = f"<!-- benchmark: {name} -->\n", "<!-- end -->"
        before, _, rest = document.partition(begin)
        _, _, after = rest.partition(end)
        document = f"{before}{begin}\n{table(found)}\n\n{end}{after}"
    return document


def write_tables(out: Path) -> None:
    """Take over what was measured, and write the tables and the gallery."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    tiles: dict[str, Tensor] = {}
    for name in PUBLISHED_CIPHERS:
        if (out / f"{name}.json").is_file():
            shutil.copy(out / f"{name}.json", FIGURES / f"{name}.json")
        pictures = [out / f"{name}-{row}.png" for row in ("plain", "ciphertext", "recovered")]
        if all(picture.is_file() for picture in pictures):
            arrays = [np.asarray(Image.open(picture).convert("RGB")) for picture in pictures]
            tiles[name] = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
    if tiles:
        draw_rows(tiles, headings=["plain", "ciphertext", "best recovery"]).save(GALLERY, quality=88)
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file so that it is old or new at every moment, never half written."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def main() -> None:
    args = parse_args()
    args.epochs = args.epochs or BUDGETS[args.budget][1]
    if not args.tables:
        if args.data is None and not args.attacks_only:
            raise SystemExit("--data is needed for training; or pass --attacks-only")
        torch.set_flush_denormal(True)
        args.out.mkdir(parents=True, exist_ok=True)
        for name in args.ciphers:
            measure(name, args)
    else:
        write_tables(args.out)


if __name__ == "__main__":
    main()
