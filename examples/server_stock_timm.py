"""The server operator: run an encrypted model on ciphertext images with stock timm: no key, no plugin, no plain image.

Needs timm only. Run: python examples/server_stock_timm.py hf-hub:me/encmixer-768-32 ciphertext
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NoReturn

import timm
import torch
from PIL import Image

PNG, JPEG = (".png",), (".jpg", ".jpeg")  # suffixes; JPEG destroys the ciphertext of all ciphers but `etc`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="hf-hub:owner/name, or local-dir:FOLDER that encmixer model pull wrote")
    parser.add_argument("ciphertext", type=Path, help="folder of ciphertext files, PNG, or JPEG of the cipher etc")
    arguments = parser.parse_args()
    folder = arguments.ciphertext
    if not folder.is_dir():
        refuse(folder, "no such folder")
    model = timm.create_model(arguments.model, pretrained=True).eval()
    taken = PNG + JPEG if "etc" in cipher_of(model).split("+") else PNG
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in taken]
    if not files:
        refuse(folder, f"no file that ends in {' or '.join(taken)}")

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    for path in files:
        with Image.open(path) as image, torch.inference_mode():
            logits = model(transform(image)[None])[0]
        print(json.dumps({"file": path.name, "top1": int(logits.argmax()), "logits": logits.tolist()}))


def cipher_of(model: torch.nn.Module) -> str:
    """Return the cipher that the model's public record names (docs/format.md); nothing for a plain model."""
    notes = [note for note in model.pretrained_cfg.get("notes") or () if note.startswith("encmixer:")]
    return json.loads(notes[0].removeprefix("encmixer:"))["cipher"] if notes else ""


def refuse(folder: Path, got: str) -> NoReturn:
    raise SystemExit(
        f"server_stock_timm.py: {folder}: expected a folder of ciphertext, got {got}; encmixer images encrypt makes it"
    )


if __name__ == "__main__":
    main()
