"""The house: who may import whom, what is public, and what a size or a dependency may be."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from importlib.metadata import requires, version

import pytest
from conftest import ROOT

import timm_encmixer as te
from timm_encmixer import errors

if sys.version_info >= (3, 11):
    import tomllib

PACKAGE = ROOT / "timm_encmixer"
OURS = (".j2", ".py", ".pyc", ".pyi", ".typed")


def test_the_command_line_imports_nothing_slow_at_its_top():
    trees = [ast.parse(path.read_text()) for path in (PACKAGE / "cli").glob("*.py")]
    top = {ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert len(trees) > 5
    assert not [line for line in top if re.search(r"torch|timm\b|numpy|PIL|accelerate|huggingface", line)]


def test_public_names():
    for name in te.__all__:
        assert getattr(te, name).__doc__ or name.endswith("CIPHERS")
    assert {"SecretKey", "Scheme", "BlockCipher", "encrypt_model", "create_transform", "push_to_hub"} <= set(te.__all__)
    assert set(te.__all__) <= set(dir(te))
    with pytest.raises(AttributeError, match=r"attribute '?nothing"):
        _ = te.nothing


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi")))
def test_public_names_of_folders(folder):
    module = importlib.import_module(f"timm_encmixer.{folder}")
    assert module.__all__
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name) is not None


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
    assert core == {
        "timm",
        "numpy",
        "pillow",
        "psutil",
        "torch",
        "safetensors",
        "huggingface-hub",
        "accelerate",
        "cryptography",
        "click",
        "tqdm",
        "lazy-loader",
        "msgspec",
    }
    assert set(project["optional-dependencies"]) >= {"data", "audit", "seal", "test", "dev", "docs"}
    assert requires("timm-encmixer")


def test_bundled_files_are_small_and_all_of_them_are_attributed():
    """NOTICE names every file that others made or that was made of their images, or its folder; and what it names is there."""
    weights = PACKAGE / "weights" / "convmixer_256_8_ks5_p4.cifar10" / "model.safetensors"
    assert weights.stat().st_size < 4_000_000
    notice = (ROOT / "NOTICE").read_text()
    paths = {ROOT / name for name in re.findall(r"timm_encmixer/[\w./-]+\w", notice)}
    assert all(path.exists() for path in paths), paths
    data = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in OURS and path.name != "families.json"}
    data = {path for path in data if PACKAGE / "web" / "page" not in path.parents}  # ours too
    assert len(data) > 6
    assert not {path for path in data if path.name not in notice and not paths & set(path.parents)}
