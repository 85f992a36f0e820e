"""Reading what a file says: JSON or parsed values to one declared type, and one error for everything that does not fit it.

Types are `msgspec.Struct` classes with `forbid_unknown_fields`, or dataclasses. Their numbers have bounds. docs/adr/0013 says
why msgspec.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from timm_encmixer.errors import EncMixerError

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # a number of things or bytes that JSON keeps exactly
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def read_as(
    kind: type[T],
    value: Any,
    *,
    where: str,
    error: type[EncMixerError],
    remedy: str,
    expected: str = "what docs/format.md describes",
) -> T:
    """Return a value of a declared type.

    Args:
        kind: The type: a `msgspec.Struct` or what else msgspec converts to.
        value: JSON as text or bytes, or objects that `json` or YAML made.
        where: The file, for messages.
        error: Class of the error.
        remedy: What the user can do about it.
        expected: What would have been right, in words.

    Raises:
        EncMixerError: Of the class `error`: no JSON, unknown or missing fields, another type, or a number out of bounds.
    """
    try:
        if isinstance(value, (bytes, str)):
            return msgspec.json.decode(value, type=kind)
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as reason:  # ValueError: no UTF-8
        raise error(where, expected, f"something else ({str(reason)[:200]})", remedy) from reason


def check_fields(value: Any, *, where: str, error: type[EncMixerError], remedy: str) -> None:
    """Check the fields of a frozen dataclass against their declared types, and bring them to these: lists become tuples.

    Args:
        value: The dataclass, just made. The description of a type (`msgspec.Meta`) says in an error what was expected.
        where: What comes before a field's name in messages.
        error: Class of the error.
        remedy: What the user can do about it.

    Raises:
        EncMixerError: Of the class `error`: another type, or a number out of bounds.
    """
    for name, (kind, expected) in _fields(value.__class__).items():
        given = getattr(value, name)
        try:
            object.__setattr__(value, name, msgspec.convert(given, kind))
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as reason:
            raise error(f"{where}{name}", expected, repr(given)[:100], remedy) from reason


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, str]]:
    """Return the type of each field of a dataclass, and its description."""
    types = get_type_hints(kind, include_extras=True)
    return {field.name: (types[field.name], _description(types[field.name])) for field in dataclasses.fields(kind)}


def _description(kind: Any) -> str:
    notes = [note.description for note in getattr(kind, "__metadata__", ()) if isinstance(note, msgspec.Meta)]
    return next((note for note in notes if note), str(kind))
