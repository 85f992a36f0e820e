"""A client of `encmixer app`: encrypts a photo on this machine and asks the server for its class.

    python examples/app_client.py http://127.0.0.1:7860 encrypted owner.key photo.jpg

The address is that of the page, or the name of a Space. `encrypted` is a folder with the config.json of its model.
Needs the extra `web`, for gradio_client.
"""

from __future__ import annotations

import base64
import io
import sys

from gradio_client import Client
from PIL import Image

import timm_encmixer as te


def main() -> None:
    if len(sys.argv) != 5:
        raise SystemExit("usage: python examples/app_client.py ADDRESS MODEL KEY PHOTO")
    try:
        ask(*sys.argv[1:])
    except Exception as error:  # of this package, of the photo, of the network, and of Gradio
        raise SystemExit(f"app_client.py: {' '.join(f'{error}'.split()) or type(error).__name__}") from None


def ask(address: str, model: str, key: str, photo: str) -> None:
    """Encrypt a photo, and print the classes that the server answers."""
    transform = te.create_transform(model, key=key, output="image")  # the plain model's preprocessing, then the cipher
    file = io.BytesIO()
    transform(Image.open(photo)).save(file, format="PNG")  # with its record
    ciphertext = base64.b64encode(file.getvalue()).decode()
    client = Client(address, verbose=False, download_files=False)
    answer = client.predict(ciphertext, transform.cipher.scheme.cipher, api_name="/classify")
    for one in answer["classes"]:
        print(f"{one['share']:6.1%}  {one['class']}")


if __name__ == "__main__":
    main()
