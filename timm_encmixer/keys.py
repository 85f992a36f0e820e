"""Secret keys: making, keeping and deriving from them, and never showing them.

Source: HKDF is RFC 5869. The derivation and the key file are a format, version 1, written down in docs/format.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from timm_encmixer.errors import KeyFormatError, KeyPermissionWarning, MissingKeyError, SecretLeakError, warn_caller
from timm_encmixer.files import as_path, file_error, write_new_private

KEY_BYTES = 32
KEY_VARIABLE = "TIMM_ENCMIXER_KEY"
KEY_FILE_PREFIX = "ENCMIXER-KEY-1:"
_CHECKSUM_BYTES = 4
_KEY_LINE = r"ENCMIXER-KEY-\d+(:|%3A)"  # also as an address has it
_KEY_TEXT = re.compile(rf"{_KEY_LINE}|^[0-9a-f]{{64}}$|^[\w+-]{{43}}=?$|^[\w+-]{{48}}$", re.IGNORECASE)
_WHOLE_LINE = re.compile(rf"{_KEY_LINE}[\w+/=%-]{{8,}}", re.IGNORECASE)
_TYPED = "it may be in your shell's history: rotate to a new key"
_LONGEST_FILE_BYTES = 4096


class SecretKey:
    """32 secret bytes. Immutable; shows its fingerprint, never itself; refuses to be pickled.

    Holding a `SecretKey` does not make a model confidential: docs/security.md says what the key protects.

    Examples:
        >>> key = te.SecretKey.generate()
        >>> key.save("mine.key")
        >>> te.SecretKey.load("mine.key") == key
        True
    """

    __slots__ = ("_key_bytes",)
    _key_bytes: bytes

    def __init__(self, key_bytes: bytes) -> None:
        """Wrap 32 bytes from a cryptographic source; `SecretKey.generate` makes them for you.

        Raises:
            KeyFormatError: Not exactly 32 bytes.
        """
        if not isinstance(key_bytes, bytes) or len(key_bytes) != KEY_BYTES:
            got = f"{len(key_bytes)} bytes" if isinstance(key_bytes, bytes) else type(key_bytes).__name__
            del key_bytes  # it may be a key in another form, and reports of errors show the variables of frames
            raise KeyFormatError("SecretKey", f"{KEY_BYTES} bytes", got, "use SecretKey.generate() or SecretKey.load(path)")
        object.__setattr__(self, "_key_bytes", key_bytes)

    @classmethod
    def generate(cls) -> SecretKey:
        """Return a new key from the operating system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def new(cls, path: str | os.PathLike[str]) -> SecretKey:
        """Make a random key and its file, as `encmixer key new` does.

        Args:
            path: Of the file, which must not exist yet; its mode is 0600.

        Returns:
            The key.

        Raises:
            TargetExistsError, FileAccessError: The file exists already or cannot be written.

        Examples:
            >>> key = te.SecretKey.new("my.key")
            >>> len(key.fingerprint)
            16
        """
        key = cls.generate()
        key.save(path)
        return key

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, where: str = "key") -> SecretKey:
        """Read a key file.

        Args:
            path: The file.
            where: The argument or option, for the message that refuses a key's own text.

        Raises:
            KeyFormatError: The text is not a key: foreign, truncated, mistyped or of an unknown version.
            FileAccessError: The file cannot be read.

        Warns:
            KeyPermissionWarning: Others than the owner can read the file.
        """
        _refuse_key_text(path, where)
        path = as_path(path, where=where)
        found, others = cls._read(path)
        if isinstance(found, KeyFormatError):
            raise found
        if others and os.name == "posix":
            warn_caller(f"{path}: others can read this key file; run: chmod 600 {path}", KeyPermissionWarning)
        return found

    @classmethod
    def _read(cls, path: Path) -> tuple[SecretKey | KeyFormatError, bool]:
        """Return the key, or the error to raise, and whether others can read the file.

        Nothing is raised once the file has been read: a report of an error may show the variables of each frame.
        """
        try:
            with path.open("rb") as file:
                others = bool(os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH))
                text = file.read(_LONGEST_FILE_BYTES + 1)
        except OSError as error:
            raise file_error(path, "a key file to read (encmixer key new PATH makes one)", error) from None
        return cls._parse(text, str(path)), others

    @classmethod
    def _parse(cls, text: bytes, where: str) -> SecretKey | KeyFormatError:
        expected = f"one line of text that starts with {KEY_FILE_PREFIX}"
        remedy = "give the file that `encmixer key new` wrote, or a backup of it"
        line = text.strip()
        if not line.startswith(b"ENCMIXER-KEY-"):
            return KeyFormatError(where, expected, f"{len(text)} bytes of something else", remedy)
        if not line.startswith(KEY_FILE_PREFIX.encode()):
            return KeyFormatError(where, expected, "a key file of another version", "upgrade timm-encmixer")
        body = line[len(KEY_FILE_PREFIX) :]
        try:
            raw = base64.b64decode(body, altchars=b"-_", validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) != KEY_BYTES + _CHECKSUM_BYTES or base64.urlsafe_b64encode(raw) != body:  # b64decode takes + and / too
            return KeyFormatError(where, expected + " and 48 characters", "a truncated or mistyped line", remedy)
        if not hmac.compare_digest(raw[KEY_BYTES:], _checksum(raw[:KEY_BYTES])):
            return KeyFormatError(where, "a checksum that fits the key", "another one: a character is mistyped", remedy)
        return cls(raw[:KEY_BYTES])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key file, mode 0600. An existing file is never overwritten, and no other file ever holds the key.

        Raises:
            TargetExistsError: The file is there already.
            FileAccessError: It cannot be written.
        """
        _refuse_key_text(path, "key")
        write_new_private(as_path(path, where="key"), self.file_text)

    def file_text(self) -> bytes:
        """Return what `save` writes, with the secret in it: to hand a key over without a file."""
        body = base64.urlsafe_b64encode(self._key_bytes + _checksum(self._key_bytes))
        return KEY_FILE_PREFIX.encode() + body + b"\n"

    def reveal(self) -> bytes:
        """Return the 32 secret bytes: the one explicit way to them."""
        return self._key_bytes

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the key in public, derived from it one way (docs/format.md)."""
        return self.derive("fingerprint", 8).hex()

    def derive(self, purpose: str, length: int = KEY_BYTES) -> bytes:
        """Derive `length` secret bytes for one purpose; other purposes give independent bytes.

        Source: HKDF-SHA256 without salt, info = "timm-encmixer/v1/" + purpose (docs/format.md).
        """
        info = f"timm-encmixer/v1/{purpose}".encode()
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._key_bytes)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("SecretKey is immutable")

    def __repr__(self) -> str:
        if not hasattr(self, "_key_bytes"):  # refused: reports of the error show it all the same
            return "<SecretKey without a key>"
        return f"<SecretKey {self.fingerprint}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and hmac.compare_digest(self._key_bytes, other._key_bytes)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __copy__(self) -> SecretKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> SecretKey:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretLeakError("SecretKey", "never to be pickled", "a pickle", "hand over the key file's path instead")


