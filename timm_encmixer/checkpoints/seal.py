"""Sealing a model: real cryptography for weights at rest and on the way, in the age format (https://age-encryption.org/v1).

What it protects: the file, from everyone without the identity or passphrase. What it does not: the opened model, from
anyone who runs it. A folder is sealed as a tar of its two files, a .safetensors file as it is; `age -d` opens both.
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from timm_encmixer.checkpoints import age_armor, age_passphrase
from timm_encmixer.checkpoints.checkpoint import OWNED_NAMES, Checkpoint
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, WEIGHTS_NAME
from timm_encmixer.checkpoints.sources import SourceLike, open_checkpoint
from timm_encmixer.checkpoints.tensor_file import SAFETENSORS, TensorFile
from timm_encmixer.errors import CheckpointError, EncMixerError, IntegrityError, SealError, missing_extra
from timm_encmixer.files import (
    FileKind,
    PathLike,
    as_path,
    file_error,
    members_of,
    open_regular,
    open_tar,
    refuse_existing,
    replacing_file,
    replacing_folder,
    scratch_folder,
)
from timm_encmixer.keys import is_key_text

_BLOCK_BYTES = 512  # of a tar file
_BUFFER_BYTES = 1 << 20
_TAR_MAGIC = (257, b"ustar")
_IDENTITY_PREFIX = "AGE-SECRET-KEY-"
_LONGEST_PATH = 1024
T = TypeVar("T")
_AGE = FileKind("an age file", b"age-encryption.org/v1")


def seal_model(
    src: SourceLike,
    dst: PathLike,
    *,
    recipients: Sequence[str] = (),
    passphrase: str | None = None,
    force: bool = False,
) -> None:
    """Seal a model's files with age, to recipients or with a passphrase; in constant memory.

    The model may be encrypted or plain.

    Args:
        src: As for `find_source`: a folder with config.json and model.safetensors, or a .safetensors file.
        dst: File to write, at every moment absent, old or whole.
        recipients: age public keys ("age1..."), ssh public keys ("ssh-ed25519 ...", "ssh-rsa ..."), or files of such lines;
            any one of them opens the file.
        passphrase: Instead of recipients.
        force: Replace an existing target.

    Raises:
        SealError: No recipients, or one that is not a recipient.
        CheckpointError, FileAccessError: The source is not a whole model.
        NotEncryptedError: The source has the record of an encryption, and its weights are plain.
        TargetExistsError: The target is there.
        MissingExtraError: pyrage is not installed (extra `seal`).

    Examples:
        >>> te.seal_model("encrypted", "model.age", passphrase="correct horse battery staple")
    """
    dst = as_path(dst, where="dst")
    refuse_existing(dst, overwrite=force)
    keys = _parsed(recipients, passphrase)
    checkpoint = open_checkpoint(src)
    checkpoint.check_stem()
    _seal(checkpoint, dst, keys, passphrase, force=force)


def seal_checkpoint(checkpoint: Checkpoint, dst: Path, *, recipients: Sequence[str]) -> None:
    """Seal a checkpoint that is open and checked already, to recipients; errors as for `seal_model`."""
    _seal(checkpoint, dst, _parsed(recipients, None), None, force=False)


def _parsed(recipients: Sequence[str], passphrase: str | None) -> list[Any]:
    """Return the recipients' keys; none where there is a passphrase.

    Raises:
        SealError: There are neither or both, or one of them is not a recipient.
    """
    if bool(recipients) == (passphrase is not None) or passphrase == "":
        got = "both" if recipients else "neither"
        remedy = "pass recipients=[...] (--to RECIPIENT), or passphrase= (--passphrase)"
        raise SealError("seal", "recipients or a passphrase", got, remedy)
    return _recipients(recipients)


def _seal(checkpoint: Checkpoint, dst: Path, keys: Sequence[Any], passphrase: str | None, *, force: bool) -> None:
    with replacing_file(dst, overwrite=force, kind=_AGE) as temporary, temporary.open("wb") as out:
        folder = checkpoint.path if checkpoint.config is not None else None
        source = checkpoint.path.open("rb") if folder is None else _Tar(folder, (CONFIG_NAME, WEIGHTS_NAME))
        with source as reader:
            if passphrase is not None:
                age_passphrase.encrypt(cast(BinaryIO, reader), out, passphrase)
            else:
                _encrypt_to(keys, cast(BinaryIO, reader), out)


def open_model(
    src: PathLike,
    dst: PathLike,
    *,
    identity: PathLike | None = None,
    passphrase: str | None = None,
    force: bool = False,
) -> None:
    """Decrypt a sealed model; nothing is left at the target unless every byte was authentic.

    Args:
        src: A sealed file.
        dst: Folder to write, or, when a single file was sealed, .safetensors file.
        identity: File of age identities ("AGE-SECRET-KEY-1...") or an ssh private key without a passphrase; or the text of one
            age identity.
        passphrase: Instead of an identity.
        force: Replace an existing target.

    Raises:
        SealError: The file is not sealed to this identity or with this passphrase, or is damaged.
        IntegrityError: What was sealed is no model.
        TargetExistsError, FileAccessError: The target is there, or a file cannot be read or written.
        MissingExtraError: pyrage is not installed (extra `seal`).

    Examples:
        >>> te.seal_model("encrypted", "sealed.age", passphrase="correct horse battery staple")
        >>> te.open_model("sealed.age", "opened", passphrase="correct horse battery staple")
    """
    src, dst = as_path(src, where="src"), as_path(dst, where="dst")
    refuse_existing(dst, overwrite=force)
    if (identity is None) == (passphrase is None):
        got = "neither" if identity is None else "both"
        remedy = "pass identity= (--identity FILE), or passphrase= (--passphrase)"
        raise SealError("open", "an identity or a passphrase", got, remedy)
    identities = _identities(identity) if identity is not None else []
    try:
        with scratch_folder(dst) as scratch:
            inner = scratch / "opened"
            _decrypt(src, inner, identities, passphrase)
            with inner.open("rb") as file:
                file.seek(_TAR_MAGIC[0])
                is_folder = file.read(len(_TAR_MAGIC[1])) == _TAR_MAGIC[1]
            (_unpack if is_folder else _place_file)(src, inner, dst, force)
    except EncMixerError:
        raise
    except OSError as error:
        raise file_error(error.filename or dst, "a sealed file to read and a place to write", error) from error


def _encrypt_to(keys: Sequence[Any], reader: BinaryIO, out: BinaryIO) -> None:
    """Encrypt a stream with pyrage, which turns every fault of the two files into an error of its own; raise the file's."""
    reading, writing = _Faults(reader), _Faults(out)
    try:
        _pyrage().encrypt_io(reading, writing, keys)
    except Exception as error:
        fault = writing.fault or reading.fault
        if fault is not None:
            raise fault from error
        raise SealError("seal", "a file that age can encrypt", str(error), "check the recipients") from error


