"""The audit: real attacks on a model and its images, and a report of what each attacker gets (docs/audit.md)."""

import warnings
from typing import Any

import lazy_loader

from timm_encmixer.audit.extra import require_extra
from timm_encmixer.errors import missing_extra

_RENAMED = {"SCHEMES": "PUBLISHED_CIPHERS", "PublishedScheme": "PublishedCipher"}  # to be removed in version 0.3
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"te.audit.{name} is now te.audit.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name in __all__:
        require_extra()
        try:
            return _load(name)
        except ModuleNotFoundError as error:  # one of them needs a package that is missing
            raise missing_extra("audit", str(error.name), "audit") from error
    return _load(name)
