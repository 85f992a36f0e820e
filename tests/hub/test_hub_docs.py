"""docs/hub.md is run, block by block and in order, against a Hub."""

from __future__ import annotations

import documents
import processes
import pyrage
import pytest
from conftest import ROOT


@pytest.mark.nightly
@pytest.mark.parametrize("document", ["docs/hub.md"])
def test_the_page_on_the_hub(document, hub, owner, photos, tmp_path):
    for index, photo in enumerate(photos[:4]):
        for folder in ("photos", f"test-images/{index % 2}"):
            (owner.cwd / folder).mkdir(parents=True, exist_ok=True)
            photo.save(owner.cwd / folder / f"{index}.png")
    identity = pyrage.x25519.Identity.generate()
    (owner.cwd / "identity.txt").write_text(f"{identity}\n")
    blocks = documents.blocks(ROOT / document)
    assert {block.reason for block in blocks} == {"tests/hub runs it"}
    environment = owner.environment(PATH=processes.path_of_commands(tmp_path), RECIPIENT=str(identity.to_public()))
    program = f"import timm_encmixer\n{documents.program(blocks)}"
    result = processes.run(["-c", program], env=environment, cwd=owner.cwd, timeout=500)
    assert result.returncode == 0, result.stderr
    assert len(blocks) > 7
    assert set(hub.store.repos) == {"me/encmixer", "me/encmixer-directly", "me/encmixer-from-python", "me/sealed"}
    assert (owner.cwd / "opened" / "model.safetensors").read_bytes() == (
        owner.cwd / "from-hub" / "model.safetensors"
    ).read_bytes()
