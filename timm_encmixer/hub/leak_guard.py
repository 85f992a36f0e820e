"""Looking for a key in what is about to leave this machine."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from timm_encmixer.errors import LeakError
from timm_encmixer.keys import KEY_BYTES, KEY_FILE_PREFIX, SecretKey

_BLOCK_BYTES = 1 << 20
_LONGEST_FORM = 256
_TEXT_BYTES = 1 << 22
_REMEDY = "remove it, and rotate to a new key if it was ever shared"
_TOKEN = re.compile(rb"[0-9A-Za-z+/_-]{43,}={0,2}")


@dataclass(frozen=True)
class LeakGuard:
    """Raises when something holds a key: raw, in hexadecimal, in base64, or as a key file's text.

    A key that was given is searched for in every byte. Without one, texts and the beginnings of files (headers, JSON,
    cards) are searched for anything that is a key of this fingerprint. A key that was cut up or written otherwise is not found.

    Args:
        key: The key to look for.
        fingerprint: The one in the public record.
    """

    key: SecretKey | None
    fingerprint: str | None

    def check_file(self, path: Path) -> None:
        """Search a file, in constant memory.

        Raises:
            LeakError: There is a key. The message does not say it.
        """
        with path.open("rb") as file:
            self.check_text(str(path), file.read(_TEXT_BYTES))
        forms = self._forms()
        if any(form in block for block in _overlapping_blocks(path) for form in forms):
            raise LeakError(str(path), "no secrets", "a secret key in it", _REMEDY)

    def check_text(self, where: str, text: bytes) -> None:
        """Search a text.

        Raises:
            LeakError: There is a key. The message does not say it.
        """
        if any(form in text for form in self._forms()):
            raise LeakError(where, "no secrets", "a secret key in it", _REMEDY)
        if self.fingerprint is not None and any(found.fingerprint == self.fingerprint for found in _candidates(text)):
            raise LeakError(where, "no secrets", "the text of this model's key in it", _REMEDY)

    def _forms(self) -> list[bytes]:
        return [KEY_FILE_PREFIX.encode(), *(key_forms(self.key) if self.key is not None else ())]


def key_forms(key: SecretKey) -> list[bytes]:
    """Return the bytes that a key can be written down as."""
    raw = key.reveal()
    spelled = [raw.hex(), raw.hex().upper(), str(list(raw)), repr(raw)[2:-1]]
    encoded = [
        encode(raw)[:42] for encode in (base64.b64encode, base64.urlsafe_b64encode)
    ]  # a key file's text goes on otherwise
    return [raw, *encoded, *(text.encode() for text in spelled)]


def _overlapping_blocks(path: Path) -> Iterator[bytes]:
    tail = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield tail + block
            tail = (tail + block)[-_LONGEST_FORM:]


def _candidates(text: bytes) -> Iterator[SecretKey]:
    """Yield what the text's long words decode to, as hexadecimal and as base64."""
    for match in _TOKEN.finditer(text):
        word = match[0]
        for start in range(min(max(len(word) - 42, 0), 64)):
            part = word[start:]
            for decode in (_hexadecimal, _base64):
                raw = decode(part)
                if len(raw) == KEY_BYTES:
                    yield SecretKey(raw)


def _hexadecimal(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text[: 2 * KEY_BYTES].decode())
    except ValueError:
        return b""


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text[:43] + b"=", altchars=b"-_" if b"-" in text[:43] or b"_" in text[:43] else None)[
            :KEY_BYTES
        ]
    except binascii.Error:
        return b""
