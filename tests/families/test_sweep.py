"""Every architecture of timm: encrypted or refused with a reason, as docs/models.md says."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
from pathlib import Path

import pytest
import timm

sys.path.insert(0, str(Path(__file__).parent))
import make_models

from timm_encmixer.models import families, listing
from timm_encmixer.models.families import examine
from timm_encmixer.models.support import Support, Table

PARTS = 40  # of the names, so that workers share them, and a run takes some of them at random
KNOWN = Table.read()
TABLE = KNOWN.models


def kind(name: str) -> tuple[object, ...]:
    """What makes a model another case: its class, patch side and constant, why it is refused and why its blocks stay."""
    support = TABLE[name]
    return support.family, support.patch_size, support.constant, support.refused, support.unscrambled


def one_of_each_kind() -> list[str]:
    """The last by name: tiny and small come after base and large."""
    return list({kind(name): name for name in sorted(set(TABLE) & set(families.all_names()))}.values())


def examine_again(names: list[str]) -> None:
    found = {name: examine(name) for name in names if name in TABLE}
    wrong = {name: support for name, support in found.items() if support != TABLE[name]}
    assert not wrong, "run `make models` and read what has changed"


@pytest.mark.nightly(but=("2",))
@pytest.mark.parametrize("part", range(4))
def test_what_is_encrypted_and_what_is_refused(part):
    names = one_of_each_kind()
    assert len(names) > 100
    examine_again(names[part::4])


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(PARTS))
def test_every_model_is_encrypted_or_refused(part):
    examine_again(families.all_names()[part::PARTS])


def test_the_page_is_the_table():
    version = make_models.PAGE.read_text().split("timm ", 1)[1].split(";", 1)[0]
    assert make_models.PAGE.read_text() == make_models.page(TABLE.values(), version)
    assert KNOWN.timm == version
    if timm.__version__ == version:
        assert set(TABLE) == set(families.all_names())


def test_the_table_is_what_make_models_writes():
    written = make_models.table(TABLE.values()) if timm.__version__ == KNOWN.timm else KNOWN
    assert written == KNOWN
    assert KNOWN.to_json() == make_models.TABLE.read_text()


def test_a_person_finds_what_the_design_measured():
    supported = [support for support in TABLE.values() if support.supported]
    assert len(supported) > 400
    assert {support.family for support in supported} >= {
        "ConvMixer",
        "VisionTransformer",
        "SwinTransformer",
        "MlpMixer",
        "ConvNeXt",
    }
    assert "got 2 (patch_embed.0.proj, patch_embed.1.proj)" in TABLE["crossvit_tiny_240"].refused
    assert TABLE["resnet50"].refused.endswith("got kernel (7, 7), stride (2, 2)")
    assert "got Linear" in TABLE["naflexvit_base_patch16_gap"].refused
    assert TABLE["vit_base_patch32_clip_224"].constant == "pos_embed"
    assert TABLE["fasternet_t0"].constant == "patch_embed.norm.running_mean"
    assert TABLE["vit_pe_core_base_patch16_224"].constant == "none needed"


def test_the_page_of_families_names_every_class_and_its_numbers_are_the_tables():
    page = (make_models.ROOT / "docs" / "families.md").read_text()
    supported = [support for support in TABLE.values() if support.supported]
    assert f"{len(supported)} of timm's {len(TABLE)} architectures" in page
    rows = page.partition("## Families")[2].partition("\n\n##")[0]
    named = {word for line in rows.splitlines() if line.count("|") == 4 for word in line.split("|")[2].split(", ")}
    named = {word.strip() for word in named}
    assert {support.family for support in supported} <= named


def test_find():
    assert [support.name for support in listing.find("convmixer_*")] == [
        "convmixer_256_8_ks5_p4",
        "convmixer_768_32",
        "convmixer_1024_20_ks9_p14",
        "convmixer_1536_20",
    ]
    assert {support.family for support in listing.find(search="FASTER")} == {"FasterNet"}
    assert all(isinstance(support, Support) for support in listing.find("vit_tiny*"))
    assert [support.name for support in listing.find() if support.name in TABLE] == families.all_names()
    with pytest.raises(ValueError, match=r"a pattern of timm's names, such as 'vit_\*', got 'nothing\*'"):
        listing.find("nothing*")


def test_what_another_timm_has_is_examined(monkeypatch):
    """Of another timm than the table's the names are timm's, and what the table lacks is examined."""
    lacking = dataclasses.replace(KNOWN, timm="0.1", models={})
    monkeypatch.setattr(Table, "read", lambda: lacking)
    assert listing.find("convmixer_768_32") == [TABLE["convmixer_768_32"]]


def test_names_are_known_without_timm():
    assert all(map(listing.is_model, ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "convmixer_custom", "adv_inception_v3"]))
    assert not listing.is_model("vit_tinny_patch16_224")
    tiny = listing.similar_names("vit_tinny_patch16_224.x", otherwise="")
    assert tiny.startswith("did you mean vit_tiny_patch16_224 or ")
    ours = listing.similar_names("encmixer_256_8_ks5_p5", otherwise="")
    assert ours.startswith("did you mean convmixer_256_8_ks5_p4")
    assert listing.similar_names("qqq", otherwise="look") == "look"


def test_without_timm_the_table_is_all_that_is_known(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert KNOWN.is_of_this_timm
    assert len(listing.find("convmixer*")) == 4
