"""Takes the package from the folder above: the two distributions have the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Package(BuildHookInterface[Any]):
    """Adds the files of `timm_encmixer` to the wheel; of the JavaScript client only what pages load."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Tell hatchling which files to take, and by which names."""
        top = Path(self.root).parent
        javascript = top / "timm_encmixer" / "web" / "client"
        for path in sorted((top / "timm_encmixer").rglob("*")):
            left_out = "__pycache__" in path.parts or (
                path.is_relative_to(javascript) and not path.is_relative_to(javascript / "dist")
            )
            if path.is_file() and not left_out:
                build_data["force_include"][str(path)] = str(path.relative_to(top))
