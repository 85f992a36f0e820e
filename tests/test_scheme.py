from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import make_ciphers
import numpy as np
import pytest
from record_mutations import run
from timm.data.transforms import _str_to_pil_interpolation

import timm_encmixer as te
from timm_encmixer.ciphers.derivation import derive_map
from timm_encmixer.ciphers.parts import MAKERS
from timm_encmixer.errors import SchemeError
from timm_encmixer.scheme import CIPHERS, PARTS, facts_of
from timm_encmixer.scheme.preprocessing import Interpolation, Preprocessing

COMPAT = Path(__file__).parent / "compat"


@pytest.fixture
def scheme() -> te.Scheme:
    plain = Preprocessing(input_size=(3, 32, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    return te.Scheme(cipher="shuffle", patch_size=4, in_chans=3, fingerprint="0123456789abcdef", stem="stem.0", plain=plain)


def test_json_round_trip(scheme):
    assert te.Scheme.from_json(scheme.to_json()) == scheme
    assert te.Scheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


def test_defaults_and_properties():
    scheme = te.Scheme(patch_size=7)
    assert (scheme.cipher, scheme.in_chans, scheme.block_size, scheme.exact) == ("shuffle+negpos", 3, 147, True)
    assert not te.Scheme(patch_size=7, cipher="orthogonal").exact


def test_scrambling(scheme):
    scrambling = scheme.replace(cipher="orthogonal+scramble", grid=[8, 8], positions="pos_embed")
    assert (scrambling.version, scrambling.grid, scrambling.scrambles, scrambling.exact) == (3, (8, 8), True, False)
    assert te.Scheme.from_json(scrambling.to_json()) == scrambling
    assert scheme.replace(cipher="shuffle+scramble", grid=(8, 8)).exact


def test_frozen_and_hashable(scheme):
    with pytest.raises(AttributeError):
        scheme.cipher = "negpos"
    assert len({scheme, scheme.replace()}) == 1


def test_without_fingerprint(scheme):
    assert scheme.without_fingerprint().fingerprint is None
    assert scheme.fingerprint is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cipher": "rot13"}, "cipher: expected one of shuffle"),
        ({"cipher": "negpos+shuffle"}, "cipher"),
        ({"patch_size": 1}, "patch_size"),
        ({"patch_size": 33}, "patch_size"),
        ({"patch_size": "7"}, "patch_size"),
        ({"patch_size": True}, "patch_size"),
        ({"in_chans": 0}, "in_chans"),
        ({"in_chans": 1}, "plain.input_size"),
        ({"fingerprint": "xyz"}, "fingerprint"),
        ({"version": 2}, "version: expected 1, as its fields need, got 2; upgrade"),
        ({"version": 1, "constant": "pos_embed"}, "version: expected 2, as its fields need, got 1; upgrade"),
        ({"constant": 3}, "record: constant"),
        ({"positions": 3, "cipher": "scramble", "grid": (8, 8)}, "record: positions"),
        ({"cipher": "shuffle+scramble"}, "grid: expected rows and columns for the cipher shuffle.scramble, got none"),
        ({"grid": (8, 8)}, "record: grid: expected none for the cipher shuffle"),
        ({"positions": "pos_embed"}, "record: grid: expected none for the cipher shuffle"),
        *(
            ({"cipher": "scramble", "grid": grid}, "record: grid")
            for grid in [(8,), (0, 8), (8, 8.0), 8, (True, 8), (60000, 60000)]
        ),
        ({"cipher": "scramble", "grid": (8, 8), "version": 2}, "version: expected 3, as its fields need, got 2"),
    ],
)
def test_values_out_of_range(scheme, change, message):
    with pytest.raises(SchemeError, match=message):
        scheme.replace(**change)


