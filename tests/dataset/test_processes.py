"""Whole data sets on two real processes; kills at random moments; faults that end in one message and nothing half-written."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import processes
import psutil
import pytest
from conftest import assert_no_secret
from launch import command, env, errors, launch

import timm_encmixer as te
from timm_encmixer.datasets.ledger import Ledger

pytest.importorskip("datasets")
from sources import KINDS, parquet, tree

KILLS = Path(__file__).parent / "kills.py"


@pytest.fixture
def model(encrypted) -> Path:
    return encrypted


def arguments(src: Path, dst: Path, key_file: Path, model: Path) -> list[str]:
    return ["-m", "timm_encmixer", "dataset", "encrypt", *map(str, (src, dst, "--key", key_file, "--model", model))]


def test_two_processes_give_the_result_of_one(model, key, key_file, tmp_path):
    src = parquet(tmp_path / "src", shards=5)
    te.encrypt_dataset(src, tmp_path / "one", key_file, model, progress=False)
    run = launch(2, *arguments(src, tmp_path / "two", key_file, model))
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
    assert len(run.stdout.strip().splitlines()) == 1
    assert "written 5" in run.stdout
    assert_no_secret(key, tmp_path / "two", run.stdout, run.stderr)


def kill(*options: object, model: Path, key: Path, src: Path, out: Path) -> dict[str, float]:
    """Run kills.py, which compares what is finished after each kill with an undisturbed run, byte for byte."""
    out.mkdir()
    places = {"model": model, "key": key, "src": src, "out": out}
    words = [*map(str, options), *(word for name, value in places.items() for word in (f"--{name}", str(value)))]
    run = processes.run([str(KILLS), *words], env=env(), cwd=out)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [6, 30])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_killed_at_a_random_moment_is_finished_by_the_next_one(ranks, kills, model, key_file, tmp_path):
    src = parquet(tmp_path / "src", shards=6, rows=50)
    options = ("--processes", ranks, "--kills", kills, "--seed", kills)
    result = kill(*options, model=model, key=key_file, src=src, out=tmp_path / "out")
    assert result["kills"] == kills  # each met a run at work
    assert result["shards_kept"] > 0


@pytest.mark.nightly(but=("webdataset-2",))
@pytest.mark.parametrize(("kind", "real_kills"), [*((kind, 2) for kind in KINDS), ("parquet", -1)])
def test_a_run_killed_before_any_of_its_steps_is_finished_by_the_next_one(kind, real_kills, model, key_file, tmp_path):
    """Copies of the target stand for kills; a few real kills (for one kind one before each step) leave what the copies hold."""
    src = KINDS[kind](tmp_path / "src")
    (src / "README.md").write_text("# Photos\n")
    (src / "LICENSE").write_text("Free.\n")
    options = ("--every-step", "--real-kills", real_kills)
    result = kill(*options, model=model, key=key_file, src=src, out=tmp_path / "out")
    assert result["steps"] > 30
    assert result["real_kills"] == 2 if real_kills == 2 else result["real_kills"] > 30
    assert result["shards_kept"] > 0


def ranks(launcher: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [child for child in launcher.children(recursive=True) if "dataset" in child.cmdline()]
    return []


@pytest.mark.nightly
def test_a_process_that_dies_ends_the_run_and_the_next_one_finishes_it(model, key_file, tmp_path):
    src = parquet(tmp_path / "src", shards=8, rows=400)
    with (tmp_path / "stderr").open("wb") as said:
        words = [*command(2), *arguments(src, tmp_path / "ct", key_file, model)]
        run = processes.start(words, env=env(), cwd=tmp_path, err=said.fileno())
    launcher, found = psutil.Process(run.pid), []
    while len(found) < 2:  # before they are at work, as looking takes a while
        assert run.poll() is None
        found = ranks(launcher)
    while not list((tmp_path / "ct" / ".encmixer" / "tmp").glob("*/new/*")):
        assert run.poll() is None
        time.sleep(0.001)
    found[-1].kill()
    assert run.wait() != 0  # long before the other's patience ends: gloo has 30 minutes
    assert "SIGKILL" in (tmp_path / "stderr").read_text()
    whole = te.encrypt_dataset(src, tmp_path / "whole", key_file, model, progress=False)
    expected = tree(tmp_path / "whole")
    for path in (tmp_path / "ct").glob("*.parquet"):
        assert path.read_bytes() == expected[path.name]
    counts = te.encrypt_dataset(src, tmp_path / "ct", key_file, model, progress=False)
    assert counts.shards == whole.shards
    assert tree(tmp_path / "ct") == expected


@pytest.mark.nightly
def test_an_unreadable_shard_is_one_message_and_the_rest_can_go_on(model, key_file, tmp_path):
    src = parquet(tmp_path / "src", shards=4)
    shard = src / "train-00002-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-300])
    run = launch(2, *arguments(src, tmp_path / "ct", key_file, model), check=False)
    assert run.returncode != 0
    assert "exitcode  : 2" in run.stderr
    assert len(errors(run)) == 1
    assert f"{shard.name}: expected a readable shard, got a damaged one" in errors(run)[0]
    assert not (tmp_path / "ct" / shard.name).exists()
    assert not list((tmp_path / "ct" / ".encmixer" / "tmp").rglob("*.parquet"))


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(encmixer, model, key_file, tmp_path):
    src = parquet(tmp_path / "src", shards=2, rows=60)
    run = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model, file_bytes=60_000)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "expected a file to write" in run.stderr
    assert not list((tmp_path / "ct").glob("*.parquet"))
    done = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model)
    assert done.returncode == 0


def test_two_runs_at_once_do_not_meet(encmixer, model, key_file, tmp_path):
    src = parquet(tmp_path / "src", shards=2)
    ledger = Ledger(tmp_path / "ct")
    with ledger.locked():
        run = encmixer("dataset", "encrypt", src, "ct", "--key", key_file, "--model", model)
    assert run.returncode == 2
    assert "another run at work in it" in run.stderr


def test_a_system_without_locks_has_data_sets_too(model, key_file, tmp_path):
    parquet(tmp_path / "src", shards=2)
    code = """
import sys
sys.modules["fcntl"] = None  # as on a system that is not POSIX
import timm_encmixer as te
print(te.encrypt_dataset(*sys.argv[1:], progress=False).shards)
"""
    run = processes.run(["-c", code, "src", "ct", str(key_file), str(model)], env=env(), cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, "2\n"), run.stderr
