"""Where an attack or a published cipher comes from."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar


class _RenamedToCitation:
    """The earlier name of `citation`, `source`; to be removed in version 0.3."""

    def __get__(self, instance: object, owner: type[Cited]) -> str:
        _warn(owner, stacklevel=3)
        return owner.citation


class Cited:
    """What has a citation, a class attribute.

    Attributes:
        citation: Authors, venue, year, arXiv number; or "our own".
    """

    citation: ClassVar[str]
    source: ClassVar[Any] = _RenamedToCitation()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "source" in vars(cls):
            _warn(cls, stacklevel=3)
            cls.citation = vars(cls)["source"]
            del cls.source  # so that the base's answers


def _warn(cls: type[Cited], *, stacklevel: int) -> None:
    warnings.warn(f"{cls.__name__}.source is now {cls.__name__}.citation", DeprecationWarning, stacklevel=stacklevel)
