"""docs/hub.md is run, block by block and in order, against a Hub."""

from __future__ import annotations

import re

import processes
import pyrage
import pytest
from conftest import ROOT

BLOCK = re.compile(r"^```(python|bash) no-run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", ["docs/hub.md"])
def test_the_page_on_the_hub(document, hub, owner, photos, tmp_path):
    for index, photo in enumerate(photos[:4]):
        for folder in ("photos", f"test-images/{index % 2}"):
            (owner.cwd / folder).mkdir(parents=True, exist_ok=True)
            photo.save(owner.cwd / folder / f"{index}.png")
    identity = pyrage.x25519.Identity.generate()
    (owner.cwd / "identity.txt").write_text(f"{identity}\n")
    program = ["import timm_encmixer"]
    for language, code in BLOCK.findall((ROOT / document).read_text()):
        program.append(
            code if language == "python" else f"import subprocess\nsubprocess.run(['bash', '-ec', {code!r}], check=True)"
        )
    environment = owner.environment(PATH=processes.path_of_commands(tmp_path), RECIPIENT=str(identity.to_public()))
    result = processes.run(["-c", "\n".join(program)], env=environment, cwd=owner.cwd, timeout=500)
    assert result.returncode == 0, result.stderr
    assert len(program) > 8
    assert set(hub.store.repos) == {"me/encmixer", "me/encmixer-directly", "me/encmixer-from-python", "me/sealed"}
    assert (owner.cwd / "opened" / "model.safetensors").read_bytes() == (
        owner.cwd / "from-hub" / "model.safetensors"
    ).read_bytes()