class _Faults:
    """A file that keeps the error that the operating system gave."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: OSError | None = None

    def read(self, size: int = -1, /) -> bytes:
        return self._kept(lambda: self._file.read(size))

    def write(self, data: bytes, /) -> int:
        return self._kept(lambda: self._file.write(data))

    def flush(self) -> None:
        self._kept(self._file.flush)

    def _kept(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            self.fault = error
            raise


def _decrypt(src: Path, target: Path, identities: Sequence[Any], passphrase: str | None) -> None:
    """Write the plaintext; raises, with `target` in any state, unless the whole file is authentic."""
    with open_regular(src, action="a sealed file to read") as file:
        armored = age_armor.is_armored(file.read(64))
    if armored:
        binary = target.with_name("binary")
        age_armor.dearmor(src, binary)
        _decrypt_binary(src, binary, target, identities, passphrase)
    else:
        _decrypt_binary(src, src, target, identities, passphrase)


def _decrypt_binary(src: Path, binary: Path, target: Path, identities: Sequence[Any], passphrase: str | None) -> None:
    with binary.open("rb") as file, target.open("wb") as out:
        start = file.read(64)
        if not age_passphrase.is_age_file(start):
            raise SealError(
                str(src), "a file that age sealed", "something else", "give the file that encmixer model seal wrote"
            )
        file.seek(0)
        for_passphrase = age_passphrase.is_passphrase_file(file.read(64))
        file.seek(0)
        if for_passphrase != (passphrase is not None):
            expected = "a passphrase" if for_passphrase else "an identity"
            remedy = "pass passphrase= (--passphrase)" if for_passphrase else "pass identity= (--identity FILE)"
            raise SealError(str(src), expected, "the other", remedy)
        try:
            if passphrase is not None:
                age_passphrase.decrypt(file, out, passphrase)
            else:
                _pyrage().decrypt_io(file, out, identities)
        except EncMixerError:
            raise
        except Exception as error:  # pyrage raises its own and, for a damaged payload, builtin errors
            if isinstance(error, OSError) and error.errno is not None:
                raise
            got = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            remedy = "check the identity or passphrase; if they are right, the file is damaged: get another copy"
            raise SealError(str(src), "a whole file that was sealed to this", got, remedy) from error


def _unpack(src: Path, tar: Path, dst: Path, force: bool) -> None:
    remedy = "ask the person who sealed it for a model folder or a .safetensors file"
    with replacing_folder(dst, overwrite=force, owned=OWNED_NAMES) as folder:
        try:
            with open_tar(tar) as archive:
                for member in members_of(archive):
                    content = archive.extractfile(member) if member.name in OWNED_NAMES and member.isreg() else None
                    if content is None:
                        raise IntegrityError(str(src), " and ".join(sorted(OWNED_NAMES)), repr(member.name), remedy)
                    with (folder / member.name).open("xb") as out:
                        shutil.copyfileobj(content, out, _BUFFER_BYTES)
        except (tarfile.TarError, FileExistsError) as error:
            raise IntegrityError(str(src), "a tar of one model", str(error), remedy) from error
        Checkpoint.open(folder)


def _place_file(src: Path, inner: Path, dst: Path, force: bool) -> None:
    if dst.suffix != ".safetensors":
        raise SealError(str(dst), "a name that ends in .safetensors, as a single file was sealed", dst.name, "rename it")
    try:
        TensorFile.open(inner)
    except CheckpointError as error:
        raise IntegrityError(str(src), "a sealed model", error.got, "ask the person who sealed it for a model") from error
    with replacing_file(dst, overwrite=force, kind=SAFETENSORS) as temporary:
        inner.replace(temporary)


class _Tar:
    """A tar of files, made while it is read; same bytes every time."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._parts = self._content(folder, names)
        self._rest = b""

    def _content(self, folder: Path, names: Sequence[str]) -> Generator[bytes, None, None]:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = left = (folder / name).stat().st_size
            yield entry.tobuf(tarfile.GNU_FORMAT)
            with (folder / name).open("rb") as file:
                while left:
                    block = file.read(min(left, _BUFFER_BYTES))
                    if not block:
                        raise OSError(errno.EIO, "the source shrank while it was read")
                    left -= len(block)
                    yield block
            yield bytes(-entry.size % _BLOCK_BYTES)
        yield bytes(2 * _BLOCK_BYTES)

    def read(self, size: int = -1, /) -> bytes:
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._rest = part
        block, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return block

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._parts.close()


