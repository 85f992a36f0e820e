"""What is sent: three files, nothing secret, nothing plain, and a card that says what is true."""

from __future__ import annotations

import base64
import json
import re

import pytest
import timm
from conftest import assert_no_secret
from huggingface_hub import EvalResult, ModelCard
from loopback import client_of, contents
from safetensors.torch import load
from store import MAIN, File, Store
from test_hub_faults import assert_one_line

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER
from timm_encmixer.errors import LeakError
from timm_encmixer.hub.leak_guard import LeakGuard, key_forms

NAME = "encmixer_256_8_ks5_p4.cifar10"


def everything(store: Store) -> bytes:
    """All bytes that ever reached the Hub."""
    commits = [commit for repo in store.repos.values() for commit in repo.commits.values()]
    files = [file.content for commit in commits for file in commit.files.values()]
    titles = [commit.title.encode() for commit in commits]
    return b"\n".join([*files, *titles, *store.uploads.values()])


def test_a_plain_source_is_encrypted_on_the_way_and_the_key_stays_here(hub, owner, key, key_file):
    owner.run("model", "push", NAME, "me/m", "--key", key_file, "--license", "mit", check=True)
    repo = hub.store.repos["me/m"]
    assert set(repo.head.files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert_no_secret(key, everything(hub.store), *(exchange.request for exchange in hub.faults.log))
    assert (BUNDLED_FOLDER / "model.safetensors").read_bytes() not in hub.store.uploads.values()
    config = json.loads(repo.head.files["config.json"].content)
    assert config["architecture"] == "convmixer_256_8_ks5_p4"
    assert config["encmixer"]["fingerprint"] == key.fingerprint
    header = repo.head.files["model.safetensors"].content[:65536].replace(b"\\", b"")
    assert json.dumps(config["encmixer"], separators=(",", ":")).encode() in header


ASKING = """
from dataclasses import replace
from pathlib import Path
from timm_encmixer.checkpoints.sources import find_source
from timm_encmixer.publishing.options import PushOptions
from timm_encmixer.publishing.statements import ask_first

def ask(question):
    print(question)
    return "mit" if "Licence" in question else None

print(ask_first(find_source({folder!r}), "me/m", PushOptions(ask=ask)))
"""


def test_what_the_card_would_not_know_is_asked_first(hub, owner, encrypted):
    """Of weights of one's own: what is asked, that Enter is enough, and nothing that is known already."""
    config = json.loads((encrypted / "config.json").read_text())
    config["pretrained_cfg"] |= {"license": None, "notes": [n for n in config["pretrained_cfg"]["notes"] if "source" not in n]}
    (encrypted / "config.json").write_text(json.dumps(config))
    code = ASKING.format(folder=str(encrypted))
    base, licence, options = owner.python(code).splitlines()
    assert base == "Hub id of the plain model that me/m was made from, for its card (Enter: there is none)"
    assert licence == "Licence for the card, as the Hub writes it: mit, apache-2.0, other, ... (Enter: it states none)"
    assert "license='mit', base_model='none'" in options
    assert "ask=None" in options
    hub.store.repo("me/m", {"README.md": b"---\nlicense: apache-2.0\n---\n"})
    assert owner.python(code).splitlines()[:-1] == [base]


def test_nothing_but_three_files_is_picked_up(hub, owner, encrypted, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in {**contents(encrypted), "owner.key": b"x", "notes.txt": b"y", "pytorch_model.bin": b"z"}.items():
        (folder / name).write_bytes(content)
    owner.run("model", "push", folder, "me/m", "--private", check=True)
    assert set(hub.store.repos["me/m"].head.files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}


def test_the_python_interface_takes_a_model(hub, owner, encrypted, key, key_file):
    code = f"""
import timm, warnings
import timm_encmixer as te
from huggingface_hub import EvalResult
warnings.simplefilter("ignore")
model = timm.create_model("{NAME}", pretrained=True, key="{key_file}")
result = EvalResult(task_type="image-classification", dataset_type="cifar10", dataset_name="CIFAR-10",
                    metric_type="accuracy", metric_value=86.8)
commit = te.push_to_hub(model, "me/m", eval_results=[result], private=False, base_model="someone/base", license="mit")
print(type(commit).__name__, commit.oid, commit.repo_url.repo_id)
pr = te.push_to_hub(te.rotate_model(model, te.SecretKey.load("{key_file}"), te.SecretKey(bytes(32))), "me/m",
                    private=False, create_pr=True, revision="main", commit_message="again")
print(pr.pr_num, pr.pr_revision)
folder = te.pull_from_hub("me/m", revision=pr.pr_revision)
rotated = timm.create_model(f"local-dir:{{folder}}", pretrained=True)
assert te.scheme_of(rotated).fingerprint == te.SecretKey(bytes(32)).fingerprint
client = te.create_transform("hf-hub:me/m", key="{key_file}")
print(client.cipher.scheme.fingerprint)
for wrong in (lambda: te.create_transform("hf-hub:me/m", key=te.SecretKey(bytes(32))),
              lambda: te.push_to_hub(te.decrypt_model(model, te.SecretKey.load("{key_file}")), "me/x")):
    try:
        wrong()
    except ValueError as error:
        print(type(error).__name__)
"""
    hub.store.repo("someone/base", {"README.md": b"---\nlicense: bsd-3-clause\n---\n"})
    lines = owner.python(code).splitlines()
    repo = hub.store.repos["me/m"]
    assert lines[0] == f"CommitInfo {repo.head.oid} me/m"
    assert lines[1] == "1 refs/pr/1"
    assert lines[2:] == [key.fingerprint, "KeyMismatchError", "NotEncryptedError"]
    assert not repo.private
    card = ModelCard(repo.head.files["README.md"].content.decode())
    assert card.data.base_model == "someone/base"
    assert card.data.eval_results[0].metric_value == 86.8


# -- the card


def card_of(hub, repo_id: str = "me/m") -> ModelCard:
    return ModelCard(hub.store.repos[repo_id].head.files["README.md"].content.decode())


def test_the_card(hub, owner, encrypted, key_file, photos):
    for index, photo in enumerate(photos[:6]):
        folder = owner.cwd / "data" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        photo.save(folder / f"{index}.png")
    evaluated = owner.run(
        "eval", "--model", encrypted, "--key", key_file, "--data", "data", "--wrong-keys", 2, "--json", check=True
    )
    (owner.cwd / "eval.json").write_text(evaluated.stdout)
    hub.store.repo("someone/base", {"README.md": b"---\nlicense: bsd-3-clause\n---\n"})
    human = b"---\nlanguage: en\ntags:\n- mine\n---\n\n# My model\n\nWords of my own.\n"
    hub.store.repo("me/m", {"README.md": human}, private=True)
    owner.run("model", "push", encrypted, "me/m", "--eval-results", "eval.json", "--base-model", "someone/base", check=True)
    card = card_of(hub)
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-classification"
    assert {"mine", "encmixer", "timm", "image-classification"} <= set(card.data.tags)
    assert card.data.license == "bsd-3-clause"  # of the source repository, not of the config
    assert card.data.base_model == "someone/base"
    assert card.data.language == "en"
    (result,) = card.data.eval_results
    assert isinstance(result, EvalResult)
    accuracy = json.loads(evaluated.stdout)["right_key"]
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("data", "accuracy", round(100 * accuracy, 2))
    text = card.text
    assert text.index("Words of my own.") < text.index("timm-encmixer: begin")
    assert text.index("timm.create_model") < text.index("te.create_transform") < text.index("does not protect")
    assert "**The plain weights are public** (someone/base)" in text
    assert "2 wrong keys" in text
    assert "does not make images or weights confidential" in text

    repo = hub.store.repos["me/m"]
    edited = str(card).replace("Words of my own.", "Other words.").replace("### On a server", "### Vandalised")
    readme = File(f"{edited}\nA postscript.\n".encode(), lfs=False)
    repo.add_commit(MAIN, repo.head.oid, "edit", {**repo.head.files, "README.md": readme})
    owner.run("model", "push", encrypted, "me/m", check=True)
    again = card_of(hub).text
    assert "Other words." in again
    assert "A postscript." in again
    assert "Vandalised" not in again
    assert again.count("timm-encmixer: begin") == 1


def test_an_unknown_licence_is_asked_for_and_never_invented(hub, owner, plain_model, key, tmp_path):
    plain = timm.create_model("convmixer_custom", dim=8, depth=1, kernel_size=3, patch_size=4)
    te.save_model(te.encrypt_model(plain, key), tmp_path / "own")
    result = owner.run("model", "push", tmp_path / "own", "me/m", check=True)
    assert "the licence is not known, so the card states none: pass license= (--license)" in result.stderr
    assert card_of(hub).data.license is None
    assert card_of(hub).data.base_model is None
    assert "Anyone with the plain weights" in card_of(hub).text
    owner.run("model", "push", tmp_path / "own", "me/m", "--license", "mit", check=True)
    assert card_of(hub).data.license == "mit"
    assert "not known" not in owner.run("model", "push", tmp_path / "own", "me/m", check=True).stderr  # the card states it


# -- guards


@pytest.mark.parametrize("spelling", range(7))
def test_a_key_in_a_file_stops_everything(spelling, hub, owner, encrypted, key, key_file, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = [*key_forms(key), key_file.read_bytes()][spelling]
    for name, content in contents(encrypted).items():
        (folder / name).write_bytes(content)
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\nkey: ")
    (folder / "README.md").write_bytes((folder / "README.md").read_bytes() + secret + b"\n")
    with pytest.raises(LeakError, match="a secret key in it") as error:
        LeakGuard(key, None).check_file(folder / "README.md")
    assert_no_secret(key, str(error.value))


@pytest.mark.parametrize("form", ["hex", "base64", "urlsafe", "key file"])
def test_the_models_key_is_found_without_being_given(form, hub, owner, encrypted, key, key_file, tmp_path):
    raw = key.reveal()
    texts = {
        "hex": raw.hex(),
        "base64": base64.b64encode(raw).decode(),
        "urlsafe": base64.urlsafe_b64encode(raw).decode(),
        "key file": key_file.read_text(),
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"description": f"the key is {texts[form]}"}))
    with pytest.raises(LeakError, match=r"config\.json: expected no secrets"):
        LeakGuard(None, key.fingerprint).check_file(path)
    path.write_text(json.dumps({"description": te.SecretKey.generate().reveal().hex()}))
    LeakGuard(None, key.fingerprint).check_file(path)  # somebody else's number is no leak


@pytest.mark.nightly
def test_guards_of_the_command(hub, owner, encrypted, key, key_file, other_key, tmp_path):
    folder = tmp_path / "leaky"
    folder.mkdir()
    for name, content in contents(encrypted).items():
        (folder / name).write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "description": key.reveal().hex()}))
    assert_one_line(owner.run("model", "push", folder, "me/a"), "config.json: expected no secrets")
    assert_one_line(owner.run("model", "push", BUNDLED_FOLDER, "me/b"), "a key to encrypt the plain weights with, got none")
    hub.store.repo("me/c", contents(BUNDLED_FOLDER), private=True)
    refused = owner.run("model", "push", encrypted, "me/c")
    assert_one_line(refused, "me/c: model.safetensors: expected a repository without plain weights.*--force")
    hub.store.repo("me/d", {"pytorch_model.bin": b"pickle"}, private=True)
    assert_one_line(
        owner.run("model", "push", encrypted, "me/d"), r"me/d: pytorch_model\.bin: expected a repository without plain"
    )
    hub.store.repo("me/e")
    assert_one_line(
        owner.run("model", "push", encrypted, "me/e"), "expected a private repository, got a public one; pass --public"
    )
    other_key.save(tmp_path / "other.key")
    assert_one_line(owner.run("model", "push", encrypted, "me/f", "--key", tmp_path / "other.key"), "key")
    said = owner.run("model", "push", encrypted, "me/g", "--commit-message", f"with {key.reveal().hex()}")
    assert_one_line(said, "commit message: expected no secrets")
    assert_one_line(
        owner.run("model", "push", encrypted, "me/h", "--seal-to", "age1nobody"), "recipient: expected an age public key"
    )
    hub.store.repo("me/i", {"README.md": b"---\n: : [\n---\n"}, private=True)
    assert_one_line(owner.run("model", "push", encrypted, "me/i"), "README.md: expected a card with readable metadata")
    assert not {f"me/{name}" for name in "abfgh"} & set(hub.store.repos)  # refused before anything was made
    assert [repo.id for repo in hub.store.repos.values() if "model.safetensors" in repo.head.files] == ["me/c"]
    assert_no_secret(key, everything(hub.store))
    owner.run("model", "push", encrypted, "me/c", "--force", check=True)
    assert hub.store.repos["me/c"].head.files["model.safetensors"].content == (encrypted / "model.safetensors").read_bytes()


