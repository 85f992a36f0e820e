"""The report as pages for people, from the templates beside this file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from timm_encmixer.audit.attack import BROKEN, BROKEN_DB, BROKEN_SHARE, BROKEN_SSIM, HOLDS, NOT_RUN, PARTLY, PARTLY_SHARE

MORE_MAY_BREAK_IT = "Where the verdict is holds, more images, a longer search or another method may break it."


@dataclass(frozen=True)
class Picture:
    """A picture of an attack's section.

    Args:
        path: PNG file.
        words: What it shows, for those who cannot see it.
    """

    path: Path
    words: str

    @property
    def name(self) -> str:
        """File name, which a page beside it can link to."""
        return self.path.name

    @property
    def data_uri(self) -> str:
        """The picture itself as a URL, for a page that is one file."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


def render(template: str, report: Mapping[str, Any], pictures: Mapping[str, list[Picture]]) -> str:
    """Fill in a template.

    Args:
        template: "audit.md" or "audit.html".
        report: What `Report.to_dict` returns.
        pictures: By attack.
    """
    environment = Environment(
        loader=PackageLoader("timm_encmixer.audit"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"figure": figure, "cell": _cell}
    thresholds = {"broken": (BROKEN_SHARE, BROKEN_DB, BROKEN_SSIM), "partly": PARTLY_SHARE}
    words = {"summary": summary(report), "more": MORE_MAY_BREAK_IT, "holds": HOLDS}
    return environment.get_template(f"{template}.j2").render(report=report, pictures=pictures, thresholds=thresholds, **words)


def summary(report: Mapping[str, Any]) -> str:
    """Return what an audit found as one sentence: how many attacks break the cipher, and which ones got nothing.

    Args:
        report: What `Report.to_dict` returns.
    """
    names: dict[str, list[str]] = {verdict: [] for verdict in (BROKEN, PARTLY, HOLDS, NOT_RUN)}
    for name, attack in report["attacks"].items():
        names[attack["verdict"]].append(name)
    broken, partly, stopped, skipped = names.values()
    run = len(broken) + len(partly) + len(stopped)
    if not run:
        return "No attack could be run."
    of = f" of {run} attacks" if run > 1 else " attack"
    clauses = [f"{len(broken) or ('None' if run > 1 else 'No')}{of} {'break' if len(broken) > 1 else 'breaks'} it"]
    if partly:
        clauses.append(f"{len(partly)} {'breaks' if len(partly) == 1 else 'break'} it in part")
    if stopped:
        only = "only " if run > len(stopped) else ""
        clauses.append(f"{only}{_listed(stopped)} got nothing with this budget")
    if skipped:
        clauses.append(f"{len(skipped)} could not be run")
    said = f"{'; '.join(clauses)}."
    if report.get("block_fits") is False and not broken:
        return f"Nothing can be concluded from blocks of {report['patch_size']} px: {report['block_words']}. {said}"
    return said


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def figure(value: float | None, kind: str = "share") -> str:
    """Return a figure as text: a share in percent, "dB" or a plain "number"; a dash for None."""
    if value is None:
        return "-"
    return {"share": f"{value:.1%}", "dB": f"{value:.1f} dB", "number": f"{value:g}"}[kind]


def _cell(text: str) -> str:
    """Return text that may stand in a cell of a Markdown table, or anywhere else in it."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|" else character for character in text)
    return " ".join(escaped.split())
