"""Key-based encryption of ConvMixer models and images, as a timm plugin.

Importing this package registers the `encmixer_*` names with timm; that is its only side effect. torch and timm are loaded
when they are first needed (docs/adr/0001), so that the command line answers at once. The public names stand in
`__init__.pyi`.
"""

from typing import Any

import lazy_loader

from timm_encmixer.errors import of_full_installation
from timm_encmixer.timm_plugin.registration import register_with_timm

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    with of_full_installation(f"timm_encmixer.{name}"):
        return _load(name)


register_with_timm()
