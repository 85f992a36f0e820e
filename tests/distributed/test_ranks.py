"""The same calls on one real process and on two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import assert_no_secret
from launch import launch
from ranks import SAMPLES

RANKS = Path(__file__).parent / "ranks.py"


@pytest.mark.nightly(only=("1",))
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_share_a_key_and_a_model_and_see_every_sample_once(processes, key, key_file, tmp_path):
    out = tmp_path / "out"
    run = launch(processes, RANKS, key_file, "convmixer_256_8_ks5_p4.cifar10", out, TIMM_ENCMIXER_KEY=str(key_file))
    results = [json.loads(path.read_text()) for path in sorted(out.glob("result-*.json"))]
    assert [result["processes"] for result in results] == [processes] * processes
    for result in results:
        assert result["fingerprint"] == key.fingerprint
        assert [result["same_weights"], result["record"], result["saved"]] == [True, True, True]
        for name in ("plain_loader", "second_epoch", "timm_prefetcher", "timm_no_prefetcher"):
            assert (result[name]["samples"], result[name]["distinct"]) == (SAMPLES, SAMPLES), name
            assert result[name]["largest_difference"] == 0.0
            assert result[name]["batches"] == {1: 7, 2: 4}[processes]
        assert result["no_key"].startswith("FileAccessError: /no/such/file: expected a key file")
        assert result["one_fails"] == "EncMixerError: here: expected this, got that; do so"
        assert result["keyless"].startswith("MissingKeyError: model: expected a key")
        assert "TargetExistsError" in result["taken"]
        if processes == 2:
            assert result["other_key"].startswith("ProcessError: key: expected the same on every process")
            assert result["different"] == (
                "ProcessError: thing: expected the same on every process, got 0 on process 0 and 1 on process 1; "
                "give every process the same"
            )
            assert result["other_model"].startswith("ProcessError: model: expected the same")
            assert result["other_cipher"].startswith("ProcessError: cipher: expected the same")
    assert results[0]["files"] == ["config.json", "model.safetensors"]
    assert {"config.txt", "key.yaml", "key._pickle", "key.json", "log.txt"} <= {path.name for path in out.iterdir()}
    assert_no_secret(key, out, run.stdout, run.stderr)