def test_a_record_that_lies_is_found_out_by_the_plain_weights(hub, owner, encrypted, tmp_path):
    """Plain weights under an encrypted model's record."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "forged"
    folder.mkdir()
    (folder / "config.json").write_bytes((encrypted / "config.json").read_bytes())
    record = json.loads((encrypted / "config.json").read_text())["encmixer"]
    save_file(
        load_file(BUNDLED_FOLDER / "model.safetensors"),
        folder / "model.safetensors",
        metadata={"encmixer": te.Scheme.from_dict(record).to_json()},
    )
    code = f"""
import timm_encmixer as te
try:
    te.push_to_hub("{folder}", "me/m", plain="{BUNDLED_FOLDER}")
except te.EncMixerError as error:
    print(error)
"""
    assert re.search(r"stem\.0\.weight: expected an encrypted stem, got the plain weights", owner.python(code))
    assert "me/m" not in hub.store.repos


def test_wrapped_models_are_pushed_and_plain_weights_under_their_record_are_not(hub, owner, encrypted, key_file):
    """The story of a decrypted DataParallel, whose record stayed: nothing plain reaches the Hub, in memory or in a folder."""
    code = f"""
import torch, timm, timm_encmixer as te
from safetensors.torch import load_file, save_file
from timm_encmixer.checkpoints import load_model
model = torch.nn.DataParallel(load_model("{encrypted}"))
te.push_to_hub(model, "me/wrapped", license="mit")
plain = load_model("{BUNDLED_FOLDER}").state_dict()
te.save_model(model, "forged")
save_file(plain, "forged/model.safetensors", metadata=dict(encmixer=model.module.encmixer.to_json()))
model.module.load_state_dict(plain)
for call in (lambda: te.decrypt_model(model, "{key_file}"), lambda: te.push_to_hub(model, "me/m"),
             lambda: te.push_to_hub(model.module, "me/m"), lambda: te.push_to_hub("forged", "me/m")):
    try:
        call()
    except te.EncMixerError as error:
        print(type(error).__name__)
