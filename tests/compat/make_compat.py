"""Write the artefacts of the present format that later versions must keep loading. What is there already stays."""

from __future__ import annotations

import json
from pathlib import Path

import timm
import torch

import timm_encmixer as te

FOLDER = Path(__file__).parent
SMALL_VIT = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}


def main() -> None:
    """Write what is not there yet."""
    key = te.SecretKey(bytes(range(32)))
    if not (FOLDER / "record-1.json").exists():
        first(key)
    for version, cipher, patch in (
        (2, "shuffle+negpos", 8),
        (3, "shuffle+negpos+scramble", 8),
        (4, "etc+scramble", 16),
        (5, "shuffle-planes", 8),
    ):
        if (FOLDER / f"record-{version}.json").exists():
            continue
        torch.manual_seed(version)
        clip = timm.create_model("vit_base_patch32_clip_224", num_classes=3, patch_size=patch, **SMALL_VIT)
        te.save_model(clip, FOLDER / f"plain-{version}")
        scheme = te.encrypt_checkpoint(
            FOLDER / f"plain-{version}", FOLDER / f"encrypted-{version}-{cipher}", key, cipher=cipher
        )
        assert scheme.version == version
        (FOLDER / f"record-{version}.json").write_text(json.dumps(scheme.to_dict(), indent=2) + "\n")


def first(key: te.SecretKey) -> None:
    """Version 1, whose stems have a bias: each cipher that it knew."""
    torch.manual_seed(0)
    overlay = {"input_size": (3, 32, 32)}
    size = {"dim": 8, "depth": 1, "kernel_size": 3, "patch_size": 4, "num_classes": 3}
    te.save_model(timm.create_model("convmixer_custom", **size, pretrained_cfg_overlay=overlay), FOLDER / "plain")
    for cipher in ("shuffle", "negpos", "shuffle+negpos", "orthogonal"):
        scheme = te.encrypt_checkpoint(FOLDER / "plain", FOLDER / f"encrypted-1-{cipher}", key, cipher=cipher)
    (FOLDER / "record-1.json").write_text(json.dumps(scheme.to_dict(), indent=2) + "\n")


if __name__ == "__main__":
    main()
