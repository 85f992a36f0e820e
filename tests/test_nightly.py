"""tests/nightly.py: which tests a run leaves out, in real runs of pytest on tests of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nightly
import pytest

TESTS = """
import pytest

@pytest.mark.nightly
@pytest.mark.parametrize("number", range(20))
def test_long(number):
    pass

def test_short():
    pass

@pytest.mark.nightly(but=("a",))
@pytest.mark.parametrize("letter", ["a", "b"])
def test_letter(letter):
    pass

@pytest.mark.nightly(only=("b",))
@pytest.mark.parametrize("letter", ["a", "b"])
def test_other_letter(letter):
    pass
"""


@pytest.fixture
def collected(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = nightly\n")

    def collect(*words: str) -> set[str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "xdist.plugin",
            "-p",
            "nightly",
            "-p",
            "no:cacheprovider",
            "-v",
            *words,
        ]
        alone = {"PYTHONPATH": str(Path(nightly.__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=alone)
        assert run.returncode == 0, run.stdout + run.stderr
        collect.said = run.stdout
        passed = [line for line in run.stdout.splitlines() if "PASSED" in line]
        return {found[1] for line in passed if (found := re.search(r"::(test_\S+)", line))}

    return collect


def test_nightly_tests_are_left_out_unless_they_are_asked_for(collected):
    long, short = {f"test_long[{number}]" for number in range(20)}, {"test_short", "test_letter[a]", "test_other_letter[a]"}
    assert collected() == short
    also = {"test_letter[b]", "test_other_letter[b]"}
    assert collected("-m", "nightly") == {*long, *also}
    assert collected("-m", "not nightly") == short
    assert collected("test_it.py::test_long") == long
    assert collected("--nightly-share", "1") == {*long, *short, *also}


def test_a_share_is_printed_with_its_seed_and_comes_again(collected):
    first = collected("--nightly-share", "0.1", "-n", "2")  # workers agree
    assert len(first) == 6  # three of 22, and the three short ones
    line = next(line for line in collected.said.splitlines() if "--nightly-seed" in line)
    words = line.partition("pytest ")[2].split()
    assert collected(*words) == first


def test_shares_of_other_seeds_differ_and_are_rounded_up():
    names = [f"test[{number}]" for number in range(45)]
    assert len(nightly.share_of(names, 0.1, 0)) == 5
    assert len({frozenset(nightly.share_of(names, 0.1, seed)) for seed in range(20)}) == 20
    assert nightly.share_of(names[::-1], 0.1, 3) == nightly.share_of(names, 0.1, 3)
    assert nightly.share_of([], 0.1, 0) == set()