"""
    assert owner.python(code).split() == ["SourceError", *["NotEncryptedError"] * 3]
    assert set(hub.store.repos) == {"me/wrapped"}
    sent = hub.store.repos["me/wrapped"].head.files["model.safetensors"].content
    assert load(sent)["stem.0.weight"].equal(load((encrypted / "model.safetensors").read_bytes())["stem.0.weight"])
    assert_one_line(owner.run("model", "push", owner.cwd / "forged", "me/m"), "got plain ones, or ones under another key")
    assert set(hub.store.repos) == {"me/wrapped"}


# -- rotation, branches, other users


def test_rotation_on_the_hub(hub, owner, encrypted, key_file, other_key, tmp_path):
    other_key.save(tmp_path / "next.key")
    owner.run("model", "push", encrypted, "me/m", check=True)
    repo = hub.store.repos["me/m"]
    first = repo.head
    rotate = ("model", "rotate", "hf-hub:me/m", "--key", key_file, "--new-key", tmp_path / "next.key", "--push")
    result = owner.run(*rotate, check=True)
    assert "stays in the repository's history" in result.stderr
    assert repo.head.parent == first.oid
    config = json.loads(repo.head.files["config.json"].content)
    assert config["encmixer"]["fingerprint"] == other_key.fingerprint
    assert other_key.fingerprint in repo.head.files["README.md"].content.decode()
    assert_no_secret(other_key, everything(hub.store))
    again = (
        "model",
        "rotate",
        "hf-hub:me/m",
        "--key",
        tmp_path / "next.key",
        "--new-key",
        key_file,
        "--push",
        "--super-squash",
    )
    assert "stays in" not in owner.run(*again, check=True).stderr
    assert first.oid not in repo.commits
    assert len(repo.history("main")) == 1
    got = repo.head.files["model.safetensors"].content
    assert len(got) == len(first.files["model.safetensors"].content)
    assert_one_line(owner.run(*rotate[:-1]), "either DST, or hf-hub:ID with --push")


@pytest.mark.nightly
def test_branches_sealing_and_who_may(hub, owner, encrypted, tmp_path):
    owner.run("model", "push", encrypted, "me/m", "--revision", "test", check=True)
    repo = hub.store.repos["me/m"]
    assert "config.json" in repo.resolve("test").files
    assert "config.json" not in repo.head.files
    reader, visitor, stranger = (client_of(hub, tmp_path, *who) for who in (("me", "read"), (None,), ("you",)))
    reader.run("model", "pull", "me/m@test", "got", check=True)
    assert_one_line(reader.run("model", "push", encrypted, "me/m"), "403: a token that may not do this")
    for client in (visitor, stranger):
        assert_one_line(client.run("model", "pull", "me/m", "got"), "no repository of that name, or none .*hf auth login")
    assert_one_line(visitor.run("model", "push", encrypted, "me/m"), "hf auth login")
    assert_one_line(stranger.run("model", "push", encrypted, "me/m"), "403|none that your token may see")
    hub.store.repo("you/gated", contents(encrypted), gated=True)
    for client in (visitor, owner):
        refused = client.run("model", "pull", "you/gated", "got2")
        assert_one_line(refused, f"a gated repository .*ask for access at {hub.url}/you/gated")
    hub.store.granted.add(("me", "you/gated"))
    owner.run("model", "pull", "you/gated", "got2", check=True)
    assert_one_line(owner.run("model", "pull", "me/m@nowhere", "got3"), "no such revision; check the branch")


def test_where_plain_weights_come_from_is_told(hub, owner, key_file):
    """Public, private and gated sources; a private one is read with --token."""
    for name, how in (("public", {}), ("private", {"private": True}), ("gated", {"gated": True})):
        hub.store.repo(f"me/{name}", contents(BUNDLED_FOLDER), **how)
    for name in ("public", "private", "gated"):
        result = owner.run("model", "encrypt", f"hf-hub:me/{name}", name, "--key", key_file, check=True)
        assert ("the plain weights are public" in result.stderr) == (name == "public")
        notes = json.loads((owner.cwd / name / "config.json").read_text())["pretrained_cfg"]["notes"]
        assert [note for note in notes if note.startswith("encmixer-source:") and f"me/{name}" in note]
    push = ("model", "push", "hf-hub:me/private", "me/m", "--key", key_file)
    assert_one_line(owner.run(*push, HF_TOKEN=""), "no repository of that name")
    owner.run(*push, "--token", owner.token, check=True, HF_TOKEN="")
    assert card_of(hub).data.base_model == "me/private"


OPENINGS = """
import sys
import pyrage
import timm_encmixer as te
from timm_encmixer.checkpoints.checkpoint import Checkpoint
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.publishing.options import PushOptions
from timm_encmixer.publishing.push import push_source

opened, real = [], Checkpoint.open.__func__
Checkpoint.open = classmethod(lambda cls, path: (opened.append(str(path)), real(cls, path))[1])
options = dict(license="mit", base_model="none", seal_to=[str(pyrage.x25519.Identity.generate().to_public())])
model, plain = load_model({encrypted!r}), {plain!r}
for push in (
    lambda: te.push_to_hub(model, "me/model", plain=plain, key={key!r}, **options),
    lambda: push_source({encrypted!r}, "me/folder", PushOptions(**options), key={key!r}),
    lambda: push_source(plain, "me/plain", PushOptions(**options), key={key!r}),
):
    opened.clear()
    push()
    print(len(opened), len(set(opened)))
"""


def test_a_push_opens_each_checkpoint_once(hub, owner, encrypted, key_file):
    """What is checked is what is compared and sealed: nobody opens the folder again, or looks for the source again."""
    code = OPENINGS.format(encrypted=str(encrypted), plain=str(BUNDLED_FOLDER), key=str(key_file))
    assert owner.python(code).splitlines() == ["2 2", "1 1", "2 2"]
    assert {"model.age"} == {n for r in hub.store.repos.values() for n in r.head.files if n.startswith("model")}
