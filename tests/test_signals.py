"""Ctrl-C and SIGTERM at any moment: exit code 130 or death by the signal, at most one line, nothing half-written."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import processes
import pytest

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER

SCRIPT = str(Path(__file__).with_name("interrupted.py"))
LINES = [
    f"encmixer: error: interrupted; {rest}\n"
    for rest in ("nothing half-written is left, run the command again", "run the command again: it removes what is unfinished")
]

TIDIED = re.compile(r"encmixer: warning: .*: removed \d+ unfinished outputs? of .* killed\n")  # what the run before had left


@pytest.fixture
def commands(tmp_path, key_file, key, photos):
    te.encrypt_checkpoint(BUNDLED_FOLDER, tmp_path / "model", key)
    (tmp_path / "photos").mkdir()
    for index, photo in enumerate(photos[:4]):
        photo.save(tmp_path / "photos" / f"{index}.png")
    how = ["--key", str(key_file), "--model", "model"]
    return {
        "model": ["model", "encrypt", str(BUNDLED_FOLDER), "out", "--key", str(key_file)],
        "images": ["images", "encrypt", "photos", "out", *how],
        "dataset": ["dataset", "encrypt", "photos", "out", *how],
    }


def interrupted(number, times, kind, at, words, folder):
    words = [SCRIPT, str(int(number)), str(times), kind, str(at), *words]
    return processes.run(words, env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=folder)


@pytest.mark.nightly(
    but=(
        "images-2-1",
        "dataset-15-2",
    )
)
@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
@pytest.mark.parametrize("name", ["model", "images", "dataset"])
def test_interrupted_at_imports_and_while_writing(name, number, times, commands, tmp_path):
    inputs = {path.name for path in tmp_path.iterdir()}
    amid = 40 if name == "images" else 400  # a client's command imports little
    for kind, at in (("import", 1), ("import", amid), ("write", 1), ("write", 2)):
        for done in (tmp_path / "out").glob("*.png") if name == "images" else ():
            done.unlink()  # images in hand when the signal comes are finished, and then the next run has nothing to write
        run = interrupted(number, times, kind, at, commands[name], tmp_path)
        assert run.returncode in (130, -number), (kind, at, run.stderr)
        said = "".join(line for line in run.stderr.splitlines(keepends=True) if not TIDIED.fullmatch(line))
        assert said in ("", *LINES), (kind, at)
        assert (said == "") == (run.returncode < 0)
        assert not run.stdout
    again = interrupted(number, 0, "write", 0, commands[name], tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path.name for path in tmp_path.iterdir()} == inputs | {"out"}
    assert not list((tmp_path / "out").glob(".encmixer-*"))


def test_a_question_without_an_answer(encmixer, tmp_path):
    """No terminal to ask on, as in a script."""
    result = encmixer("model", "seal", BUNDLED_FOLDER, "m.age", "--passphrase")
    assert result.returncode == 2
    assert result.stderr == (
        "encmixer: error: --passphrase: expected a terminal to ask on, got none; "
        "run it on a terminal, or set TIMM_ENCMIXER_PASSPHRASE\n"
    )
