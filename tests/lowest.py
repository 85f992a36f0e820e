"""Print the lowest versions that the installed package allows, as pip takes them: `make lowest`, which a workflow runs weekly.

Of the package's own dependencies and of the extras that its users install; what the tests alone need may be new.
"""

from __future__ import annotations

import importlib.metadata
import re

EXTRAS = ("data", "audit", "seal")
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)>=(?P<version>[\d.]+)(?:; extra == ['\"](?P<extra>\w+)['\"])?")


def requirements() -> list[str]:
    """Every dependency with ">=" in it, with "==" instead."""
    lines = importlib.metadata.requires("timm-encmixer") or []
    found = [match for line in lines if (match := REQUIREMENT.fullmatch(line))]
    return [f"{match['name']}=={match['version']}" for match in found if match["extra"] in (None, *EXTRAS)]


if __name__ == "__main__":
    print(" ".join(requirements()))
