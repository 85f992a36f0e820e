"""The report of an audit: audit.json for programs, audit.md and audit.html for people, and the pictures."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm_encmixer.atomic import file_error, replacing_folder
from timm_encmixer.audit.attack import Result

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """What an audit found; the fields are those of audit.json (docs/audit.md)."""

    model: str
    cipher: str
    patch_size: int
    in_chans: int
    input_size: tuple[int, int, int]
    budget: str
    seed: int
    attacked_images: int
    test_images: int
    labelled: bool
    public: str
    plain_accuracy: float | None
    guessing: float
    results: dict[str, Result]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of audit.json."""
        own = {name: value for name, value in vars(self).items() if name != "results"}
        own["input_size"] = list(self.input_size)
        return {"version": SCHEMA_VERSION, **own, "attacks": {name: r.to_dict() for name, r in self.results.items()}}

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the folder `out` with audit.json. Nothing in it comes from the key but figures.

        Raises:
            TargetExistsError: `out` is there and `overwrite` is false, or holds other files.
            FileAccessError: It cannot be written.
        """
        folder = Path(out)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(folder, "a folder to write", error) from error
        with replacing_folder(folder, overwrite=overwrite, owned=frozenset({"audit.json"})) as temporary:
            (temporary / "audit.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n")


def table(report: Report) -> str:
    """Return a report as lines of text."""
    plain = "unlabelled images" if report.plain_accuracy is None else f"plain accuracy {report.plain_accuracy:.1%}"
    lines = [
        f"{report.model}, cipher {report.cipher}, blocks of {report.patch_size} px; {report.attacked_images} images met by "
        f"attackers, {report.test_images} measured on; {plain}; budget {report.budget}, seed {report.seed}",
        f"{'attack':<27} {'verdict':<14} {'recovered':>9} {'PSNR':>8} {'accuracy':>9} {'seconds':>8}",
    ]
    for name, result in report.results.items():
        shown = [number(result.recovered, ".1%"), number(result.psnr_db, ".1f", " dB"), number(result.accuracy, ".1%")]
        lines.append(f"{name:<27} {result.verdict:<14} {shown[0]:>9} {shown[1]:>8} {shown[2]:>9} {result.seconds:>8.1f}")
    return "\n".join(lines)


def number(value: float | None, form: str, unit: str = "") -> str:
    """Return a figure as text, a dash for None."""
    return "-" if value is None else f"{value:{form}}{unit}"
