"""The encrypted model computes what the plain one does: a small member of every class, patch side and constant fold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from exactness import BOUND, measure

from timm_encmixer.models.support import Table

TABLE = Table.read().models
RECORDED, RECORDED_ETC = (Path(__file__).parent / name for name in ("exactness.jsonl", "exactness-etc.jsonl"))
SHALLOW = {"depth": 2, "num_classes": 10}
SMALL = {"pretrained_cfg_overlay": {"input_size": (3, 64, 64)}}  # for those that take any size
MEMBERS = {
    "aimv2_large_patch14_224": {**SHALLOW, "img_size": 56},
    "beit_base_patch16_224": SHALLOW,
    "cait_xxs24_224": SHALLOW,
    "coat_tiny": {"img_size": 64},
    "convit_tiny": SHALLOW,
    "convmixer_1024_20_ks9_p14": {"pretrained_cfg_overlay": {"input_size": (3, 56, 56)}},
    "convmixer_768_32": {"pretrained_cfg_overlay": {"input_size": (3, 28, 28)}},
    "deepseek_vit_412m": {**SHALLOW, "img_size": 140},
    "deepseek_vit_412m_enc": {"depth": 2, "img_size": 140},
    "deit_tiny_distilled_patch16_224": {"img_size": 64},
    "edgenext_xx_small": SMALL,
    "eva02_tiny_patch14_224": {},
    "eva_giant_patch14_224": {**SHALLOW, "img_size": 56},
    "fasternet_t0": SMALL,
    "focalnet_tiny_srf": SMALL,
    "gmlp_ti16_224": {"img_size": 64},
    "inception_next_atto": SMALL,
    "mixer_s32_224": {},
    "nest_tiny": {},
    "qwen3_vit_88m": {**SHALLOW, "img_size": 128},
    "qwen3_vit_88m_enc": {"depth": 2, "img_size": 128},
    "rdnet_tiny": SMALL,
    "resmlp_big_24_224": {"img_size": 64},
    "samvit_base_patch16_224": SHALLOW,
    "sequencer2d_s": {"layers": (1, 1, 1, 1), "pretrained_cfg_overlay": {"input_size": (3, 28, 28)}},
    "swin_tiny_patch4_window7_224": {"img_size": 56},
    "swinv2_cr_tiny_224": {"img_size": 64},
    "swinv2_tiny_window8_256": {"img_size": 64},
    "test_convnext": SMALL,
    "test_vit": {},
    "test_vit_relpos": {},
    "twins_svt_small": {"img_size": 64},
    "vit_base_mci_224": SHALLOW,
    "vit_base_patch16_xp_224": SHALLOW,
    "vit_large_patch14_clip_quickgelu_224": SHALLOW,
    "vit_large_patch14_xp_224": SHALLOW,
    "vit_medium_patch32_clip_224": {},
    "vit_pe_core_large_patch14_336": {**SHALLOW, "img_size": 56},
    "vit_pe_core_tiny_patch16_384": {"img_size": 64},
    "vit_relpos_base_patch32_plus_rpn_256": SHALLOW,
    "vit_small_patch14_dinov2": {"img_size": 140},
    "vit_small_patch32_224": {},
    "vit_small_patch8_224": SHALLOW,
    "vit_tiny_patch16_dinov3_qkvb": {"img_size": 64},
    "vit_xsmall_patch16_clip_224": {},
}


ON_A_PUSH = {  # every constant fold, with and without scrambling, and every patch side; small ones. The others are nightly.
    "cait_xxs24_224",
    "convit_tiny",
    "convmixer_768_32",
    "deit_tiny_distilled_patch16_224",
    "fasternet_t0",
    "mixer_s32_224",
    "test_convnext",
    "test_vit",
    "test_vit_relpos",
    "vit_base_mci_224",
    "vit_base_patch16_xp_224",
    "vit_pe_core_tiny_patch16_384",
    "vit_small_patch14_dinov2",
    "vit_small_patch8_224",
    "vit_xsmall_patch16_clip_224",
}


def members(names):
    return [name if name in ON_A_PUSH else pytest.param(name, marks=pytest.mark.nightly) for name in names]


def kind(name):
    """What makes a model another case: class, patch side, constant fold, and whether blocks can be scrambled."""
    support = TABLE[name]
    return support.family, support.patch_size, support.constant, not support.unscrambled


def test_every_kind_has_a_member():
    kinds = {kind(name) for name, support in TABLE.items() if support.supported}
    missing = kinds - {kind(name) for name in MEMBERS}
    assert not missing


def test_a_push_measures_every_fold_and_patch_side():
    for of in (lambda support: (support.constant, not support.unscrambled), lambda support: support.patch_size):
        assert {of(TABLE[name]) for name in ON_A_PUSH} == {of(support) for support in TABLE.values() if support.supported}


@pytest.mark.parametrize("name", members(MEMBERS))
def test_a_member_is_exact(name):
    result = measure(name, scramble=not TABLE[name].unscrambled, images=2, **MEMBERS[name])
    del result["model"]
    assert result.pop("wrong") > 1e5 * BOUND, "the answer does not depend on the image: the comparison shows nothing"
    assert len(result) == 2 + (not TABLE[name].unscrambled)
    assert max(result.values()) < BOUND


ETC_MEMBERS = [  # one of each constant fold, with and without scrambling
    "beit_base_patch16_224",
    "gmlp_ti16_224",
    "qwen3_vit_88m",
    "vit_base_patch16_xp_224",
    "vit_medium_patch32_clip_224",
    "vit_pe_core_tiny_patch16_384",
    "vit_small_patch8_224",
]


def test_every_constant_fold_has_a_member_with_etc():
    kinds = {(support.constant, not support.unscrambled) for support in TABLE.values() if support.takes_jpeg}
    assert kinds - {(TABLE[name].constant, not TABLE[name].unscrambled) for name in ETC_MEMBERS} == set()


@pytest.mark.nightly
@pytest.mark.parametrize("name", members(ETC_MEMBERS))
def test_a_member_is_exact_with_etc(name):
    result = measure(name, scramble=not TABLE[name].unscrambled, images=2, cipher="etc", **MEMBERS[name])
    del result["model"]
    assert result.pop("wrong") > 1e5 * BOUND
    assert max(result.values()) < BOUND


def recorded(path: Path) -> list[dict]:
    """What `python tests/families/exactness.py --out ...` measured once, of whole models, the smallest first."""
    return [json.loads(line) for line in path.read_text().splitlines()]


SMALLEST = [(name, row) for name, path in (("shuffle+negpos", RECORDED), ("etc", RECORDED_ETC)) for row in recorded(path)[:30]]


@pytest.mark.nightly
@pytest.mark.parametrize(("cipher", "row"), SMALLEST, ids=[f"{cipher}-{row['model']}" for cipher, row in SMALLEST])
def test_whole_models_are_exact_again(cipher, row):
    """Of the recording: the smallest. What is measured and what is recorded have the same fields, and no difference."""
    again = measure(row["model"], scramble=not TABLE[row["model"]].unscrambled, cipher=cipher)
    assert set(again) == set(row)
    for result in (again, row):
        assert max(value for field, value in result.items() if field != "model") < BOUND


@pytest.mark.parametrize("path", [RECORDED, RECORDED_ETC])
def test_the_recording_is_of_models_that_the_table_has(path):
    names = [row["model"] for row in recorded(path)]
    assert len(set(names)) == len(names)
    assert set(names) <= {
        name for name, support in TABLE.items() if support.supported and (path is RECORDED or support.takes_jpeg)
    }


@pytest.mark.nightly(
    but=(
        "test_vit",
        "test_convnext",
    )
)
@pytest.mark.parametrize(
    "name", ["fasternet_t0", "test_convnext", "test_vit", "test_vit_relpos", "vit_xsmall_patch16_clip_224"]
)
def test_a_member_is_exact_with_shuffle_planes(name):
    """With a bias and without one, before a BatchNorm, before a position embedding, and with scrambled blocks."""
    scramble = not TABLE[name].unscrambled
    result = measure(name, scramble=scramble, images=2, cipher="shuffle-planes", **MEMBERS[name])
    del result["model"]
    assert result.pop("wrong") > 1e5 * BOUND
    assert max(result.values()) < BOUND
