"""What the page needs beside the package's own dependencies."""

from __future__ import annotations

from timm_encmixer.audit.extra import PACKAGES
from timm_encmixer.errors import require_packages


def require_extra() -> None:
    """Find out, without importing anything, whether the packages of the extra `web` are installed.

    Raises:
        MissingExtraError: One is not.
    """
    require_packages("app", "web", "gradio", *PACKAGES)
