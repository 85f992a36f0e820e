"""The errors of the package: one root, and each error is also the builtin that a caller would expect.

Every message says where, what was expected, what was got and what to do. It never holds a key, a seed or a permutation.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator

_INNER = ("timm_encmixer", "timm")  # packages whose lines a warning does not point at


class EncMixerError(Exception):
    """Root of all errors raised by timm_encmixer.

    Args:
        where: File, argument or tensor at fault.
        expected: What would have been right.
        got: What was there instead, without secrets.
        remedy: What the user can do about it.

    Attributes:
        shared: Every process of a distributed run raises this error, so one of them is enough to report it.

    Examples:
        >>> try:
        ...     te.find_scheme("nothing")
        ... except te.EncMixerError as error:
        ...     print(error.where)
        nothing
    """

    shared = False

    def __init__(self, where: str, expected: str, got: str, remedy: str) -> None:
        self.where, self.expected, self.got, self.remedy = map(_one_line, (where, expected, got, remedy))
        super().__init__(f"{self.where}: expected {self.expected}, got {self.got}; {self.remedy}")

    def __reduce__(self) -> tuple[type[EncMixerError], tuple[str, str, str, str]]:
        return type(self), (self.where, self.expected, self.got, self.remedy)


def _one_line(text: str) -> str:
    """Return a text that can be printed anywhere: a file's name may be no UTF-8, and hold line breaks."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()


class KeyFormatError(EncMixerError, ValueError):
    """A key file's text is not a key."""


class MissingKeyError(EncMixerError, ValueError):
    """A key is needed and none was given."""


class KeyMismatchError(EncMixerError, ValueError):
    """The key is not the one whose fingerprint the record names.

    Examples:
        >>> te.create_transform("encrypted", te.SecretKey.generate())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        timm_encmixer.errors.KeyMismatchError: key: expected the key with fingerprint ...
    """


class SecretLeakError(EncMixerError, TypeError):
    """Something tried to serialise a secret."""


class SchemeError(EncMixerError, ValueError):
    """A public record is missing, malformed or of an unknown version."""


class SchemeMismatchError(EncMixerError, ValueError):
    """A cipher's patch side or channels do not fit what it is applied to."""


class StemError(EncMixerError, ValueError):
    """A model has no stem that this package can encrypt."""


class AlreadyEncryptedError(EncMixerError, ValueError):
    """A plain model or checkpoint was asked for, and it is encrypted."""


class NotEncryptedError(EncMixerError, ValueError):
    """An encrypted model or checkpoint was asked for, and it is plain."""


class CheckpointError(EncMixerError, ValueError):
    """A checkpoint's bytes, header or configuration are not what they should be."""


class ImageError(EncMixerError, ValueError):
    """An image cannot be encrypted, decrypted or read as asked."""


RESIZE_REMEDY = "resize or crop it first: create_transform does"  # the command line has other words for it


class ImageTypeError(EncMixerError, TypeError):
    """An object is of no image type that the package knows."""


class DataError(EncMixerError, ValueError):
    """A labelled data set cannot be read as asked."""


class SourceError(EncMixerError, ValueError):
    """A model source (name, Hub id, folder or file) names nothing that can be used."""


class HubError(EncMixerError, OSError):
    """The Hub refused a request, failed, or cannot be reached."""


class IntegrityError(EncMixerError, ValueError):
    """Bytes are not those that were sent, listed or sealed."""


class SealError(EncMixerError, ValueError):
    """A model cannot be sealed as asked, or a sealed file cannot be opened with what was given."""


class LeakError(EncMixerError, ValueError):
    """A file that is about to leave this machine holds a secret, or plain weights."""


class AuditError(EncMixerError, ValueError):
    """An audit was asked for something that it does not have."""


class ProcessError(EncMixerError, RuntimeError):
    """The processes of a distributed run were started wrongly, or were given different things."""


class FileAccessError(EncMixerError, OSError):
    """A file cannot be read or written."""


class AddressError(EncMixerError, OSError):
    """A server cannot listen at an address."""


class TargetExistsError(EncMixerError, FileExistsError):
    """An output is there already and was not to be replaced."""


_FULL = "in a checkout of timm-encmixer run: pip install ."
_NOT_A_CLIENTS = {
    **dict.fromkeys(("torch", "timm", "torchvision", "accelerate"), _FULL),
    "huggingface_hub": "run: pip install huggingface-hub",
}


class MissingExtraError(EncMixerError, ImportError):
    """An optional dependency is not installed."""


def missing_extra(where: str, package: str, extra: str) -> MissingExtraError:
    """Return the error for a package that is not installed, with the command that installs the extra it belongs to."""
    remedy = f'in a checkout of timm-encmixer run: pip install ".[{extra}]"'
    return MissingExtraError(where, f"the package {package}", "none installed", remedy)


def require_packages(where: str, extra: str, *packages: str) -> None:
    """Find out, without importing anything, whether the packages of an extra are installed.

    Raises:
        MissingExtraError: One is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing_extra(where, package, extra)


@contextlib.contextmanager
def of_full_installation(where: str) -> Iterator[None]:
    """Say of what a client's installation lacks (docs/client.md) that it does, and how to get it.

    Args:
        where: What needs it.

    Raises:
        MissingExtraError: An import failed, of a library that clients do without.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = _NOT_A_CLIENTS.get((error.name or "").partition(".")[0])
        if remedy is None or isinstance(error, MissingExtraError):
            raise
        got = "a client's installation without it"
        raise MissingExtraError(where, f"the package {error.name}", got, remedy) from error


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "", likeness: float = 0.6) -> str:
    """Return the remedy for a word that is unknown: what is most like it, at most three of them; else `otherwise`."""
    found = difflib.get_close_matches(word, list(known), n=3, cutoff=likeness)
    return f"did you mean {' or '.join(found)}?" if found else otherwise


class KeyPermissionWarning(UserWarning):
    """Others than the owner can read a key file."""


class PublicWeightsWarning(UserWarning):
    """The plain weights are public, so the key can be computed from the encrypted ones."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and point at the line outside of this package and of timm that led here."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
