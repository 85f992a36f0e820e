"""Draw the pictures of README and docs: `make pictures`.

Needs the extra audit: pip install ".[audit]".

    python examples/pictures.py

It writes docs/pictures: the demo's picture, one photo of it for the README, and two pictures of `encmixer audit`. The key is
fixed and public, so that anyone gets the same pictures. They are small JPEG files: their ciphertext cannot be decrypted.
The coloured matrices are drawn by examples/security_figures.py --tables. The two diagrams (*.svg) are drawn by hand.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path

from PIL import Image

import timm_encmixer as te
from timm_encmixer.evaluation import run_demo

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
AUDIT = {"thumbnail": "audit-thumbnail", "ciphertext_only_shuffle": "audit-recovered"}
FIRST_PHOTO = (0, 0, 944, 274)  # of the demo's picture, in px
DEMO_PX = 1000  # width, for a file below 300 kB
KEY = te.SecretKey(bytes(range(32)))  # no secret


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder to write to")
    out = parser.parse_args().out
    if importlib.util.find_spec("skimage") is None:
        raise SystemExit('This script needs the extra audit. In a checkout: pip install ".[audit]"')
    out.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as folder:
        demo = Image.open(run_demo(Path(folder), key=KEY, wrong_keys=1).picture)
        write(demo.crop(FIRST_PHOTO), out / "photo.jpg", quality=85)
        smaller = demo.resize((DEMO_PX, demo.height * DEMO_PX // demo.width), Image.Resampling.LANCZOS)
        write(smaller, out / "demo.jpg", quality=65)

    with tempfile.TemporaryDirectory() as folder:
        te.audit.run(key=KEY, attacks=list(AUDIT)).save(Path(folder) / "audit")
        for attack, name in AUDIT.items():
            write(Image.open(Path(folder) / "audit" / f"{attack}.png"), out / f"{name}.jpg", quality=80)


def write(picture: Image.Image, path: Path, quality: int) -> None:
    picture.convert("RGB").save(path, quality=quality, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
