"""What a tired person types: every mistake is one line that says what to do, before anything slow is imported."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from PIL import Image

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_FOLDER, BUNDLED_MODEL
from timm_encmixer.cli import early
from timm_encmixer.cli.app import cli, main
from timm_encmixer.cli.logs import say
from timm_encmixer.scheme import PARTS

KEY, OTHER = ("-k", "owner.key"), ("-k", "other.key")
MODEL = ("-m", "model")
ARCH = ("model", "encrypt", "model/model.safetensors", "new.safetensors", *KEY, "--arch", "vit_tinny_patch16_224")
KEY_FIRST = ("--key", "owner.key")
RESULTS = ("--eval-results", "eval.jsn")


def commands(group: click.Group = cli, path: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


# Values of what a command must be given. A new command says here what its arguments are, so that it is looked at too.
VALUES = {
    "src": "photos",
    "dst": "new",
    "path": "new",
    "repo_id": "me/m",
    "plain": "model",
    "encrypted": "model",
    "model": "model",
    "images": "photos",
    "data": "classes",
    "new_key": "owner.key",
}
EXISTING = "there"  # a folder
KEYS = (early.key_file, early.key_file_if_any, early.key_file_if_alone)
TARGETS = (early.free_target, early.free_target_in_folder)


def typed(path: tuple[str, ...], command: click.Command, **changes: str) -> list[str]:
    """Return a command with everything that it must be given, and with some values changed or added."""
    options, arguments = [], []
    for parameter in command.params:
        if not parameter.required and parameter.name not in changes:
            continue
        value = changes.get(parameter.name) or VALUES[parameter.name]
        if isinstance(parameter, click.Argument):
            arguments.append(value)
        else:
            options += [parameter.opts[0], value]
    return [*path, *arguments, *options]


def of_every_command():
    """Yield mistakes that can be made with every command of their kind: (name, words, what the line must say)."""
    for path, command in commands():
        name = " ".join(path)
        for parameter in command.params:
            if parameter.callback in KEYS:
                yield f"{name} {parameter.name} mistyped", typed(path, command, **{parameter.name: "owner.kye"}), "owner.kye"
                if parameter.callback is not early.key_file_if_any and parameter.name == "key":
                    yield f"{name} without a key", typed(path, command), "give --key FILE, or set TIMM_ENCMIXER_KEY"
            if parameter.callback in TARGETS:
                words = typed(path, command, **{parameter.name: EXISTING, "key": "owner.key"})
                yield f"{name} {parameter.name} exists", words, "a target that does not exist yet"
            if isinstance(parameter.type, click.Choice) and parameter.name != "log_level":
                words = typed(path, command, **{parameter.name: "nonsense"})
                yield f"{name} {parameter.name} mistyped", words, "is not one of"


def in_words(message: str, *words: str, **how: object) -> tuple[dict, str]:
    return {"words": list(words), **how}, message


NO_NETWORK = r"no answer from http://127.0.0.1:\d+ \(.*Connection refused\); check the connection"
MISTAKES = {
    # what is said of words that are unknown
    "encrypt": in_words("did you mean encmixer model encrypt or encmixer images encrypt or encmixer dataset", "encrypt", "a"),
    "key generate": in_words("did you mean encmixer key new?", "key", "generate", "k"),
    "keygen": in_words("did you mean encmixer key new?", "keygen"),
    "models encrypt": in_words("No such command 'models encrypt'; did you mean encmixer model encrypt?", "models", "encrypt"),
    "models encrypt a b": in_words("did you mean encmixer model encrypt?", "models", "encrypt", "a", "b"),
    "image encrypt": in_words("did you mean encmixer images encrypt?", "image", "encrypt", "a", "b"),
    "model encript": in_words("did you mean encmixer model encrypt", "model", "encript", "a", "b"),
    "model show": in_words("did you mean encmixer model info?", "model", "show", "a"),
    "evaluate": in_words("did you mean encmixer eval?", "evaluate"),
    "nonsense": in_words("No such command 'nonsense'; see encmixer --help", "nonsense"),
    "cipher": in_words("did you mean shuffle", "model", "encrypt", "model", "new", *KEY, "--cipher", "shufle"),
    "attack": in_words("did you mean thumbnail", "audit", "--only", "thumbnial"),
    "one dash": in_words("ey: expected a key file .*; did you mean --key\\?", "model", "encrypt", "model", "new", "-key", "k"),
    "option before": in_words("options go after the command: encmixer COMMAND ... --key", *KEY_FIRST, "images", "encrypt"),
    "option before the verb": in_words("after the command: encmixer model COMMAND ... --key", "model", *KEY_FIRST, "encrypt"),
    "attack's option": in_words("Did you mean '?--only", "audit", "--attack", "thumbnail"),
    "help": in_words("did you mean encmixer --help\\?", "help"),
    "help of a group": in_words("did you mean encmixer model --help\\?", "model", "help"),
    "option": in_words("did you mean '?--images", "eval", *MODEL, *KEY, "--imges", "photos"),
    # models
    "model": in_words("did you mean vit_tiny_patch16_224", "model", "encrypt", "vit_tinny_patch16_224", "new", *KEY),
    "timm/": in_words("write hf-hub:timm/vit_tiny", "model", "encrypt", "timm/vit_tiny", "new", *KEY),
    "page of the Hub": in_words("write hf-hub:timm/vit_tiny", "model", "info", "https://huggingface.co/timm/vit_tiny"),
    "folder of images": in_words("a folder with config.json and model.safetensors", "model", "encrypt", "photos", "new", *KEY),
    "info of images": in_words("photos: expected a folder with config.json", "model", "info", "photos"),
    "path": in_words("got no such path; check the path", "model", "verify", "a/b/c", "model", *KEY, "--images", "photos"),
    "sealed": in_words("sealed model: a file or hf-hub:ID, got no such path", "model", "open", "m.age", "new", "-p"),
    "target's folder": in_words("make it first: mkdir -p no", "model", "encrypt", "model", "no/new", *KEY),
    "model that cannot": in_words("resnet50: expected a model that can", "model", "encrypt", "resnet50", "new", *KEY),
    "blocks that do not fit": in_words(
        "multiples of 8 px, got blocks of 4", "model", "encrypt", BUNDLED_MODEL, "new", *KEY, "--cipher", "etc"
    ),
    "pattern": in_words("did you mean vit_tiny_patch16_224", "models", "vit_tinny_patch16_224"),
    "part of a name": in_words("'\\*vit\\*' finds the names that contain it", "models", "vit"),
    "arch": in_words("--arch: expected a timm model name, got 'vit_tinny_patch16_224'; did you mean vit_tiny", *ARCH),
    "model's folder": in_words("enkrypted: .*; did you mean encrypted\\?", "model", "info", "enkrypted"),
    "model's path": in_words(r"did you mean table/test.parquet\?", "model", "info", "table/tets.parquet"),
    "space": in_words("a name with a space before or after it; .* vit_tiny", "model", "info", "vit_tiny_patch16_224 "),
    "folder of a key": in_words("make it first: mkdir -p nodir", "key", "new", "nodir/a.key"),
    # what the record says: the key and the order
    "encrypt again": in_words("full: expected a plain model, got an encrypted", "model", "encrypt", "full", "new", *KEY),
    "decrypt a plain one": in_words("model: expected an encrypted model", "model", "decrypt", "model", "new", *KEY),
    "decrypt": in_words("expected the key with fingerprint", "model", "decrypt", "full", "new", *OTHER),
    "rotate a plain one": in_words("expected an encrypted", "model", "rotate", "model", "new", *KEY, "--new-key", "other.key"),
    "rotate with one key": in_words("got the same", "model", "rotate", "full", "new", *KEY, "--new-key", "owner.key"),
    "rotate": in_words("the key with", "model", "rotate", "full", "new", *OTHER, "--new-key", "owner.key"),
    "verify": in_words("the key with fingerprint", "model", "verify", "model", "full", *OTHER, "--images", "photos"),
    "verify in another order": in_words("give the plain", "model", "verify", "full", "model", *KEY, "--images", "photos"),
    "verify plain ones": in_words("give the plain", "model", "verify", "model", "model", *KEY, "--images", "photos"),
    "eval": in_words("the key with fingerprint", "eval", "-m", "full", *OTHER, "--images", "classes"),
    "audit's key": in_words("the key with fingerprint", "audit", "-m", "full", *OTHER),
    "push": in_words("the key with fingerprint", "model", "push", "full", "me/m", *OTHER),
    # images and data sets
    "images": in_words(
        "fotos: expected an image or a folder of images, got no such path", "images", "encrypt", "fotos", "c", *KEY, *MODEL
    ),
    "images beside": in_words("phtos: .*; did you mean photos\\?", "images", "encrypt", "phtos", "c", *KEY, *MODEL),
    "data beside": in_words("did you mean photos\\?", "eval", *MODEL, *KEY, "--images", "phtos"),
    "data set beside": in_words("did you mean photos\\?", "dataset", "encrypt", "phtos", "new", *KEY, *MODEL),
    "URL": in_words("got https://a.b/c; URLs are not fetched", "images", "encrypt", "https://a.b/c", "new", *KEY, *MODEL),
    "images of verify": in_words("fotos: expected", "model", "verify", "model", "model", *KEY, "--images", "fotos"),
    "data": in_words(
        "fotos: expected a folder or a Hub data set, got no such folder", "eval", *MODEL, *KEY, "--images", "fotos"
    ),
    "data of an audit": in_words("fotos: expected a folder or a Hub data set, got no such", "audit", "--data", "fotos"),
    "public images": in_words("fotos: expected a folder or a Hub data set", "audit", "--public-images", "fotos"),
    "data set": in_words("fotos: expected a folder", "dataset", "encrypt", "fotos", "new", *KEY, *MODEL),
    "data set in a file": in_words("got a file; give the folder", "dataset", "info", "owner.key"),
    "data set's info": in_words("fotos: expected a folder", "dataset", "info", "fotos"),
    "data set into a file": in_words("a folder, or nothing", "dataset", "encrypt", "photos", "owner.key", *KEY, *MODEL),
    "demo into a file": in_words("a folder, or nothing", "demo", "--out", "owner.key"),
    # no network
    "no network": in_words(NO_NETWORK, "model", "encrypt", "hf-hub:me/m", "new", *KEY),
    "no network for a pull": in_words(NO_NETWORK, "model", "pull", "me/m", "new"),
    "no network for a push": in_words(NO_NETWORK, "model", "push", "full", "me/m", *KEY),
    "no network for an audit": in_words(NO_NETWORK, "audit", "--model", "hf-hub:me/m"),
    "no network for images": in_words(NO_NETWORK, "images", "encrypt", "photos", "new", *KEY, "-m", "hf-hub:me/m"),
    "no network, or mistyped": in_words(
        f"got no such folder, and on the Hub {NO_NETWORK}", "eval", *MODEL, *KEY, "--data", "my/fotos"
    ),
    "no network, or a data set mistyped": in_words(
        f"got no such folder, and on the Hub {NO_NETWORK}", "dataset", "encrypt", "my/fotos", "new", *KEY, *MODEL
    ),
    "no address": in_words("Name or service not known", "model", "info", "hf-hub:me/m", nowhere=True),
    "no address for data": in_words("no such folder, and on the Hub no answer", "audit", "--images", "my/fotos", nowhere=True),
    # what other programs have
    "workers": in_words(
        "for 4 of them run: accelerate launch --multi_gpu --num_processes 4 .* -m timm_encmixer dataset encrypt",
        *("dataset", "encrypt", "photos", "new", *KEY, *MODEL, "--workers", "4"),
    ),
    "worker": in_words(
        "for 4 of them run: accelerate launch", "dataset", "encrypt", "photos", "new", *KEY, *MODEL, "--worker", "4"
    ),
    "results": in_words("eval.jsn: expected what encmixer eval --json printed", "model", "push", "model", "me/m", *RESULTS),
    "identity": in_words("identiy: expected an identity file", "model", "open", "sealed.age", "new", "-i", "identiy"),
    "push without a key": in_words(
        "a key to encrypt the plain weights with, got none; give --key", "model", "push", "plain", "me/m"
    ),
    "audit without a key": in_words(
        "the key of the encrypted model, got none; give --key FILE", "audit", "--model", "encrypted"
    ),
    # extras
    "audit": in_words("the package foolbox, got none installed; .*audit", "audit", missing=["foolbox"]),
    "seal": in_words("the package pyrage", "model", "seal", "model", "new", "-r", "age1x", missing=["pyrage"]),
    "open": in_words("the package pyrage", "model", "open", "sealed.age", "new", "-i", "identity", missing=["pyrage"]),
    "push sealed": in_words("the package pyrage", "model", "push", "model", "me/m", "--seal-to", "age1x", missing=["pyrage"]),
    "table": in_words("the package datasets", "eval", *MODEL, *KEY, "--data", "table", missing=["datasets"]),
}
ALL = MISTAKES | {name: ({"words": words}, message) for name, words, message in of_every_command()}
HELP = {" ".join(path): {"words": [*path, "--help"]} for path, _ in [((), cli), *commands()]}
LISTS = {
    "models": {"words": ["models", "convmixer*"]},
    "refused": {"words": ["models", "resnet50"]},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, dict]:
    """The answers to all commands of this page, by name."""
    folder = tmp_path_factory.mktemp("mistakes")
    te.SecretKey(bytes(range(32))).save(folder / "owner.key")
    te.SecretKey(bytes(range(1, 33))).save(folder / "other.key")
    (folder / "model").symlink_to(BUNDLED_FOLDER)
    te.encrypt_checkpoint(BUNDLED_FOLDER, folder / "full", folder / "owner.key")
    for name in ("photos", "classes/a", "classes/b", "table", "plain", "encrypted", EXISTING):
        (folder / name).mkdir(parents=True)
    for name in ("photos", "classes/a", "classes/b"):
        Image.new("RGB", (32, 32)).save(folder / name / "x.png")
    for name in ("table/test.parquet", "sealed.age", "identity"):
        (folder / name).touch()
    for name, source in (("plain", folder / "model"), ("encrypted", folder / "full")):  # config.json says what it is
        shutil.copy(source / "config.json", folder / name)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    dropped = ("HF_", "HUGGING", "TIMM_ENCMIXER", "RANK", "LOCAL_RANK")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(folder / "home"), "COLUMNS": "80"}
    everything = {name: command for name, (command, _) in ALL.items()}
    everything |= {f"help {name}": command for name, command in HELP.items()} | LISTS
    words = [sys.executable, str(Path(__file__).with_name("mistakes.py"))]
    run = subprocess.run(
        words, input=json.dumps(list(everything.values())), env=env, cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert not (folder / "new").exists()
    return dict(zip(everything, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_a_mistake_is_one_line_before_anything_slow_is_imported(name, answers):
    answer, message = answers[name], ALL[name][1]
    assert answer["code"] == 2
    assert not answer["out"]
    assert len(answer["err"].splitlines()) == 1, answer["err"]
    assert answer["err"].startswith("encmixer: error: ")
    assert re.search(message, answer["err"], re.IGNORECASE), answer["err"]
    assert "SecretKey" not in answer["err"]
    assert "free space" not in answer["err"]
    assert "docs/" not in answer["err"]
    assert not answer["loaded"]
    assert answer["slept"] <= 1


# ---- a key's own text, typed for anything


def with_a_key(text: str):
    """Yield commands with a key's text in place of any one word, and of an extra one."""
    for path, command in commands():
        words = typed(path, command, **({"key": "owner.key"} if any(p.name == "key" for p in command.params) else {}))
        for place in range(len(words) + 1):
            yield [*words[:place], text, *words[place:][1:]]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.is_flag:
                yield [*words, parameter.opts[0], text]
                yield [*words, f"{parameter.opts[0]}={text}"]


