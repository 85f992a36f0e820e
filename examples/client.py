"""The client: encrypt images for a model on the Hub. Only its config.json is read; only ciphertext leaves this machine.

Needs no extra. Run: python examples/client.py me/encmixer-768-32 photos ciphertext --key owner.key
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm_encmixer as te


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo_id", help="owner/name on the Hub")
    parser.add_argument("photos", type=Path, help="folder of images")
    parser.add_argument("ciphertext", type=Path, help="folder to write PNG files to")
    parser.add_argument("--key", required=True, help="key file, from the model's owner")
    arguments = parser.parse_args()

    try:
        encrypt(arguments)
    except (te.EncMixerError, OSError) as error:
        raise SystemExit(f"client.py: {error}") from None


def encrypt(arguments: argparse.Namespace) -> None:
    """Encrypt the photos of a folder, and print the names of the files."""
    transform = te.create_transform(f"hf-hub:{arguments.repo_id}", key=arguments.key, output="image")
    arguments.ciphertext.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for path in arguments.photos.iterdir() if path.is_file()):
        photo = te.images.open_plain(path)  # upright, and refused if it is damaged (docs/images.md); Image.open will do too
        transform(photo).save(arguments.ciphertext / f"{path.stem}.png")  # never JPEG: it changes ciphertext
        print(arguments.ciphertext / f"{path.stem}.png")


if __name__ == "__main__":
    main()
