"""Reading what a file says: JSON or parsed values to one declared type, and one error for everything that does not fit it.

Types are `msgspec.Struct` classes with `forbid_unknown_fields`, numbers in bounds. docs/adr/0013 says why msgspec.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from timm_encmixer.errors import EncMixerError

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # a number of things or bytes that JSON keeps exactly
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def read_as(kind: type[T], value: Any, *, where: str, error: type[EncMixerError], remedy: str) -> T:
    """Return a value of a declared type.

    Args:
        kind: The type: a `msgspec.Struct` or what else msgspec converts to.
        value: JSON as text or bytes, or objects that `json` or YAML made.
        where: The file, for messages.
        error: Class of the error.
        remedy: What the user can do about it.

    Raises:
        EncMixerError: Of the class `error`: no JSON, unknown or missing fields, another type, or a number out of bounds.
    """
    try:
        if isinstance(value, (bytes, str)):
            return msgspec.json.decode(value, type=kind)
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as reason:  # ValueError: no UTF-8
        raise error(where, "what docs/format.md describes", f"something else ({str(reason)[:200]})", remedy) from reason
