"""The server operator: run an encrypted model on ciphertext images with stock timm: no key, no plugin, no plain image.

Needs timm only. Run: python examples/server_stock_timm.py hf-hub:me/encmixer-768-32 ciphertext
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import timm
import torch
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="hf-hub:owner/name, or local-dir:FOLDER that encmixer model pull wrote")
    parser.add_argument("ciphertext", type=Path, help="folder of ciphertext PNG files")
    arguments = parser.parse_args()

    model = timm.create_model(arguments.model, pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    for path in sorted(arguments.ciphertext.glob("*.png")):
        with Image.open(path) as image, torch.inference_mode():
            logits = model(transform(image)[None])[0]
        print(json.dumps({"file": path.name, "top1": int(logits.argmax()), "logits": logits.tolist()}))


if __name__ == "__main__":
    main()
