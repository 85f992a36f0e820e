"""Tests marked `nightly` run every night, in a scheduled workflow; each other run may take a random share of them.

pytest -m nightly                                        # all of them (`make nightly`)
pytest --nightly-share 0.1                               # all others, and a tenth of them; the seed is printed
pytest --nightly-share 0.1 --nightly-seed 12345          # the same tenth again
pytest tests/test_docs.py::test_of_that_name             # a test that is named runs, whatever its marks

`@pytest.mark.nightly` marks all cases of a parametrised test, `@pytest.mark.nightly(but=("etc",))` all but the case `etc`,
and `@pytest.mark.nightly(only=("etc",))` that case.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

MARK = "nightly"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nightly")
    group.addoption("--nightly-share", type=float, default=0.0, help="run this share of the nightly tests too, from 0 to 1 [0]")
    group.addoption("--nightly-seed", type=int, default=None, help="which share it is [random, and printed]")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if is_worker(config):
        config.option.nightly_seed = config.workerinput["nightly_seed"]
    elif config.option.nightly_seed is None:
        config.option.nightly_seed = random.SystemRandom().randrange(10**6)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each of xdist's workers the seed: they collect the tests by themselves, and must choose the same ones."""
    node.workerinput["nightly_seed"] = node.config.option.nightly_seed


def repeat(config: pytest.Config) -> str:
    return f"--nightly-share {config.option.nightly_share:g} --nightly-seed {config.option.nightly_seed}"


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.option.nightly_share and reporter is not None and not is_worker(session.config):
        reporter.write_line(f"a share of the nightly tests, the same again by: pytest {repeat(session.config)}")


def share_of(names: list[str], share: float, seed: int) -> set[str]:
    """Return a random share of some tests, rounded up: the same ones for the same names and seed."""
    return set(random.Random(seed).sample(sorted(names), math.ceil(share * len(names))))


@pytest.hookimpl(tryfirst=True)  # before pytest looks at marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the nightly tests out, but for the share; not where tests were chosen by -m or by name.

    Warnings are no errors in them: a run of a tenth by chance is not to fail for a library's news.
    """
    _unmark_exceptions(items)
    for item in items:
        if item.get_closest_marker(MARK):
            item.add_marker(pytest.mark.filterwarnings("default"))
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    nightly = [item.nodeid for item in items if item.get_closest_marker(MARK)]
    left_out = set(nightly) - share_of(nightly, config.option.nightly_share, config.option.nightly_seed)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def _unmark_exceptions(items: list[pytest.Item]) -> None:
    """Take the mark off the cases that it does not mean."""
    for item in items:
        case = item.nodeid.removesuffix("]").partition("[")[2]
        item.own_markers[:] = [mark for mark in item.own_markers if mark.name != MARK or _means(mark, case)]


def _means(mark: pytest.Mark, case: str) -> bool:
    return case not in mark.kwargs.get("but", ()) and case in mark.kwargs.get("only", (case,))
