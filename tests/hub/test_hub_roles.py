"""The whole story: an owner publishes, a server without this package runs the model, a client encrypts for it."""

from __future__ import annotations

import copy
import json

import numpy as np
import processes
import pytest
import timm
import torch
from conftest import ROOT, assert_no_secret, calibrate, normalised
from huggingface_hub import ModelCard
from loopback import client_of, contents

STOCK = "convmixer_768_32.in1k"


@pytest.fixture(scope="module")
def published_plain(tmp_path_factory, photos):
    """A calibrated random ConvMixer-768/32 and its folder, laid out as timm's own repository."""
    torch.manual_seed(0)
    batch = torch.stack([torch.from_numpy(np.array(photo.resize((224, 224)))).permute(2, 0, 1) for photo in photos[:2]])
    plain = timm.create_model(STOCK, pretrained=False)
    calibrate(plain, normalised(batch, plain.pretrained_cfg))
    folder = tmp_path_factory.mktemp("timm") / "convmixer"
    timm.models.save_for_hf(plain, folder, safe_serialization="both")
    (folder / "README.md").write_text("---\nlicense: mit\nlibrary_name: timm\n---\n# convmixer\n")
    return plain, folder


def run_example(client, name: str, *arguments: object, without_plugin: bool = False) -> str:
    path = ROOT / "examples" / name
    block = "sys.modules['timm_encmixer'] = None" if without_plugin else "pass"
    run = f"sys.argv = {[str(path), *map(str, arguments)]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import runpy, sys; {block}; {run}"
    result = processes.run(["-c", code], env=client.environment(), cwd=client.cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_owner_server_and_client(hub, owner, published_plain, key, key_file, photos, tmp_path):
    plain, folder = published_plain
    hub.store.repo(f"timm/{STOCK}", contents(folder))
    run_example(owner, "publish.py", "encmixer_768_32.in1k", "me/encmixer", "--key", key_file)
    repo = hub.store.repos["me/encmixer"]
    assert repo.private
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]
    card = ModelCard(repo.head.files["README.md"].content.decode())
    assert (card.data.license, card.data.base_model) == ("mit", f"timm/{STOCK}")
    assert f"**The plain weights are public** (timm/{STOCK})" in card.text
    assert "Stock timm loads it" in card.text
    assert json.loads(repo.head.files["config.json"].content)["architecture"] == "convmixer_768_32"

    client = client_of(hub, tmp_path, "me", "read")
    (client.cwd / "photos").mkdir()
    for index, photo in enumerate(photos[:2]):
        photo.resize((224, 224)).save(client.cwd / "photos" / f"{index}.png")
    run_example(client, "client.py", "me/encmixer", "photos", "ciphertext", "--key", key_file)
    assert not list(client.cache.rglob("model.safetensors"))

    (tmp_path / "server").mkdir()
    server = client_of(hub, tmp_path / "server", "me", "read")
    lines = run_example(server, "server_stock_timm.py", "hf-hub:me/encmixer", client.cwd / "ciphertext", without_plugin=True)
    got = torch.tensor([json.loads(line)["logits"] for line in lines.splitlines()], dtype=torch.float64)
    assert_no_secret(
        key, server.home, client.home, client.cwd, owner.home, *(file.content for file in repo.head.files.values())
    )

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(plain))
    batch = torch.stack([transform(photo.resize((224, 224))) for photo in photos[:2]])
    with torch.inference_mode():
        single = plain(batch).double()
        truth = copy.deepcopy(plain).double()(batch.double())
    floor = (single - truth).abs().max()
    assert got.shape == (2, 1000)
    assert truth.std(dim=0).mean() > 1e-3  # the model does look at its input
    assert (got - truth).abs().max() <= 4 * floor
    assert torch.equal(got.argmax(1), truth.argmax(1))

    # what is fetched for encmixer_*.in1k is verified too
    weights = owner.cache / f"models--timm--{STOCK}" / "snapshots"
    (cached,) = weights.glob("*/model.safetensors")
    assert (cached.parent / "config.json").exists()