def _checksum(key_bytes: bytes) -> bytes:
    return hashlib.sha256(b"timm-encmixer/key-file/v1/" + key_bytes).digest()[:_CHECKSUM_BYTES]


def _refuse_key_text(path: str | os.PathLike[str], where: str) -> None:
    """Refuse a key's own text in place of its file's path, without repeating it.

    Raises:
        KeyFormatError: It is a key file's line, or what a key looks like in hexadecimal or base64.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if isinstance(text, str) and is_key_text(text) and not Path(text).is_file():
        raise KeyFormatError(where, "the path of a key file", "a key's own text", f"give the path; {_TYPED}")


def is_key_text(text: str) -> bool:
    """Whether a text holds a key file's line, or is what a key looks like in hexadecimal or base64."""
    return _KEY_TEXT.search(text) is not None


def refuse_key_words(words: Sequence[str]) -> None:
    """Refuse a command that has a key file's line in any of its words: nothing of it is to be written or sent anywhere.

    Raises:
        KeyFormatError: One has.
    """
    for before, word in zip(("", *words), words, strict=False):
        if re.search(_KEY_LINE, word, re.IGNORECASE):
            option = word.partition("=")[0] if word.startswith("--") and "=" in word else before
            _refuse_key_text(word, option if re.fullmatch("--?[a-z-]+", option) else "command line")


def without_key_text(message: str, words: Sequence[str]) -> str:
    """Return a message without a key file's line, and without words that look like a key in hexadecimal or base64.

    Args:
        message: The message.
        words: What the user typed. Only these are taken for bare keys, unless there is such a path: messages name digests too.
    """
    values = [value for word in words for value in (word, word.partition("=")[2])]
    bare = [value for value in values if is_key_text(value) and not Path(value).exists()]
    masked = _WHOLE_LINE.sub("ENCMIXER-KEY-...", message)
    for value in bare:
        masked = masked.replace(value, "...")
    return masked if masked == message else f"{masked}; a key's own text was typed: {_TYPED}"


KeyLike = SecretKey | str | os.PathLike[str]  # a key, or the path of its file


def find_key(key: KeyLike | None, *, where: str = "key") -> SecretKey:
    """Return the key that was given, else load the path that was given, else the path in `TIMM_ENCMIXER_KEY`.

    Every public call that takes a key finds it here.

    Args:
        key: A key, the path of its file, or None for the file that TIMM_ENCMIXER_KEY names.
        where: The argument or option, for messages.

    Raises:
        MissingKeyError: There is none, or it is neither a key nor a path.
        KeyFormatError, FileAccessError: The file is not a key or cannot be read.
    """
    if isinstance(key, SecretKey):
        return key
    path = os.environ.get(KEY_VARIABLE) if key is None else key
    path = os.fspath(path) if isinstance(path, os.PathLike) else path
    if path is None or path == "":
        raise MissingKeyError(where, "a key", "none", f"pass a SecretKey or a key file's path, or set {KEY_VARIABLE} to one")
    if not isinstance(path, str):
        raise MissingKeyError(where, "a SecretKey or a path", type(path).__name__, "load it with SecretKey.load(path)")
    return SecretKey.load(path, where=where)


def find_optional_key(key: KeyLike | None) -> SecretKey | None:
    """Return the key as `find_key` does, None where none was given and TIMM_ENCMIXER_KEY names none."""
    return find_key(key) if key is not None or os.environ.get(KEY_VARIABLE) else None
