"""What people expect of a public repository, where its files must agree with each other; `make check` holds them to schemas."""

from __future__ import annotations

import re

import lowest
import pytest
import yaml
from conftest import ROOT

import timm_encmixer as te

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def steps(name: str) -> list[dict]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def test_every_python_that_is_promised_is_tested():
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert len(promised) > 3
    assert workflow("ci")["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert f'requires-python = ">={promised[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_workflows_call_targets_that_there_are():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {
        step["run"].removeprefix("make ")
        for name in ("ci", "docs", "nightly")
        for step in steps(name)
        if step.get("run", "").startswith("make ")
    }
    assert {"setup", "check", "test", "docs", "dist", "nightly", "coverage", "lowest"} <= called <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_digest(path):
    """A tag can be moved to other code; Dependabot proposes new digests, and keeps the comment with the version."""
    used = re.findall(r"^ *(?:- )?uses: (.*)$", path.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_the_lowest_versions_are_those_that_are_promised():
    names = [requirement.partition("==")[0] for requirement in lowest.requirements()]
    assert len(names) == len(set(names)) > 12
    assert {"timm", "torch", "datasets", "scipy", "pyrage"} <= set(names)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_no_more_than_they_need(path):
    """Reading the code; and, for the two steps that publish, proving which workflow this is, to PyPI and to GitHub Pages."""
    content = yaml.safe_load(path.read_text())
    publishing = {"pypi-publish": {"id-token": "write"}, "deploy-pages": {"id-token": "write", "pages": "write"}}
    published = []
    for name, job in content["jobs"].items():
        found = [action for action in publishing for step in job["steps"] if action in step.get("uses", "")]
        expected = publishing[found[0]] if found else {"contents": "read"}
        assert job.get("permissions", content["permissions"]) == expected, name
        published += found
    assert published == {"release.yml": ["pypi-publish"], "docs.yml": ["deploy-pages"]}.get(path.name, [])
    assert "secrets." not in path.read_text()


def test_the_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == te.__version__
    assert f'license = "{citation["license"]}"' in (ROOT / "pyproject.toml").read_text()
    paper = citation["preferred-citation"]
    assert paper["url"].rpartition("/")[2] in (ROOT / "NOTICE").read_text()
    assert paper["title"] in (ROOT / "NOTICE").read_text()
