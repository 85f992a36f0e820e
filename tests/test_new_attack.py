"""A new attack is one new file: its name, its place, the command line, the report and the tables follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import processes
import pytest
from conftest import ROOT
from package_copy import with_file

from timm_encmixer.audit.attacks import registry
from timm_encmixer.audit.names import ATTACK_NAMES
from timm_encmixer.errors import AuditError

FILE = "audit/attacks/as_it_is.py"
ATTACK = '''
from dataclasses import dataclass

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.recovery import RecoveredImages


@dataclass(frozen=True, kw_only=True)
class AsItIs(Attack):
    """Takes ciphertext for the image."""

    name = "as_it_is"
    place = 65
    recover_rank = 0
    attacker = "somebody who believes their eyes"
    material = ("ciphertexts",)
    citation = "a test"
    findings = {BROKEN: "Reads it.", PARTLY: "Sees it.", HOLDS: "Sees nothing."}
    advice = "Encrypt."

    def attack(self, held, effort):
        return RecoveredImages(lambda seen: seen)
'''
LOOK = """
import importlib.util, json, sys
import numpy as np
import timm_encmixer as te

spec = importlib.util.spec_from_file_location("security_figures", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
report = te.audit.run(attacks=["as_it_is"], progress=False).to_dict()
recorded = json.loads((script.FIGURES / "shuffle+negpos.json").read_text())
merged = script.merged(recorded, report, where="shuffle+negpos.json")
print(json.dumps({
    "package": te.__file__,
    "order": list(te.audit.ATTACKS),
    "verdict": report["attacks"]["as_it_is"]["verdict"],
    "recover": te.audit.recover(noise, te.Scheme(cipher="shuffle+negpos", patch_size=4)).attacks,
    "merged": list(merged["attacks"]),
    "tables": script.tables({**script.load(script.COLUMNS["cipher"]), "shuffle+negpos": merged}, "cipher"),
    "page": script.attacks_table(),
}))
"""


def test_a_file_is_all_that_a_new_attack_needs(tmp_path):
    env = with_file(tmp_path, FILE, ATTACK)
    look = processes.run(["-c", LOOK, str(ROOT / "examples" / "security_figures.py")], env=env, cwd=tmp_path)
    assert look.returncode == 0, look.stderr
    found = json.loads(look.stdout)
    assert Path(found["package"]).is_relative_to(tmp_path)
    assert found["order"][5:8] == ["finetuned_base_weights", "as_it_is", "known_plaintext"]
    assert sorted(found["order"]) == sorted([*ATTACK_NAMES, "as_it_is"])
    assert found["verdict"] in ("holds", "partly broken")
    assert found["recover"] == ["as_it_is"]  # its rank is the lowest
    assert "as_it_is" in found["merged"]
    assert found["merged"] == [name for name in found["order"] if name in found["merged"]]
    assert "| `as_it_is` | not measured | not measured | " + found["verdict"] + " | not measured |" in found["tables"]
    assert "| `as_it_is` | somebody who believes their eyes | ciphertext images | a test |" in found["page"]


def test_the_command_line_knows_a_new_attack_by_its_file_and_imports_none(tmp_path):
    env = with_file(tmp_path, FILE, "raise RuntimeError('nobody imports an attack for its name')")
    helped = processes.run(["-m", "timm_encmixer", "audit", "--help"], env=env, cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    assert "as_it_is" in helped.stdout
    refused = processes.run(["-m", "timm_encmixer", "audit", "--only", "as_it_iss"], env=env, cwd=tmp_path)
    assert refused.returncode == 2
    assert "did you mean as_it_is?" in refused.stderr


@pytest.mark.parametrize("body", ["", "name = 'another'"])
def test_a_file_without_the_attack_of_its_name_is_refused(tmp_path, monkeypatch, body):
    (tmp_path / "nothing_here.py").write_text(body)
    monkeypatch.setattr("timm_encmixer.audit.attacks.__path__", [str(tmp_path)])
    with pytest.raises(AuditError, match=r"nothing_here\.py: expected one subclass of Attack .*, got 0"):
        registry._attack_in("nothing_here")


def test_the_file_of_an_attack_has_its_name():
    assert set(ATTACK_NAMES) == {path.stem for path in Path(registry.__file__).parent.glob("[a-z]*.py")} - {"registry"}
    for name, attack in registry.ATTACKS.items():
        assert attack.name == name
        assert attack.__module__.endswith(f".{name}")
    places = [attack.place for attack in registry.ATTACKS.values()]
    assert places == sorted(set(places))
