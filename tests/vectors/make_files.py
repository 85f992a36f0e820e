"""Make the table of image files and of the answers that all readers give, without any of the package's code.

    python tests/vectors/make_files.py > tests/vectors/files.json

The answers are those of docs/images.md; `row` is the row there. The PNG files are put together in image_files.py, chunk by
chunk. Pillow encodes the others, which are then changed byte by byte. tests/test_file_table.py and the JavaScript client's
tests read the table.

A file's `role` is `plain` (a photo to be encrypted) or `ciphertext` (for the model `model`). Its `answer` is `read`, `refused`,
or for ciphertext `unmarked`: it carries no record, so servers and `--strict` refuse it. `pixels` are uint8 of shape `shape`,
upright.
"""

from __future__ import annotations

import json
from typing import Any

from ciphertext_rows import ciphertexts
from image_files import MODELS
from photo_rows import ciphertexts_as_photos, damaged, frames, metadata, orientations, photos


def rows() -> list[dict[str, Any]]:
    """All files with their answers."""
    return [*photos(), *orientations(), *metadata(), *frames(), *damaged(), *ciphertexts_as_photos(), *ciphertexts()]


def main() -> None:
    files = rows()
    assert len({file["name"] for file in files}) == len(files)
    lines = ",\n".join(json.dumps(file, separators=(",", ":")) for file in files)
    print(f'{{"models":{json.dumps(MODELS)},\n"files":[\n{lines}\n]}}')


if __name__ == "__main__":
    main()
