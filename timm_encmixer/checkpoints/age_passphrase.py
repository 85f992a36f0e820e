"""age files for a passphrase, streamed. pyrage streams to recipients, but takes passphrase files only whole, in memory.

Source: https://age-encryption.org/v1 (header, scrypt recipient stanza, STREAM payload). The primitives are `cryptography`'s.
Files interoperate with `age -p`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

CHUNK_BYTES, TAG_BYTES = 1 << 16, 16
WORK_FACTOR = 18  # log2 of scrypt's N, as age's own default: about a second
_MOST_WORK = 22  # somebody else's file may not ask for more
_VERSION = b"age-encryption.org/v1\n"
_LONGEST_HEADER_BYTES = 1024
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n--- ([A-Za-z0-9+/]{43})\n"
)


class BadFileError(Exception):
    """The passphrase is wrong, or the file is not what was written."""


def is_age_file(start: bytes) -> bool:
    """Whether a file that begins so is an age file."""
    return start.startswith(_VERSION)


def is_passphrase_file(start: bytes) -> bool:
    """Whether a file that begins so was encrypted for a passphrase."""
    return start.startswith(_VERSION + b"-> scrypt ")


def encrypt(source: BinaryIO, target: BinaryIO, passphrase: str) -> None:
    """Encrypt a stream in constant memory (scrypt takes 256 MiB for a moment)."""
    file_key, salt = secrets.token_bytes(16), secrets.token_bytes(16)
    wrapped = ChaCha20Poly1305(_wrapping_key(passphrase, salt, WORK_FACTOR)).encrypt(bytes(12), file_key, None)
    header = _VERSION + b"-> scrypt %s %d\n%s\n---" % (_encode(salt), WORK_FACTOR, _encode(wrapped))
    target.write(header + b" " + _encode(_header_mac(file_key, header)) + b"\n")
    nonce = secrets.token_bytes(16)
    target.write(nonce)
    cipher = ChaCha20Poly1305(_hkdf(file_key, b"payload", salt=nonce))
    for counter, (chunk, last) in enumerate(_chunks(source, CHUNK_BYTES)):
        target.write(cipher.encrypt(counter.to_bytes(11, "big") + bytes([last]), chunk, None))


def decrypt(source: BinaryIO, target: BinaryIO, passphrase: str) -> None:
    """Decrypt a stream in constant memory. What was written to `target` before an error must be thrown away.

    Raises:
        BadFileError: The passphrase is wrong, or the file was changed or cut off.
    """
    start = source.read(_LONGEST_HEADER_BYTES)
    match = _HEADER.match(start)
    if match is None:
        raise BadFileError("no age header for a passphrase")
    salt, work, wrapped, mac = _decode(match[1]), int(match[2]), _decode(match[3]), _decode(match[4])
    if work > _MOST_WORK:
        raise BadFileError(f"a work factor of {work}, above {_MOST_WORK}")
    source.seek(match.end())
    nonce = source.read(16)
    try:
        file_key = ChaCha20Poly1305(_wrapping_key(passphrase, salt, work)).decrypt(bytes(12), wrapped, None)
        if not hmac.compare_digest(mac, _header_mac(file_key, start[: match.start(4) - 1])):
            raise BadFileError("a header that was changed")
        cipher = ChaCha20Poly1305(_hkdf(file_key, b"payload", salt=nonce))
        for counter, (chunk, last) in enumerate(_chunks(source, CHUNK_BYTES + TAG_BYTES)):
            if counter and len(chunk) == TAG_BYTES:
                raise BadFileError("an empty last chunk")
            target.write(cipher.decrypt(counter.to_bytes(11, "big") + bytes([last]), chunk, None))
    except InvalidTag as error:
        raise BadFileError("a wrong passphrase, or a file that was changed or cut off") from error


def _chunks(source: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield chunks of `size` bytes, each with whether it is the last; an empty stream is one empty chunk."""
    chunk = _read(source, size)
    while True:
        following = _read(source, size)
        yield chunk, not following
        if not following:
            return
        chunk = following


def _read(source: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end."""
    content = bytearray()
    while len(content) < size and (block := source.read(size - len(content))):
        content += block
    return bytes(content)


def _wrapping_key(passphrase: str, salt: bytes, work: int) -> bytes:
    scrypt = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << work, r=8, p=1)
    return scrypt.derive(passphrase.encode())


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, b"header", salt=None), header, "sha256")


def _hkdf(file_key: bytes, info: bytes, *, salt: bytes | None) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise BadFileError("a header that was changed") from error
    if _encode(data) != text:  # age asks for the canonical spelling
        raise BadFileError("a header that was changed")
    return data
