"""The figures of docs/measured.md are those of audits that are kept beside it, and an audit gives them again."""

from __future__ import annotations

import importlib.util
import json

import pytest
from conftest import ROOT

from timm_encmixer.audit import ATTACKS, run

SECURITY, MEASURED, AUDIT = (ROOT / "docs" / f"{name}.md" for name in ("security", "measured", "audit"))
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
        assert [name for name in ATTACKS if name in report["attacks"]] == list(report["attacks"]), path
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


def test_the_table_of_attacks_is_what_they_say_of_themselves(script):
    document = AUDIT.read_text()
    assert script.with_attacks(document) == document
    changed = document.replace(ATTACKS["jigsaw"].attacker, "nobody")
    assert changed != document
    assert script.with_attacks(changed) == document
    with pytest.raises(SystemExit, match="attacks"):
        script.with_attacks("a page without the marks")


def test_an_attack_that_a_report_does_not_have_is_shown_as_not_measured(script):
    reports = script.load(script.COLUMNS["cipher"])
    for heading in list(reports)[1:]:
        del reports[heading]["attacks"]["key_reuse"]
    assert f"| `key_reuse` | broken |{' not measured |' * (len(reports) - 1)}" in script.tables(reports, "cipher")
    assert script.matrix(reports, "cipher").count(">not measured<") == len(reports) - 1
    assert "Least amount" in script.tables(reports, "cipher").partition("`key_reuse`")[2]  # the other tables are all there


def test_what_one_attack_got_is_put_into_a_recorded_report(script):
    recorded = json.loads((script.FIGURES / "negpos.json").read_text())
    first, *others = recorded["attacks"]
    without = {**recorded, "attacks": {name: recorded["attacks"][name] for name in others}}
    near = recorded["plain_accuracy"] + 0.002
    alone = {**recorded, "model": "runs/x", "plain_accuracy": near, "attacks": {first: recorded["attacks"][first]}}
    again = script.merged(without, alone, where="negpos.json")
    assert again == recorded
    assert list(again["attacks"]) == list(recorded["attacks"])
    with pytest.raises(SystemExit, match=r"negpos\.json: its seed is 0, and this audit's 1"):
        script.merged(without, {**alone, "seed": 1}, where="negpos.json")
    with pytest.raises(SystemExit, match=r"its plain_accuracy is .*, and this audit's 0\.5; run every attack again"):
        script.merged(without, {**alone, "plain_accuracy": 0.5}, where="negpos.json")  # of another model


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
