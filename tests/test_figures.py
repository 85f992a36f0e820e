"""The figures of docs/measured.md are those of audits that are kept beside it, and an audit gives them again."""

from __future__ import annotations

import importlib.util
import json

import pytest
from conftest import ROOT

from timm_encmixer.audit import ATTACKS, run

SECURITY, MEASURED = ROOT / "docs" / "security.md", ROOT / "docs" / "measured.md"
CHEAP = [
    "ciphertext_only_orthogonal",
    "known_plaintext",
    "chosen_plaintext",
    "key_reuse",
    "server_view",
    "thumbnail",
    "random_key",
]
CLOSE = {"recovered": 0.01, "ssim": 0.01, "accuracy": 0.01, "psnr_db": 0.2}  # another machine may round otherwise


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("security_figures", ROOT / "examples" / "security_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_reports(script):
    document = MEASURED.read_text()
    assert script.with_tables(document) == document
    for path in script.FIGURES.glob("*.json"):
        report = json.loads(path.read_text())
        assert list(report["attacks"]) == list(ATTACKS), path
        assert (report["budget"], report["seed"]) == ("quick", 0)
    changed = document.replace("| broken |", "| holds |", 1).replace("100.0%", "0.0%", 1)
    assert changed != document
    assert script.with_tables(changed) == document


def test_the_matrices_are_those_of_the_reports(script):
    for path, picture in script.matrices().items():
        assert path.read_text() == picture
        assert f"pictures/{path.name}" in SECURITY.read_text()
        verdicts = [
            a["verdict"] for report in script.load(script.COLUMNS[path.stem[9:-1]]).values() for a in report["attacks"].values()
        ]
        assert [picture.count(f'"{colour}"') for colour in script.COLOURS.values()] == [
            verdicts.count(verdict) for verdict in script.COLOURS
        ]


def points_of(curve, needed):
    """Where a curve shows what the table does: at the least amount that broke the cipher, at the one below, and at its end."""
    if curve is None:
        return None
    below = [point for point in curve.quick if needed is not None and point < needed][-1:]
    return tuple(dict.fromkeys([*below, *([needed] if needed else []), curve.quick[-1]]))


@pytest.mark.nightly
def test_an_audit_gives_these_figures_again():
    written = json.loads((ROOT / "docs" / "figures" / "shuffle+negpos.json").read_text())
    attacks = [ATTACKS[name](points=points_of(ATTACKS[name].curve, written["attacks"][name]["needed"])) for name in CHEAP]
    report = run(attacks=attacks, progress=False).to_dict()
    assert {name: value for name, value in report.items() if name != "attacks"} == {
        name: value for name, value in written.items() if name != "attacks"
    }
    for name in CHEAP:
        again, before = report["attacks"][name], written["attacks"][name]
        assert (again["verdict"], again["needed"]) == (before["verdict"], before["needed"])
        for figure, tolerance in CLOSE.items():
            assert again[figure] == pytest.approx(before[figure], abs=tolerance), f"{name}: {figure}"
