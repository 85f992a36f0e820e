"""The figures of docs/security.md: run the audit for every cipher and setting, and write the tables into the document.

    python examples/security_figures.py                                # the bundled model under every cipher: minutes
    python examples/security_figures.py --tables                       # only write the tables again
    python examples/security_figures.py --settings frozen=runs/frozen  # a model of yours, as docs/security.md trained it

Each audit is `encmixer audit` with its defaults and `--cipher` or `--model`; its audit.json is kept in docs/figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm_encmixer as te

DOCS = Path(__file__).parent.parent / "docs"
FIGURES, DOCUMENT = DOCS / "figures", DOCS / "security.md"
SETTINGS = {  # columns of the second table: name in docs/figures and heading
    "shuffle+negpos": "bundled model",
    "private": "private weights",
    "p8": "private, blocks of 8 px",
    "frozen": "private, frozen stem",
    "scrambled": "private ViT, scrambled blocks",
}
CIPHERS = {"scrambled": "shuffle+negpos+scramble"}  # of settings, where it is not the default


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="run no audit")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME=MODEL", help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--public-images", metavar="SRC", help="for blocks of another side than 4 px, as for encmixer audit")
    return parser.parse_args()


def load(names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Reports by heading, of those names that there are."""
    paths = {heading: FIGURES / f"{name}.json" for name, heading in names.items()}
    return {heading: json.loads(path.read_text()) for heading, path in paths.items() if path.is_file()}


def table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, attackers by columns: verdict, then what is recovered, PSNR and accuracy."""
    rows = [f"| attack | {' | '.join(reports)} |", f"|{'---|' * (len(reports) + 1)}"]
    plain = [cell(report["plain_accuracy"]) for report in reports.values()]
    rows.append(f"| *plain model: accuracy* | {' | '.join(plain)} |")
    for name in next(iter(reports.values()))["attacks"]:
        cells = [result_cell(report["attacks"][name]) for report in reports.values()]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def result_cell(result: Mapping[str, Any]) -> str:
    if result["recovered"] is None:
        return "not run"
    figures = [cell(result["recovered"])]
    if result["psnr_db"] is not None:
        figures.append(f"{result['psnr_db']:.1f} dB")
    if result["accuracy"] is not None:
        figures.append(cell(result["accuracy"]))
    needed = "" if result["needed"] is None else f"; from {result['needed']:g}"
    return f"**{result['verdict']}** {', '.join(figures)}{needed}"


def cell(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def with_tables(document: str) -> str:
    """The document with its tables as the reports in docs/figures have them."""
    for mark, names in (("ciphers", {cipher: f"`{cipher}`" for cipher in te.CIPHERS}), ("settings", SETTINGS)):
        begin, end = f"<!-- figures: {mark} -->\n", "<!-- end of figures -->"
        before, _, rest = document.partition(begin)
        _, _, after = rest.partition(end)
        document = f"{before}{begin}\n{table(load(names))}\n\n{end}{after}"
    return document


def main() -> None:
    args = parse_args()
    runs = dict(setting.split("=", 1) for setting in args.settings)
    audits: dict[str, dict[str, Any]] = {
        name: {"model": model, "public_images": args.public_images, **({"cipher": CIPHERS[name]} if name in CIPHERS else {})}
        for name, model in runs.items()
    }
    if not audits and not args.tables:
        audits = {cipher: {"cipher": cipher} for cipher in te.CIPHERS}
    FIGURES.mkdir(exist_ok=True)
    for name, options in audits.items():
        report = te.audit.run(**options).to_dict()
        report["model"] = Path(report["model"]).name
        (FIGURES / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
