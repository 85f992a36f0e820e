"""Write the artefacts of the present format that later versions must keep loading; refuses to replace any."""

from __future__ import annotations

import json
from pathlib import Path

import timm
import torch

import timm_encmixer as te

FOLDER = Path(__file__).parent


def main() -> None:
    torch.manual_seed(0)
    plain = timm.create_model(
        "convmixer_custom",
        dim=8,
        depth=1,
        kernel_size=3,
        patch_size=4,
        num_classes=3,
        pretrained_cfg_overlay={"input_size": (3, 32, 32)},
    )
    te.save_model(plain, FOLDER / "plain")
    key = te.SecretKey(bytes(range(32)))
    for cipher in te.CIPHERS:
        scheme = te.encrypt_checkpoint(
            FOLDER / "plain", FOLDER / f"encrypted-{te.Scheme(patch_size=4).version}-{cipher}", key, cipher=cipher
        )
    (FOLDER / f"record-{scheme.version}.json").write_text(json.dumps(scheme.to_dict(), indent=2) + "\n")


if __name__ == "__main__":
    main()
