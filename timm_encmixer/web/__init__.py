"""The page `encmixer app`: encryption in the browser, the model on the server, the attacker beside them (docs/app.md)."""

from typing import Any

import lazy_loader

from timm_encmixer.web.extra import require_extra

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        require_extra()
    return _load(name)
