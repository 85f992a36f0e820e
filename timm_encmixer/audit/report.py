"""The report of an audit: audit.json for programs, audit.md and audit.html for people, and the pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm_encmixer.audit.attack import HOLDS, Result
from timm_encmixer.audit.attacks.registry import ATTACKS
from timm_encmixer.audit.curves import draw_curve
from timm_encmixer.audit.page import MORE_MAY_BREAK_IT, Picture, figure, render, summary
from timm_encmixer.audit.visual_similarity import Likeness
from timm_encmixer.errors import AuditError
from timm_encmixer.evaluation.columns import text_table
from timm_encmixer.evaluation.tiles import draw_rows
from timm_encmixer.files import as_path, file_error, refuse_existing, refuse_foreign, replacing_folder, scratch_folder

SCHEMA_VERSION = 2
_PAGES = ("audit.md", "audit.html")


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
    controls: dict[str, Likeness]
    results: dict[str, Result]
    decrypted_psnr_db: float | None = None
    block_fits: bool | None = None
    block_words: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of audit.json."""
        own = {name: value for name, value in vars(self).items() if name != "results"}
        own["input_size"] = list(self.input_size)
        own["controls"] = {name: vars(likeness) for name, likeness in self.controls.items()}
        return {"version": SCHEMA_VERSION, **own, "attacks": {name: r.to_dict() for name, r in self.results.items()}}

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the folder `out`: audit.json, audit.md, audit.html and PNG files. The key is not in it.

        Recovered pictures show the audited images. A person who may not see the images may not see the report.

        Args:
            out: The folder; folders above it are made.
            overwrite: Replace one that holds nothing but a report.

        Raises:
            TargetExistsError: `out` is there and `overwrite` is false; or it holds files that no report has.
            FileAccessError: It cannot be written.
        """
        folder = as_path(out, where="out")
        _make_parents(folder)
        with replacing_folder(folder, overwrite=overwrite, owned=_owned(self.results)) as temporary:
            report = self.to_dict()
            (temporary / "audit.json").write_text(json.dumps(report, indent=2) + "\n")
            pictures = {name: self._draw(result, temporary) for name, result in self.results.items()}
            for page in _PAGES:
                (temporary / page).write_text(render(page, report, pictures))

    def _draw(self, result: Result, folder: Path) -> list[Picture]:
        pictures = []
        if result.pictures:
            path = folder / f"{result.name}.png"
            draw_rows(result.pictures).save(path, format="PNG")
            pictures.append(Picture(path, f"rows of pictures: {'; '.join(result.pictures)}"))
        if len(result.curve) > 1:
            path = folder / f"{result.name}-curve.png"
            draw_curve(result, path, plain_accuracy=self.plain_accuracy)
            pictures.append(Picture(path, f"curve over {result.curve_label}"))
        return pictures


def refuse_target(out: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Find out before the attacks run whether `Report.save` can write `out`.

    Raises:
        TargetExistsError: As for `save`.
        FileAccessError: As for `save`.
    """
    folder = as_path(out, where="out")
    refuse_existing(folder, overwrite=overwrite)
    refuse_foreign(folder, _owned())
    _make_parents(folder)
    with scratch_folder(folder):
        pass


def _owned(own_attacks: Iterable[str] = ()) -> frozenset[str]:
    """Return the names of all files that a report may have; `own_attacks` are attacks that the package does not have."""
    pictures = (f"{name}{end}.png" for name in (*ATTACKS, *own_attacks) for end in ("", "-curve"))
    return frozenset(("audit.json", *_PAGES, *pictures))


def _make_parents(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(folder, "a folder to write", error) from error


def refuse_nothing_run(report: Report) -> None:
    """Refuse a report of which no attack was run: it says nothing.

    Raises:
        AuditError: So it is.
    """
    reasons = {name: result.reason for name, result in report.results.items()}
    if None not in reasons.values():
        got = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "none"
        raise AuditError("--only", "one attack that can be run", got[:500], "choose others, or give what they need")


def report_table(report: Report) -> str:
    """Return a report as lines of text."""
    plain = "unlabelled images" if report.plain_accuracy is None else f"plain accuracy {figure(report.plain_accuracy)}"
    model = f"{report.model}, " if report.model else ""
    lines = [
        f"{model}cipher {report.cipher}, blocks of {report.patch_size} px; {report.attacked_images} images met by "
        f"attackers, {report.test_images} measured on; {plain}; budget {report.budget}, seed {report.seed}",
    ]
    rows = [("attack", "verdict", "recovered", "PSNR", "seen", "accuracy", "seconds", "effort")]
    for name, result in report.results.items():
        shown = (
            figure(result.recovered),
            figure(result.psnr_db, "dB"),
            figure(result.seen_psnr_db, "dB"),
            figure(result.accuracy),
        )
        rows.append((name, result.verdict, *shown, f"{result.seconds:.1f}", result.effort))
    if report.block_words:
        lines.append(f"asked of the cipher: {report.block_words}")
    notes = [MORE_MAY_BREAK_IT] if any(result.verdict == HOLDS for result in report.results.values()) else []
    if report.block_fits is False:
        notes.append(summary(report.to_dict()))
    return "\n".join([*lines, *text_table(rows, left=2), *notes])


def above(report: Report, limits: Iterable[tuple[str, float]]) -> list[str]:
    """Return a line for each attack that recovered at least its limit.

    Args:
        report: What was found.
        limits: Names of attacks, each with a share from 0 to 1.

    Raises:
        AuditError: An attack was not run, so nothing is known about it.
    """
    lines = []
    for name, limit in limits:
        result = report.results[name]
        if result.recovered is None:
            raise AuditError(
                f"--fail-on {name}", "an attack that can be run", f"not run: {result.reason}", "give what it needs"
            )
        if result.recovered >= limit:
            lines.append(f"{name} recovered {figure(result.recovered)}, the limit is {figure(limit)}")
    return lines
