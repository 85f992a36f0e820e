"""The matrices of docs/security.md, the tables of docs/measured.md and the attacks' table of docs/audit.md.

Needs the extra audit: pip install ".[audit]".

    python examples/security_figures.py                                # the bundled model under every cipher: minutes
    python examples/security_figures.py --tables                       # only write the tables and matrices again
    python examples/security_figures.py --settings frozen=runs/frozen  # a model of yours, as docs/security.md trains it
    python examples/security_figures.py --ciphers shuffle              # one cipher
    python examples/security_figures.py --only NAME                    # a new attack, on every cipher; with --settings on
                                                                       # these models too

Each audit is `encmixer audit` with its defaults and `--cipher` or `--model`. Its audit.json is kept in docs/figures. With
--only the results of these attacks are put into the reports that are there. An attack that a report does not have is shown as
"not measured".
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
FIGURES, DOCUMENT, PICTURES, ATTACKS_PAGE = DOCS / "figures", DOCS / "measured.md", DOCS / "pictures", DOCS / "audit.md"
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
NOT_MEASURED = "not measured"
COLOURS = {"broken": "#f4b8b2", "partly broken": "#fbe3ac", "holds": "#bfe3ba", "not run": "#ececec", NOT_MEASURED: "#fafafa"}
LARGE_BLOCKS = ("p8", "etc", "etc-scrambled")  # settings of 8 px, for which the package has no public statistics
WHAT_VARIES = ("attacks", "model", "controls")  # in reports of one setting: another machine may round otherwise
SAME_ACCURACY = 0.01  # within which a model is taken for the recorded one, whatever its folder is called
NAME_PX, CELL_PX, ROW_PX, HEAD_PX, LINE_CHARS = 230, 142, 28, 50, 17

Report = Mapping[str, Any]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="run no audit, write from those in docs/figures")
    parser.add_argument("--ciphers", nargs="+", choices=ONE_BLOCK, metavar="NAME", help="of the bundled model; default: all")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME=MODEL", help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--public-images", metavar="SRC", help="for settings of another side than 4 px, as for encmixer audit")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="run only these attacks, and keep what the reports have of others"
    )
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
        for name in attacks_of(reports):
            cells = [
                text(report["attacks"][name]) if name in report["attacks"] else NOT_MEASURED for report in reports.values()
            ]
            if not set(cells) <= {"-", NOT_MEASURED}:
                lines.append(f"| `{name}` | {' | '.join(cells)} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def attacks_of(reports: Mapping[str, Report]) -> list[str]:
    """The attacks that any of the reports has, in the order of `ATTACKS`."""
    measured = {name for report in reports.values() for name in report["attacks"]}
    return [name for name in te.audit.ATTACKS if name in measured]


def attacks_table() -> str:
    """Markdown: what each attack says of itself."""
    from timm_encmixer.audit.material import MATERIAL

    lines = ["| name | the attacker | holds | source |", "|---|---|---|---|"]
    for name, attack in te.audit.ATTACKS.items():
        holds = "; ".join(MATERIAL[thing].words for thing in attack.material)
        lines.append(f"| `{name}` | {attack.attacker} | {holds} | {attack.citation} |")
    return "\n".join(lines)


def with_attacks(document: str) -> str:
    """docs/audit.md with its table of attacks as the attacks have it."""
    return _between(document, "<!-- attacks -->\n", "<!-- end of attacks -->", attacks_table())


def merged(recorded: Report, new: Report, *, where: str) -> dict[str, Any]:
    """A report with the results of some attacks put in or replaced, in the order of `ATTACKS`.

    Both must be of one setting: the same model, cipher, budget, seed, images and public images.
    """
    near = {"plain_accuracy"} if abs(recorded["plain_accuracy"] - new["plain_accuracy"]) <= SAME_ACCURACY else set()
    differing = [name for name in recorded if name not in {*WHAT_VARIES, *near} and recorded[name] != new.get(name)]
    if differing:
        first = differing[0]
        raise SystemExit(
            f"{where}: its {first} is {recorded[first]!r}, and this audit's {new.get(first)!r}; run every attack again"
        )
    results = {**recorded["attacks"], **new["attacks"]}
    return {**recorded, "attacks": {name: results[name] for name in te.audit.ATTACKS if name in results}}


def _between(document: str, begin: str, end: str, content: str) -> str:
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the document has no {begin.strip()} with {end} behind it")
    return f"{before}{begin}\n{content}\n\n{end}{after}"


def matrix(reports: Mapping[str, Report], by: str) -> str:
    """SVG: a coloured cell for each verdict."""
    attacks = attacks_of(reports)
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
            result = report["attacks"].get(name, {"verdict": NOT_MEASURED, "needed": None})
            verdict, needed = result["verdict"], result["needed"]
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
        document = _between(document, begin, end, tables(load(names), by))
    return document


def matrices() -> dict[Path, str]:
    """The pictures of docs/security.md."""
    return {PICTURES / f"verdicts-{by}s.svg": matrix(load(names), by) for by, names in COLUMNS.items()}


def main() -> None:
    args = parse_args()
    if importlib.util.find_spec("foolbox") is None:
        raise SystemExit('This script needs the extra audit. In a checkout: pip install ".[audit]"')
    runs = dict(setting.split("=", 1) for setting in args.settings)
    audits: dict[str, dict[str, Any]] = {}
    if not args.tables and (args.only or args.ciphers or not runs):
        audits = {cipher: {"cipher": cipher} for cipher in args.ciphers or ONE_BLOCK}
    for name, model in runs.items():
        public = args.public_images if name in LARGE_BLOCKS else None
        audits[name] = {"model": model, "public_images": public, **({"cipher": CIPHERS[name]} if name in CIPHERS else {})}
    FIGURES.mkdir(exist_ok=True)
    for name, options in audits.items():
        path = FIGURES / f"{name}.json"
        report = te.audit.run(**options, attacks=args.only).to_dict()
        report["model"] = Path(report["model"]).name
        if args.only and path.is_file():
            report = merged(json.loads(path.read_text()), report, where=str(path))
        path.write_text(json.dumps(report, indent=2) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    ATTACKS_PAGE.write_text(with_attacks(ATTACKS_PAGE.read_text()))
    for path, picture in matrices().items():
        path.write_text(picture)


if __name__ == "__main__":
    main()
