"""Gradio prints the tracebacks of what fails, whose texts may have a request in them. Here only the place is logged."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

from timm_encmixer.web.guard import where_it_failed

logger = logging.getLogger(__name__)
_PRINTS = ("queueing", "routes", "route_utils", "utils")  # modules of Gradio that print tracebacks


class _Places:
    """Stands for the module `traceback` where Gradio prints by it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["traceback"], name)

    def print_exc(self, *args: object, **options: object) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            logger.error("a call failed: %s", where_it_failed(error))

    print_exception = print_exc


def keep_quiet(gradio: ModuleType) -> None:
    """Have Gradio log where something failed, instead of what was said of it. For the whole process."""
    for name in _PRINTS:
        module: Any = sys.modules.get(f"{gradio.__name__}.{name}")
        if module is not None and hasattr(module, "traceback"):
            module.traceback = _Places()