@pytest.mark.nightly
def test_a_rotten_base_model_is_not_encrypted(hub, owner, published_plain, encrypted, key_file):
    from faults import Fault

    _, folder = published_plain
    hub.store.repo(f"timm/{STOCK}", contents(folder))
    hub.store.repo("me/small", contents(encrypted))
    hub.faults.table.append(Fault("GET .*model.safetensors", "flip", times=None))
    code = f"""
import timm, timm_encmixer as te
from timm_encmixer.checkpoints import load_model
sourced = dict(hf_hub_id="me/small", source="hf-hub")  # timm then takes it before any file
overlays = [dict(hf_hub_id="me/small", file=""), sourced, dict(sourced, file="elsewhere.safetensors")]
custom = dict(model_name="encmixer_custom")
models = [dict(model_name="encmixer_768_32.in1k"), dict(custom, base="{STOCK}"), dict(custom, base="hf-hub:timm/{STOCK}"),
          *[dict(model_name="encmixer_256_8_ks5_p4", pretrained_cfg_overlay=overlay) for overlay in overlays],
          dict(custom, base="convmixer_768_32", pretrained_cfg_overlay=sourced)]
calls = [lambda arguments=arguments: timm.create_model(pretrained=True, key="{key_file}", **arguments) for arguments in models]
for source in ("hf-hub:me/small", "hf_hub:me/small", "HF-HUB:me/small", "Hf_Hub:me/small"):  # timm takes all of them
    calls += [lambda source=source: timm.create_model("encmixer_custom", base=source, pretrained=True),
              lambda source=source: load_model(source),
              lambda source=source: te.rotate_checkpoint(source, "x", "{key_file}", "k"),
              lambda source=source: te.decrypt_checkpoint(source, "x", "{key_file}")]
te.SecretKey.generate().save("k")
for call in calls:
    try:
        call()
        print("accepted")
    except te.EncMixerError as error:
        print(type(error).__name__)
"""
    assert owner.python(code).split() == ["IntegrityError"] * 23


def test_a_sealed_model_is_published_and_opened(hub, owner, encrypted, tmp_path):
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    (owner.cwd / "identity.txt").write_text(f"{identity}\n")
    hub.store.repo("me/m", contents(encrypted), private=True)
    owner.run("model", "push", encrypted, "me/m", "--seal-to", identity.to_public(), check=True)
    files = hub.store.repos["me/m"].head.files
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.age"}  # the open weights are gone
    assert files["model.age"].content.startswith(b"age-encryption.org/v1")
    assert b"encmixer-sketch" not in files["config.json"].content  # which would say something of the sealed weights
    card = files["README.md"].content.decode()
    assert "encmixer model open hf-hub:me/m opened --identity" in card
    assert "age -d -i identity.txt model.age | tar x" in card
    refused = owner.run("model", "pull", "me/m", "got")
    assert "got a sealed model; open it: encmixer model open hf-hub:me/m" in refused.stderr
    owner.run("model", "open", "hf-hub:me/m", "opened", "--identity", "identity.txt", check=True)
    assert contents(owner.cwd / "opened") == contents(encrypted)
    info = json.loads(owner.run("model", "info", "hf-hub:me/m", "--json", check=True).stdout)
    assert info["sealed"] is True
    assert info["encrypted"] is True


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["1024_20_ks9_p14", "1536_20"])
def test_the_other_public_names_load_and_encrypt_what_their_repositories_hold(name, hub, owner, key_file, tmp_path):
    """Random weights in the layout of timm's repositories; pickles lie there too and are not asked for."""
    torch.manual_seed(0)
    plain = timm.create_model(f"convmixer_{name}")
    timm.models.save_for_hf(plain, tmp_path / "repo", safe_serialization=True)
    hub.store.repo(f"timm/convmixer_{name}.in1k", {**contents(tmp_path / "repo"), "pytorch_model.bin": b"a pickle"})
    code = f"""
import timm, torch, warnings
import timm_encmixer as te
warnings.simplefilter("ignore")
key = te.SecretKey.load("{key_file}")
model = timm.create_model("encmixer_{name}.in1k", pretrained=True, key=key)
back = te.decrypt_model(model, key).state_dict()
torch.manual_seed(0)
for tensor, (other, want) in zip(back.values(), timm.create_model("convmixer_{name}").state_dict().items(), strict=True):
    assert torch.allclose(tensor, want, atol=1e-6), other
print(model.encmixer.base_architecture, model.pretrained_cfg["notes"][-1])
"""
    architecture, note = owner.python(code).split(" ", 1)
    assert architecture == f"convmixer_{name}"
    assert f"timm/convmixer_{name}.in1k" in note
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]