@pytest.mark.parametrize(
    "record",
    [
        [],
        {},
        {"version": 2, "patch_size": 4},
        {"version": 1},
        {"version": 1, "patch_size": 4, "surprise": 1},
        {"version": 1, "patch_size": 4, "plain": {"mean": [0.5]}},
        {"version": 1, "patch_size": 4, "plain": 3},
        {"version": 1, "patch_size": 4, "plain": {"input_size": [3, 32, 32], "mean": [0, 0, 0], "std": [1, 1, 0]}},
        {"version": 1, "patch_size": 4, "plain": {"input_size": [3, 32, 32], "mean": [0, 0, 0], "std": [1, 1]}},
        {"version": 1, "patch_size": 4, "plain": {"input_size": [3, 32, 10**9], "mean": [0, 0, 0], "std": [1, 1, 1]}},
        {"version": 1, "patch_size": 4, "plain": {"input_size": [3, 32, 32], "mean": ["a", 0, 0], "std": [1, 1, 1]}},
        {"version": 1, "patch_size": 4, "plain": {"input_size": 7, "mean": [0, 0, 0], "std": [1, 1, 1]}},
    ],
)
def test_malformed_records(record):
    with pytest.raises(SchemeError):
        te.Scheme.from_dict(record)


PLAIN = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plain": {**PLAIN, "crop_pct": 1e-200}}, "plain.crop_pct: expected a share from 0.01 to 2, got 1e-200"),
        ({"plain": {**PLAIN, "mean": [10**400, 0, 0]}}, "plain.mean: expected numbers from -1000000"),
        ({"plain": {**PLAIN, "std": [True, 1, 1]}}, "plain.std"),
        ({"plain": {**PLAIN, "interpolation": "evil"}}, "plain.interpolation: expected a filter of timm's, got 'evil'"),
        ({"plain": {**PLAIN, "crop_mode": "foo"}}, "plain.crop_mode: expected a crop mode of timm's, got 'foo'"),
        ({"plain": {**PLAIN, "more": 1}}, "plain: expected the fields .*, got 'more'"),
        ({"fingerprint": None}, "fingerprint: expected the key's fingerprint, got none"),
        ({"version": True}, "version: expected 1 to 5, got True"),
        ({"version": 1.0}, "version: expected 1 to 5, got 1.0"),
        ({"cipher": "orthogonal", "patch_size": 32, "in_chans": 16}, "in_chans: expected blocks of up to 4096 numbers"),
        ({"patch_size": 32, "in_chans": 1024}, "in_chans: expected blocks of up to 262144 numbers"),
        ({"stem": 3}, "stem: expected a module's name, got 3"),
        ({"base_architecture": ["x"]}, "base_architecture: expected a name of timm's"),
    ],
)
def test_records_that_ask_for_what_nobody_may(change, message):
    """Work that a record asks for is bounded before it begins, and its names are among timm's."""
    record = {"version": 1, "patch_size": 4, "fingerprint": "0" * 16, **change}
    with pytest.raises(SchemeError, match=message) as caught:
        te.Scheme.from_dict(record, where="config.json: record")
    assert str(caught.value).startswith("config.json: record")


def test_names_are_timms():
    assert set(get_args(Interpolation)) == set(_str_to_pil_interpolation)


def test_mutated_documents_are_one_error_each(tmp_path):
    """A few; `python tests/record_mutations.py` does 20,000 of each kind."""
    found = run(20, 3, tmp_path)
    assert set(found) == {
        "image record",
        *(f"{kind} {version}" for kind in ("record", "config", "header") for version in "123"),
    }
    assert all(figures["refused"] > 0 for figures in found.values())


@pytest.mark.parametrize("text", ["", "{", "null", "[1]"])
def test_text_that_is_no_record(text):
    with pytest.raises(SchemeError):
        te.Scheme.from_json(text)


@pytest.mark.parametrize("path", sorted(COMPAT.glob("record-*.json")), ids=lambda path: path.name)
def test_old_records_keep_loading(path):
    record = json.loads(path.read_text())
    assert te.Scheme.from_dict(record).to_dict() == record


