"""Every failure of the Hub and of the way to it, injected into the real command in a real process."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from faults import Fault
from loopback import cached, client_of, contents, damage
from store import MAIN, make_file

COMMIT, INFO, CREATE = r"POST .*/commit/", r"GET /api/models/me/m/revision/main", r"POST /api/repos/create"
WEIGHTS, CONFIG = r"GET /me/m/resolve/.*/model.safetensors", r"GET /me/m/resolve/.*/config.json"


def retry_after(seconds: int) -> dict:
    return {"status": 429, "headers": {"Retry-After": str(seconds)}}


PASSING = {
    "create_repo answers 500 twice": Fault(CREATE, "status", times=2),
    "create_repo answers 429": Fault(CREATE, "status", **retry_after(1)),
    "create_repo's reply is lost": Fault(CREATE, "drop"),
    "model_info answers 500 twice": Fault(INFO, "status", times=2),
    "model_info answers 429": Fault(INFO, "status", **retry_after(1)),
    "model_info is reset": Fault(INFO, "reset"),
    "model_info stalls": Fault(INFO, "stall"),
    "preupload answers 503": Fault("preupload", "status", status=503),
    "LFS batch answers 500": Fault("info/lfs/objects/batch", "status"),
    "the upload answers 500": Fault("PUT /upload", "status"),
    "the upload is reset": Fault("PUT /upload", "reset"),
    "the commit answers 500 without acting": Fault(COMMIT, "status"),
    "the commit answers 500 after acting": Fault(COMMIT, "status-after"),
    "the commit answers 429": Fault(COMMIT, "status", **retry_after(1)),
    "the commit answers 429 after acting": Fault(COMMIT, "status-after", **retry_after(1)),
    "the commit's reply is lost": Fault(COMMIT, "drop"),
    "the commit is reset before acting": Fault(COMMIT, "reset"),
    "the commit's reply never comes": Fault(COMMIT, "stall-after"),
    "the commit's reply is cut off": Fault(COMMIT, "truncate"),
    "reading back answers 500": Fault(r"GET .*/revision/[0-9a-f]{40}", "status"),
}


ON_A_PUSH = (  # one of each request, and each kind of fault; the others are nightly
    "create_repo answers 429",
    "model_info is reset",
    "preupload answers 503",
    "the upload answers 500",
    "the commit answers 500 after acting",
    "the commit's reply is lost",
    "the commit's reply is cut off",
)


@pytest.mark.nightly(but=ON_A_PUSH)
@pytest.mark.parametrize("name", PASSING)
def test_push_gets_through_and_commits_once(name, hub, owner, encrypted):
    fault = PASSING[name]
    fault.seen = 0
    (hub.storage_faults if "/upload" in fault.request else hub.faults).table.append(fault)
    result = owner.run("model", "push", encrypted, "me/m", check=True)
    assert fault.seen > 0, "the fault did not happen"
    assert "No such file" not in result.stderr  # nothing of the cache's business is said
    repo = hub.store.repos["me/m"]
    assert len(repo.history("main")) == 2  # the Hub's own first commit, and ours
    assert repo.private
    assert set(repo.head.files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    for file in ("config.json", "model.safetensors"):
        assert repo.head.files[file].content == (encrypted / file).read_bytes()


@pytest.mark.nightly(only=("stall-after",))
@pytest.mark.parametrize("do", ["drop", "status-after", "stall-after"])
def test_a_pull_request_whose_reply_is_lost_is_opened_once(do, hub, owner, encrypted):
    hub.store.repo("me/m", private=True)
    hub.faults.table.append(Fault(COMMIT, do))
    result = owner.run("model", "push", encrypted, "me/m", "--create-pr", check=True)
    assert len(hub.store.repos["me/m"].pulls) == 1
    assert result.stdout.strip().endswith("/me/m/discussions/1")
    assert "model.safetensors" not in hub.store.repos["me/m"].head.files


QUOTA = {"status": 403, "body": {"error": "Private repository storage limit reached, please upgrade your plan"}}
REFUSED = {
    "500 for ever": (Fault(COMMIT, "status", times=None), "500: an error of the Hub's own .*try again later"),
    "401": (Fault(COMMIT, "status", status=401), "a token that is unknown or has expired.*hf auth login"),
    "403": (Fault(COMMIT, "status", status=403), "403: a token that may not do this.*use a token with write access"),
    "404": (Fault(COMMIT, "status", status=404), "404: nothing there"),
    "409": (Fault(COMMIT, "status", status=409), "409: a conflict with what is there"),
    "412": (Fault(COMMIT, "status", status=412), "412: a commit that somebody made meanwhile.*run the command again"),
    "413": (Fault(COMMIT, "status", status=413), "413: a file that is too large"),
    "429 for an hour": (Fault(COMMIT, "status", **retry_after(3600)), "429: too many requests.*try again in 3600 s"),
    "402": (Fault(COMMIT, "status", status=402), "a full quota.*free space"),
    "no space left": (Fault(COMMIT, "status", **QUOTA), "a full quota .*storage limit reached"),
    "create_repo 400": (Fault(CREATE, "status", status=400, times=None), "400: a bad request"),
    "create_repo 500 for ever": (Fault(CREATE, "status", times=None), "500: an error of the Hub's own"),
    "nobody answers": (Fault("POST", "reset", times=None), "no answer from http://127.0.0.1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_push_says_in_one_line_why_not_and_changes_nothing(name, hub, owner, encrypted):
    fault, message = REFUSED[name]
    fault.seen = 0
    before = hub.store.repo("me/m", {"README.md": b"---\nlicense: mit\n---\nmine"}, private=True).head.oid
    hub.faults.table.append(fault)
    result = owner.run("model", "push", encrypted, "me/m")
    assert_one_line(result, message)
    assert hub.store.repos["me/m"].head.oid == before


@pytest.mark.nightly
def test_a_fault_that_lasts_is_one_line_and_no_bar(hub, owner, encrypted):
    """In a process of its own: huggingface_hub decides about its bars when it is imported."""
    hub.faults.table.append(Fault(COMMIT, "status", times=None))
    words = [sys.executable, "-m", "timm_encmixer", "-q", "model", "push", str(encrypted), "me/m"]
    result = subprocess.run(words, env=owner.environment(), cwd=owner.cwd, capture_output=True, text=True)
    assert result.returncode == 2
    assert re.fullmatch(r"encmixer: error: .*500: an error of the Hub's own.*\n", result.stderr), result.stderr


def assert_one_line(result, message):
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("encmixer: error: ")]
    assert len(errors) == 1, result.stderr
    assert re.search(message, errors[0]), errors[0]
    assert "Traceback" not in result.stderr


def test_a_commit_made_meanwhile_is_not_overwritten(hub, owner, encrypted):
    repo = hub.store.repo("me/m", private=True)

    def somebody_commits() -> None:
        repo.add_commit(MAIN, repo.head.oid, "meanwhile", {**repo.head.files, "config.json": make_file("config.json", b"{}")})

    hub.faults.table.append(Fault(COMMIT, "call", call=somebody_commits))
    result = owner.run("model", "push", encrypted, "me/m")
    assert_one_line(result, "412: a commit that somebody made meanwhile")
    assert repo.head.title == "meanwhile"


def test_a_commit_that_cannot_be_read_back_is_called_made(hub, owner, encrypted):
    hub.faults.table.append(Fault(r"GET .*/revision/[0-9a-f]{40}", "status", times=None))
    result = owner.run("model", "push", encrypted, "me/m")
    assert_one_line(result, r"hf-hub:me/m@[0-9a-f]{8}: .*the commit was made, and reading it back failed: 500.*do not push")
    assert "model.safetensors" in hub.store.repos["me/m"].head.files


@pytest.mark.parametrize("offline", ["0", "1"])
@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:@x", "hf-hub:a b/c", "hf-hub:a/b/c", "hf_hub:a..b/c"])
def test_what_no_repository_can_be_called(name, offline, hub, owner):
    result = owner.run("model", "info", name, HF_HUB_OFFLINE=offline)
    assert_one_line(result, r"expected owner/name\[@revision\], got")
    assert not hub.faults.log


def test_bytes_that_arrived_differently_are_reported(hub, owner, encrypted):
    def rot() -> None:
        repo = hub.store.repos["me/m"]
        content = bytearray(repo.head.files["model.safetensors"].content)
        content[-1] ^= 1
        repo.head.files["model.safetensors"] = make_file("model.safetensors", bytes(content))

    hub.faults.table.append(Fault(r"GET .*/revision/[0-9a-f]{40}", "call", call=rot))
    result = owner.run("model", "push", encrypted, "me/m")
    assert_one_line(result, "expected the bytes that were sent, got model.safetensors with digest")


# -- pull

REPAIRED = {
    "a flipped bit in the weights": Fault(WEIGHTS, "flip"),
    "a flipped bit in the config": Fault(CONFIG, "flip"),
}
RESUMED = {
    "cut off": Fault(WEIGHTS, "truncate"),
    "reset": Fault(WEIGHTS, "reset"),
    "stalled": Fault(WEIGHTS, "stall"),
    "500": Fault(WEIGHTS, "status"),
    "HEAD answers 503": Fault("HEAD .*model.safetensors", "status", status=503),
    "model_info 429": Fault(INFO, "status", **retry_after(1)),
    "model_info reset": Fault(INFO, "reset"),
}


@pytest.mark.nightly(only=("stalled", "model_info 429"))
@pytest.mark.parametrize("name", [*REPAIRED, *RESUMED])
def test_pull_ends_with_the_right_bytes(name, hub, owner, encrypted):
    hub.store.repo("me/m", contents(encrypted), private=True)
    fault = {**REPAIRED, **RESUMED}[name]
    fault.seen = 0
    hub.faults.table.append(fault)
    result = owner.run("model", "pull", "me/m", "got", check=True)
    assert fault.seen > 0
    assert contents(owner.cwd / "got") == contents(encrypted)
    assert ("fetching it again" in result.stderr) == (name in REPAIRED)


@pytest.mark.parametrize(("file", "request_"), [("model.safetensors", WEIGHTS), ("config.json", CONFIG)])
def test_bytes_that_are_wrong_every_time_are_never_used_nor_kept(file, request_, hub, owner, encrypted):
    hub.store.repo("me/m", contents(encrypted), private=True)
    hub.faults.table.append(Fault(request_, "flip", times=None))
    result = owner.run("model", "pull", "me/m", "got")
    assert_one_line(result, f"hf-hub:me/m: {file}: expected the bytes that the Hub lists, got (SHA-256|Git blob)")
    assert not (owner.cwd / "got").exists()
    assert not list(owner.cache.rglob(file))
    offline = owner.run("model", "pull", "me/m", "got", HF_HUB_OFFLINE="1")
    assert_one_line(offline, "no complete copy")


@pytest.mark.nightly(
    only=(
        "500",
        "reset",
    )
)
@pytest.mark.parametrize("fault", ["401", "401 and a partial snapshot", "reset", "500", "bad token"])
def test_a_cache_does_not_stand_in_for_a_hub_that_refuses(fault, hub, owner, encrypted):
    """huggingface_hub would silently return the cached, possibly partial or stale, snapshot."""
    hub.store.repo("me/m", contents(encrypted), private=True)
    first = ("info", "hf-hub:me/m") if "partial" in fault else ("pull", "me/m", "first")
    owner.run("model", *first, check=True)
    changes = {"HF_TOKEN": "hf_expired"} if fault == "bad token" else {}
    if fault != "bad token":
        number = int(fault[:3]) if fault[:3].isdigit() else 0
        hub.faults.table.append(Fault("GET|HEAD", "status" if number else "reset", status=number, times=None))
    result = owner.run("model", "pull", "me/m", "second", **changes)
    said = {"500": "500: an error", "reset": "no answer from .*HF_HUB_OFFLINE=1"}
    assert_one_line(result, said.get(fault, "a token that is unknown or has expired"))
    assert not (owner.cwd / "second").exists()


def test_a_damaged_cache_is_repaired_online_and_refused_offline(hub, owner, encrypted):
    hub.store.repo("me/m", contents(encrypted), private=True)
    owner.run("model", "pull", "me/m", "first", check=True)
    for file in ("model.safetensors", "config.json"):
        damage(cached(owner, "me/m", file))
        offline = owner.run("model", "pull", "me/m", "second", HF_HUB_OFFLINE="1")
        assert_one_line(offline, f"{file}: expected the cached bytes as they were fetched")
        again = owner.run("model", "pull", "me/m", file.replace(".", "-"), check=True)
        assert "fetching it again" in again.stderr
        assert contents(owner.cwd / file.replace(".", "-")) == contents(encrypted)
    assert contents(owner.cwd / "first") == contents(encrypted)
    owner.run("model", "pull", "me/m", "third", check=True, HF_HUB_OFFLINE="1")
    assert contents(owner.cwd / "third") == contents(encrypted)


def test_a_partial_snapshot_is_not_used_offline(hub, owner, encrypted):
    hub.store.repo("me/m", contents(encrypted), private=True)
    owner.run("model", "info", "hf-hub:me/m", check=True)  # brings config.json alone
    assert_one_line(owner.run("model", "pull", "me/m", "got", HF_HUB_OFFLINE="1"), "model.safetensors.*no complete copy")


def test_config_and_weights_come_from_one_commit(hub, owner, encrypted, tmp_path):
    """Somebody pushes another model between the two downloads."""
    repo = hub.store.repo("me/m", contents(encrypted), private=True)
    pinned = repo.head.oid

    def somebody_pushes() -> None:
        files = {"config.json": b'{"architecture": "resnet18"}', "model.safetensors": b"another"}
        new = {name: make_file(name, content) for name, content in files.items()}
        repo.add_commit(MAIN, repo.head.oid, "another", {**repo.head.files, **new})

    hub.faults.table.append(Fault("HEAD .*model.safetensors", "call", call=somebody_pushes))
    owner.run("model", "pull", "me/m", "got", check=True)
    assert repo.head.oid != pinned
    assert contents(owner.cwd / "got") == contents(encrypted)


def test_a_stale_cache_is_brought_up_to_date(hub, owner, encrypted, key, other_key, tmp_path):
    import timm_encmixer as te

    repo = hub.store.repo("me/m", contents(encrypted), private=True)
    owner.run("model", "pull", "me/m", "old", check=True)
    te.rotate_checkpoint(encrypted, tmp_path / "rotated", key, other_key)
    new = {name: make_file(name, content) for name, content in contents(tmp_path / "rotated").items()}
    repo.add_commit(MAIN, repo.head.oid, "rotated", {**repo.head.files, **new})
    owner.run("model", "info", "hf-hub:me/m", check=True)  # the new config alone does not replace the complete old snapshot
    owner.run("model", "pull", "me/m", "offline", check=True, HF_HUB_OFFLINE="1")
    assert contents(owner.cwd / "offline") == contents(encrypted)
    owner.run("model", "pull", "me/m", "new", check=True)
    assert contents(owner.cwd / "new") == contents(tmp_path / "rotated")


# -- Xet


@pytest.mark.nightly
def test_xet_carries_a_model_there_and_back(xet_hub, tmp_path, encrypted):
    owner = client_of(xet_hub, tmp_path)
    owner.run("model", "push", encrypted, "me/m", check=True)
    assert any("xet-write-token" in request for request in xet_hub.requests)
    owner.run("model", "pull", "me/m", "got", check=True)
    assert any("xet-read-token" in request for request in xet_hub.requests)
    assert contents(owner.cwd / "got") == contents(encrypted)


def test_xet_bytes_that_rot_in_storage_are_noticed(xet_hub, tmp_path, encrypted):
    owner = client_of(xet_hub, tmp_path)
    owner.run("model", "push", encrypted, "me/m", check=True)
    for xorb in xet_hub.store.cas.rglob("xorbs/default.*"):
        if not xorb.name.endswith(".tagset"):
            damage(xorb)
    result = owner.run("model", "pull", "me/m", "got")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert not (owner.cwd / "got").exists()


def test_xet_a_reply_that_is_lost_makes_no_second_commit(xet_hub, tmp_path, encrypted):
    owner = client_of(xet_hub, tmp_path)
    xet_hub.faults.table.append(Fault(COMMIT, "drop"))
    owner.run("model", "push", encrypted, "me/m", check=True)
    assert len(xet_hub.store.repos["me/m"].history("main")) == 2


def test_xet_a_refused_write_token_is_one_clear_line(xet_hub, tmp_path, encrypted):
    owner = client_of(xet_hub, tmp_path)
    xet_hub.faults.table.append(Fault("xet-write-token", "status", status=403, times=None))
    assert_one_line(owner.run("model", "push", encrypted, "me/m"), "a token that may not do this|40[13]")


@pytest.mark.parametrize("redirect", [False, True], ids=["one origin", "two origins"])
def test_multipart_uploads_and_redirected_downloads(redirect, hub, owner, encrypted):
    hub.store.multipart_bytes, hub.store.redirect = 1_000_000, redirect
    owner.run("model", "push", encrypted, "me/m", check=True)
    assert sum("PUT /upload" in exchange.request for exchange in hub.storage_faults.log) == 3
    owner.run("model", "pull", "me/m", "got", check=True)
    owner.run("model", "info", "hf-hub:me/m", check=True)
    assert contents(owner.cwd / "got") == contents(encrypted)
    assert bool([e for e in hub.storage_faults.log if "/download/" in e.request]) == redirect
