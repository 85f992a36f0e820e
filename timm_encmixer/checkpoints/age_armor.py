"""age's text form, as `age -a` writes it: base64 between two lines of text.

Source: https://age-encryption.org/v1, section on ASCII armor.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from timm_encmixer.errors import SealError

_BEGIN, _END = b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----END AGE ENCRYPTED FILE-----"
_COLUMNS = 64


def is_armored(start: bytes) -> bool:
    """Whether a file that begins so is in the text form."""
    return start.lstrip().startswith(_BEGIN)


def dearmor(source: Path, target: Path) -> None:
    """Write the binary form of a file in the text form, line by line.

    Raises:
        SealError: It is damaged.
    """
    with source.open("rb") as file, target.open("wb") as out:
        lines = (line.rstrip(b"\r\n") for line in file)
        try:
            if next((line for line in lines if line.strip()), None) != _BEGIN:
                raise ValueError("another first line")
            for line in lines:
                if line == _END:
                    break
                out.write(base64.b64decode(line, validate=True))
                if len(line) > _COLUMNS or not line:
                    raise ValueError("a line of another length")
            else:
                raise ValueError("no last line")
            if any(line.strip() for line in lines):
                raise ValueError("text behind the last line")
        except (ValueError, binascii.Error) as error:
            raise SealError(str(source), "a whole armored age file", str(error), "get another copy") from error