# the table of ciphers


def test_what_is_made_from_the_table_is_what_is_written():
    assert make_ciphers.CLIENT.read_text() == make_ciphers.client(), "run make ciphers, then make web"
    for page in make_ciphers.PAGES:
        text = page.read_text()
        assert make_ciphers.written(text) == text, f"{page}: run make ciphers"
        assert any(f"made by `make ciphers`: {name}" in text for name in make_ciphers.TABLES)


def test_every_part_has_a_derivation_vectors_and_a_line_in_the_format():
    vectors = json.loads((Path(__file__).parent / "vectors" / "format-1.json").read_text())
    known = {part for case in vectors["cases"] for cipher in case["ciphers"] for part in cipher["cipher"].split("+")}
    written = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
    assert known == set(PARTS)
    assert set(MAKERS) == {name for name, part in PARTS.items() if part.moves != "blocks"}
    assert all(f"| `{name}` |" in written for name in PARTS)


@pytest.mark.parametrize("name", CIPHERS)
def test_the_table_says_what_the_maps_do(name):
    """Not what a name promises: the derived map itself is looked at."""
    facts, grid = facts_of(name), (2, 3)
    scheme = te.Scheme(cipher=name, patch_size=8, grid=grid if facts.scrambles else None)
    maps = [derive_map(te.SecretKey(bytes(range(first, first + 32))), scheme) for first in range(6)]
    matrices = [mapping.matrix for mapping in maps]
    channel, block = np.arange(192) // 64, np.random.default_rng(0).random(192) - 0.5
    across = channel[:, None] != channel
    assert all((mapping.order is not None) == facts.scrambles for mapping in maps)
    assert all(np.allclose(matrix @ matrix.T, np.eye(192), atol=1e-10) for matrix in matrices)
    assert any(np.abs(matrix)[across].max() > 0 for matrix in matrices) == facts.mixes_channels
    assert all(np.isclose((matrix @ block).mean(), block.mean()) for matrix in matrices) == facts.keeps_means
    gathers = [mapping.gather for mapping in maps if mapping.gather is not None]
    assert len(gathers) == (len(maps) if facts.exact else 0)
    if gathers:
        assert any(gather.negative.any() for gather in gathers) == facts.inverts
        assert all(np.array_equal(gather.source, np.arange(192)) for gather in gathers) != facts.moves


def test_facts_of_parts_and_ciphers():
    assert {name for name in CIPHERS if facts_of(name).takes_jpeg} == set(te.JPEG_CIPHERS) == {"etc", "etc+scramble"}
    assert set(te.BLOCK_CIPHERS) | set(te.SCRAMBLING_CIPHERS) == set(te.CIPHERS)
    assert facts_of("shuffle+scramble").within_blocks == facts_of("shuffle")
    assert facts_of("scramble").within_blocks is None
    assert [facts_of("etc").fits(side) for side in (4, 8, 14, 16)] == [False, True, False, True]
    for wrong in ("rot13", "negpos+shuffle", None, ["shuffle"]):
        with pytest.raises(SchemeError, match="cipher: expected one of shuffle"):
            facts_of(wrong)


def test_a_record_of_shuffle_planes(scheme):
    planes = scheme.replace(cipher="shuffle-planes")
    assert (planes.version, planes.ciphertext_mean, planes.ciphertext_std) == (5, planes.plain.mean, planes.plain.std)
    assert scheme.ciphertext_mean == scheme.ciphertext_std == (0.5, 0.5, 0.5)
    assert te.Scheme.from_json(planes.to_json()) == planes
    with pytest.raises(SchemeError, match="record: constant: expected none for the cipher shuffle-planes"):
        planes.replace(constant="pos_embed")
    with pytest.raises(SchemeError, match="version: expected 5, as its fields need, got 1"):
        te.Scheme.from_dict({**planes.to_dict(), "version": 1})
