"""README and docs are run: every ```python and ```bash block that is not marked `no-run`, document by document, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from conftest import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|bash)( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[tuple[str, str]]:
    return [(language, code) for language, skip, code in BLOCK.findall(document.read_text()) if not skip]


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(document, tmp_path, photos):
    """Each document's blocks share one folder, which holds a folder of photos; its Python blocks share one process."""
    (tmp_path / "photos").mkdir()
    for index, photo in enumerate(photos[:4]):
        photo.resize((50, 40)).save(tmp_path / "photos" / f"{index}.jpg")
    photos[0].save(tmp_path / "photo.jpg")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": processes.path_of_commands(tmp_path)}
    program = []
    for language, code in blocks(document):
        command = (
            code if language == "python" else f"import subprocess\nsubprocess.run(['bash', '-ec', {code!r}], check=True)\n"
        )
        program.append(command)
    result = processes.run(["-c", "\n".join(program)], env=environment, cwd=tmp_path, timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_installed_command_is_what_the_documents_ran():
    installed, module = [Path(sys.executable).parent / "encmixer"], [sys.executable, "-m", "timm_encmixer"]
    helps = [
        subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout.partition("\n")
        for words in (installed, module)
    ]
    assert helps[0][2] == helps[1][2]
    assert "dataset" in helps[0][2]


def test_the_readme_has_examples_in_both_languages():
    assert {language for language, _ in blocks(ROOT / "README.md")} == {"python", "bash"}


def test_the_readme_opens_with_the_two_commands_that_ci_runs():
    demo, tests = re.findall(r"^```bash no-run\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[:2]
    ci = (ROOT / ".ci" / "run").read_text()
    for line in (*demo.splitlines(), *tests.splitlines()):
        assert line in ci, line
    assert "encmixer demo" in demo
    assert "pytest" in tests


def test_links_between_documents_lead_somewhere():
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document}: {target}"
