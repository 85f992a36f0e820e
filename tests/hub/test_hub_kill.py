"""Killing push and pull: repository and cache are whole or unchanged every time, and the next run finishes."""

from __future__ import annotations

import hashlib
import random
import signal
import time

import pytest
from faults import Fault
from loopback import contents

ROUNDS = 6  # in each of four tests: 24 kills


def kill_at(hub, running: list, request: int, delay: float) -> None:
    """Kill a process `delay` seconds after its n-th request came in."""

    def kill() -> None:
        time.sleep(delay)
        running[0].kill()

    for faults in (hub.faults, hub.storage_faults):
        faults.table[:] = [Fault(".", "call", skip=request, call=kill)]


def assert_cache_is_whole(client) -> None:
    """Every blob that has its final name holds what the name says."""
    for blob in client.cache.glob("models--*/blobs/*"):
        if blob.suffix != ".incomplete":
            content = blob.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            assert blob.name in (hashlib.sha256(content).hexdigest(), git), blob


@pytest.mark.nightly(but=("1",))
@pytest.mark.parametrize("seed", [1, 2])
def test_push(seed, hub, owner, encrypted):
    rng, killed = random.Random(seed), 0
    for number in range(ROUNDS):
        hub.store.uploads.clear()
        running = []
        kill_at(hub, running, rng.randrange(0, 9), rng.choice([0, rng.uniform(0, 0.02)]))
        running.append(owner.start("model", "push", encrypted, f"me/m{number}"))
        killed += running[0].wait() == -signal.SIGKILL
        repo = hub.store.repos.get(f"me/m{number}")
        sent = {name: file.content for name, file in repo.head.files.items()} if repo is not None else {}
        whole = {"README.md", "config.json", "model.safetensors"} <= set(sent)
        assert whole or set(sent) <= {".gitattributes"}
        assert not whole or all(sent[name] == content for name, content in contents(encrypted).items())
        hub.faults.table.clear(), hub.storage_faults.table.clear()
        owner.run("model", "push", encrypted, f"me/m{number}", check=True)
        repo = hub.store.repos[f"me/m{number}"]
        assert len(repo.history("main")) == 2
        assert all(repo.head.files[name].content == content for name, content in contents(encrypted).items())
    assert killed >= ROUNDS // 2


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [3, 4])
def test_pull(seed, hub, owner, encrypted):
    rng, killed = random.Random(seed), 0
    for number in range(ROUNDS):
        hub.store.repo(f"me/m{number}", contents(encrypted), private=True)
        running, target = [], owner.cwd / f"got{number}"
        kill_at(hub, running, rng.randrange(0, 6), rng.choice([0, rng.uniform(0, 0.05)]))
        running.append(owner.start("model", "pull", f"me/m{number}", target))
        killed += running[0].wait() == -signal.SIGKILL
        assert_cache_is_whole(owner)
        assert not target.exists() or contents(target) == contents(encrypted)
        hub.faults.table.clear(), hub.storage_faults.table.clear()
        owner.run("model", "pull", f"me/m{number}", target, "--force", check=True)
        assert contents(target) == contents(encrypted)
        assert_cache_is_whole(owner)
    assert killed >= ROUNDS // 2