SECRET = te.SecretKey(bytes(range(100, 132)))
LINE = SECRET.file_text().decode().strip()
LINES = [words for text in (LINE, f"hf-hub:{LINE}", f"me/{LINE}") for words in with_a_key(text)]
BARE = [  # these look like a path or a word until it is known that they are none
    [*before, text]
    for text in (SECRET.reveal().hex(), base64.urlsafe_b64encode(SECRET.reveal()).decode(), LINE.partition(":")[2])
    for before in (
        [],
        ["models"],
        ["model", "info"],
        ["dataset", "info"],
        ["audit", "--only"],
        ["eval", *KEY, *MODEL, "--data"],
    )
]


def parts(text: str) -> set[str]:
    return {text[start : start + 8] for start in range(len(text) - 7)}


@pytest.mark.parametrize("group", [LINES, BARE], ids=["line", "bare"])
def test_a_keys_text_that_was_typed_is_never_printed(group, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    SECRET.save(tmp_path / "owner.key")
    secret = parts(LINE.partition(":")[2]) | parts(SECRET.reveal().hex()) | parts(BARE[8][-1])
    for words in group:
        monkeypatch.setattr(sys, "argv", ["encmixer", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert end.value.code == 2, words
        assert len(err.splitlines()) == 1, words
        assert "it may be in your shell's history: rotate to a new key" in err, words
        assert not {part for part in secret if part in out + err}, words
    assert [path.name for path in tmp_path.iterdir()] == ["owner.key"]


def test_a_warning_and_a_message_of_ours_name_no_key(monkeypatch, capsys):
    say("warning", f"look at {LINE} again")
    assert capsys.readouterr().err.startswith("encmixer: warning: look at ENCMIXER-KEY-... again; a key's own text was typed")
    digest = "ab" * 32  # not typed: a digest
    say("error", f"expected one line that starts with ENCMIXER-KEY-1: and {digest}")
    assert capsys.readouterr().err == f"encmixer: error: expected one line that starts with ENCMIXER-KEY-1: and {digest}\n"


def test_every_command_that_needs_a_key_or_writes_a_target_is_among_them():
    """Only these are not looked at early: what a run goes on with, and a key's own file, which is never replaced."""
    with_key = {" ".join(path) for path, command in commands() if any(p.name == "key" for p in command.params)}
    assert {name.removesuffix(" key mistyped") for name in ALL if name.endswith(" key mistyped")} == with_key
    targets = {"dst", "out", "path"}
    with_target = {" ".join(path) for path, command in commands() if any(p.name in targets for p in command.params)}
    looked_at = {name.rpartition(" ")[0].rpartition(" ")[0] for name in ALL if name.endswith(" exists")}
    goes_on = {"images encrypt", "images decrypt", "dataset encrypt", "dataset decrypt", "demo"}
    assert with_target - looked_at == goes_on | {"key new", "key show"}


@pytest.mark.parametrize("name", HELP)
def test_help_is_whole_and_imports_nothing_slow(name, answers):
    answer = answers[f"help {name}"]
    assert answer["code"] == 0, answer["err"]
    assert not answer["loaded"]
    assert "docs/" not in answer["out"]
    listed = answer["out"].partition("\nCommands:\n")[2].partition("\n\n")[0]
    assert not [line for line in listed.splitlines() if line.endswith("...")]


def test_help_says_what_a_key_protects_and_how_words_are_completed(answers):
    said = " ".join(answers["help "]["out"].split())
    assert "does not make images or weights confidential" in said
    assert 'bash (~/.bashrc) eval "$(_ENCMIXER_COMPLETE=bash_source encmixer)"' in said
    ciphers = answers["help model encrypt"]["out"]
    assert all(re.search(rf"{re.escape(part.name)} +{re.escape(part.words)}\n", ciphers) for part in PARTS.values())


def test_models_are_listed_without_timm_and_with_the_bundled_one(answers):
    assert not answers["models"]["loaded"]
    assert answers["models"]["out"].split()[0] == "convmixer_256_8_ks5_p4"
    assert "0 can be encrypted; --refused shows those that cannot, with the reasons" in answers["refused"]["out"]


# ---- completion


def completed(words: list[str], begun: str) -> list[tuple[str, str]]:
    found = ShellComplete(cli, {}, "encmixer", "_ENCMIXER_COMPLETE").get_completions(words, begun)
    return [(item.type, item.value) for item in found]


NO_PATHS = {"repo_id", "pattern"}  # arguments that are no paths
PATH_OPTIONS = {
    "key",
    "new_key",
    "model",
    "base",
    "images",
    "public_images",
    "data",
    "out",
    "identity",
    "recipients",
    "seal_to",
}


@pytest.mark.parametrize("path", [path for path, command in commands() if not isinstance(command, click.Group)], ids=" ".join)
def test_paths_are_completed(path):
    command = dict(commands())[path]
    words = list(path)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            if parameter.name not in NO_PATHS:
                assert completed(words, "") == [("file", "")], parameter.name
            words.append("x")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name in PATH_OPTIONS:
            assert completed([*words, parameter.opts[0]], "") == [("file", "")], parameter.name


def test_names_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit_tiny_of_mine").mkdir()
    assert ("plain", "shuffle+negpos") in completed(["model", "encrypt", "a", "b", "--cipher"], "sh")
    assert completed(["audit", "--only"], "thumb") == [("plain", "thumbnail")]
    names = completed(["model", "encrypt"], "vit_tiny_")
    assert {("plain", "vit_tiny_of_mine"), ("plain", "vit_tiny_patch16_224")} <= set(names)
    assert ("plain", "vit_tiny_patch16_224") in completed(["model", "encrypt", "a", "b", "--arch"], "vit_tiny_")
    assert ("plain", "encmixer_256_8_ks5_p4.cifar10") in completed(["model", "encrypt"], "encmixer_2")
    assert ("plain", "convmixer_768_32") in completed(["models"], "convm")
    assert completed(["audit", "--fail-on"], "wei") == [("plain", "weights_only=")]
    assert completed(["images", "encrypt", "a", "b", "--model"], "vit_") == [("file", "vit_")]
    assert completed(["dataset", "decrypt", "a", "b", "--model"], "vit_") == [("file", "vit_")]
    assert completed([], "mode") == [("plain", "model"), ("plain", "models")]
    assert completed(["nothing"], "mode") == completed([], "mode")  # an unknown word is no error while others are typed
