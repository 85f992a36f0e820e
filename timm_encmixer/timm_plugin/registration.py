"""Registering the entrypoints with timm: now if timm is loaded, else right after it has been loaded.

timm discovers no plugins and takes seconds to import, torch included. docs/adr/0001 weighs the alternatives.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ENTRYPOINTS = "timm_encmixer.timm_plugin.encmixer"


def register_with_timm() -> None:
    """Register the entrypoints when timm is imported, or at once when it is there already."""
    if "timm" in sys.modules:
        importlib.import_module(_ENTRYPOINTS)
    elif not any(isinstance(finder, _TimmFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmFinder())


class _TimmFinder(MetaPathFinder):
    """Finds nothing but timm itself, once, through the other finders."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "timm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    """Loads timm with its own loader, then imports the entrypoints."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        with _no_collection():
            self._loader.exec_module(module)
            importlib.import_module(_ENTRYPOINTS)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage: an import makes a million objects and keeps them, and each search goes through all of them again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
