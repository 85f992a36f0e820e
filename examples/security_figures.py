"""The matrices of docs/security.md and the tables of docs/measured.md: run the audit for every cipher and setting.

Needs the extra audit: pip install ".[audit]".

    python examples/security_figures.py                                # the bundled model under every cipher: minutes
    python examples/security_figures.py --tables                       # only write the tables and matrices again
    python examples/security_figures.py --settings frozen=runs/frozen  # a model of yours, as docs/security.md trains it

Each audit is `encmixer audit` with its defaults and `--cipher` or `--model`. Its audit.json is kept in docs/figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import timm_encmixer as te
from timm_encmixer.scheme import facts_of

DOCS = Path(__file__).parent.parent / "docs"
FIGURES, DOCUMENT, PICTURES = DOCS / "figures", DOCS / "measured.md", DOCS / "pictures"
SETTINGS = {  # columns by setting: name in docs/figures and heading
    "shuffle+negpos": "bundled model",
    "private": "private weights",
    "p8": "private, blocks of 8 px",
    "frozen": "private, frozen stem",
    "scrambled": "private ViT, scrambled blocks",
    "etc": "private, etc, blocks of 8 px",
    "etc-scrambled": "private ViT, scrambled etc, blocks of 8 px",
}
CIPHERS = {
    "scrambled": "shuffle+negpos+scramble",
    "etc": "etc",
    "etc-scrambled": "etc+scramble",
}  # of settings, where it is not the default
ONE_BLOCK = [name for name in te.BLOCK_CIPHERS if facts_of(name).fits(4)]  # of the bundled model's blocks of 4 px
COLUMNS = {"cipher": {cipher: cipher for cipher in ONE_BLOCK}, "setting": SETTINGS}
COLOURS = {"broken": "#f4b8b2", "partly broken": "#fbe3ac", "holds": "#bfe3ba", "not run": "#ececec"}
NAME_PX, CELL_PX, ROW_PX, HEAD_PX, LINE_CHARS = 230, 142, 28, 50, 17

Report = Mapping[str, Any]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="run no audit, write from those in docs/figures")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME=MODEL", help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--public-images", metavar="SRC", help="for blocks of another side than 4 px, as for encmixer audit")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these attacks, and keep the figures of the others")
    return parser.parse_args()


def load(names: Mapping[str, str]) -> dict[str, Report]:
    """Reports by heading, of those names that there are."""
    paths = {heading: FIGURES / f"{name}.json" for name, heading in names.items()}
    return {heading: json.loads(path.read_text()) for heading, path in paths.items() if path.is_file()}


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}".removesuffix(".0")


def tables(reports: Mapping[str, Report], by: str) -> str:
    """Markdown: a table for each figure, attacks by columns, one figure in a cell."""
    from timm_encmixer.audit.page import summary  # here, so that --help needs no extra

    figures: dict[str, Callable[[Report], str]] = {
        "Verdict": lambda result: str(result["verdict"]),
        "Share recovered": lambda result: share(result["recovered"]),
        "PSNR in dB": lambda result: number(result["psnr_db"]),
        "PSNR in dB as seen": lambda result: number(result["seen_psnr_db"]),
        "SSIM as seen": lambda result: "-" if result["seen_ssim"] is None else f"{result['seen_ssim']:.2f}",
        "Accuracy": lambda result: share(result["accuracy"]),
        "Least amount that breaks": lambda result: number(result["needed"]),
    }
    sentences = "\n".join(f"- **{heading}**: {summary(report)}" for heading, report in reports.items())
    sections = [f"### Summary by {by}\n\n{sentences}"]
    for figure, text in figures.items():
        lines = [f"### {figure} by {by}", "", f"| attack | {' | '.join(reports)} |", f"|{'---|' * (len(reports) + 1)}"]
        if figure == "Accuracy":
            plain = [share(report["plain_accuracy"]) for report in reports.values()]
            lines.append(f"| *plain model, no attack* | {' | '.join(plain)} |")
        for name in next(iter(reports.values()))["attacks"]:
            cells = [text(report["attacks"][name]) for report in reports.values()]
            if set(cells) != {"-"}:
                lines.append(f"| `{name}` | {' | '.join(cells)} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def matrix(reports: Mapping[str, Report], by: str) -> str:
    """SVG: a coloured cell for each verdict."""
    attacks = list(next(iter(reports.values()))["attacks"])
    width, height = NAME_PX + CELL_PX * len(reports), HEAD_PX + ROW_PX * len(attacks) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14" role="img">',
        f"<title>Verdicts of attacks by {by}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for column, heading in enumerate(reports):
        lines = textwrap.wrap(heading, LINE_CHARS)
        for line, words in enumerate(lines):
            top = HEAD_PX // 2 + 5 + 17 * line - 17 * (len(lines) - 1) // 2
            parts.append(_text(NAME_PX + CELL_PX * column + CELL_PX // 2, top, words, "middle", bold=True))
    for row, name in enumerate(attacks):
        top = HEAD_PX + ROW_PX * row
        parts.append(_text(8, top + 18, name, "start"))
        for column, report in enumerate(reports.values()):
            verdict, needed = report["attacks"][name]["verdict"], report["attacks"][name]["needed"]
            left = NAME_PX + CELL_PX * column
            box = f'x="{left}" y="{top}" width="{CELL_PX - 3}" height="{ROW_PX - 3}" rx="3"'
            parts.append(f'<rect {box} fill="{COLOURS[verdict]}"/>')
            words = verdict if needed is None else f"{verdict}, from {number(needed)}"
            parts.append(_text(left + CELL_PX // 2, top + 18, words, "middle"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: int, y: int, words: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="#111"{weight}>{escape(words)}</text>'


def with_tables(document: str) -> str:
    """docs/measured.md with its tables as the reports in docs/figures have them."""
    for by, names in COLUMNS.items():
        begin, end = f"<!-- figures by {by} -->\n", "<!-- end of figures -->"
        before, _, rest = document.partition(begin)
        _, _, after = rest.partition(end)
        document = f"{before}{begin}\n{tables(load(names), by)}\n\n{end}{after}"
    return document


def matrices() -> dict[Path, str]:
    """The pictures of docs/security.md."""
    return {PICTURES / f"verdicts-{by}s.svg": matrix(load(names), by) for by, names in COLUMNS.items()}


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("foolbox") is None:
        raise SystemExit('This script needs the extra audit. In a checkout: pip install ".[audit]"')
    runs = dict(setting.split("=", 1) for setting in args.settings)
    audits: dict[str, dict[str, Any]] = {
        name: {"model": model, "public_images": args.public_images, **({"cipher": CIPHERS[name]} if name in CIPHERS else {})}
        for name, model in runs.items()
    }
    if not audits and not args.tables:
        audits = {cipher: {"cipher": cipher} for cipher in ONE_BLOCK}
    FIGURES.mkdir(exist_ok=True)
    for name, options in audits.items():
        path = FIGURES / f"{name}.json"
        report = te.audit.run(**options, attacks=args.only).to_dict()
        report["model"] = Path(report["model"]).name
        if args.only:
            report["attacks"] = {**json.loads(path.read_text())["attacks"], **report["attacks"]}
        path.write_text(json.dumps(report, indent=2) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    for path, picture in matrices().items():
        path.write_text(picture)


if __name__ == "__main__":
    main()
