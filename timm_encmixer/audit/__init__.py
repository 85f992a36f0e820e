"""The audit: real attacks on a model and its images, and a report of what each attacker gets (docs/audit.md)."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from timm_encmixer.errors import MissingExtraError

if TYPE_CHECKING:
    from timm_encmixer.audit.attacks.registry import ATTACKS as ATTACKS
    from timm_encmixer.audit.report import Report as Report
    from timm_encmixer.audit.suite import run as run

_EXTRA = ("scipy", "skimage", "foolbox", "matplotlib", "jinja2")
_HOMES = {"ATTACKS": "attacks.registry", "Report": "report", "run": "suite"}
__all__ = ["ATTACKS", "Report", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in _EXTRA:
        if importlib.util.find_spec(package) is None:
            remedy = 'pip install "timm-encmixer[audit]"'
            raise MissingExtraError("audit", f"the package {package}", "none installed", remedy)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