def _recipients(texts: Sequence[str]) -> list[Any]:
    """Parse recipients; a text that is the path of a file stands for the file's lines."""
    keys = []
    for text in texts:
        is_file = "\n" not in text and len(text) < _LONGEST_PATH and Path(text).is_file()
        try:
            lines = Path(text).read_text(encoding="utf-8").splitlines() if is_file else [text]
        except (OSError, UnicodeDecodeError) as error:
            raise SealError(text, "a file of recipients to read", type(error).__name__, "age-keygen makes one") from error
        for line in (line.strip() for line in lines):
            if line and not line.startswith("#"):
                keys.append(_recipient(line, where=text if is_file else "recipient"))
    return keys


def _recipient(line: str, *, where: str) -> Any:
    """Parse one recipient. What does not begin as one is not repeated: it may be a secret."""
    pyrage = _pyrage()
    kind = pyrage.ssh if line.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(line)
    except Exception as error:  # pyrage.RecipientError, and builtins for other malformed text
        expected = "an age public key (age1...), an ssh public key, or a file of such lines"
        secret = "SECRET" in line.upper() or is_key_text(line)
        got = repr(line[:20]) if line.startswith(("age1", "ssh-")) else "a secret key" if secret else "something else"
        raise SealError(where, expected, got, "age-keygen makes one") from error


def _identities(identity: PathLike) -> list[Any]:
    text, where = os.fspath(identity), "identity"
    if not text.startswith(_IDENTITY_PREFIX):
        where = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            text = ""
        except OSError as error:
            raise file_error(where, "an identity file to read", error) from error
    pyrage = _pyrage()
    remedy = "give the file that age-keygen wrote, or an ssh private key without a passphrase"
    try:
        if "PRIVATE KEY-----" in text:
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except Exception as error:  # pyrage.IdentityError; its text may quote the secret
        raise SealError(where, "an age identity or an ssh private key", "something else", remedy) from error
    if not identities:
        raise SealError(where, "an age identity or an ssh private key", "none", remedy)
    return identities


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise missing_extra("seal", "pyrage", "seal") from error
    return pyrage
