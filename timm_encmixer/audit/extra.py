"""What the audit needs beside the package's own dependencies."""

from __future__ import annotations

from timm_encmixer.errors import require_packages

PACKAGES = ("scipy", "skimage", "foolbox", "matplotlib", "jinja2", "ffx")


def require_extra() -> None:
    """Find out, without importing anything, whether the packages of the extra `audit` are installed.

    Raises:
        MissingExtraError: One is not.
    """
    require_packages("audit", "audit", *PACKAGES)
