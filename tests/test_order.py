"""tests/order.py: no test is lost, and every part begins with slow ones."""

from __future__ import annotations

from pathlib import Path

import order
import pytest


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
@pytest.mark.parametrize(("slow", "others"), [(0, 10), (5, 0), (6, 95), (40, 3)])
def test_every_test_runs_once_and_the_slow_ones_begin_the_parts(slow, others, workers):
    slow_ones, rest = [-number for number in range(1, slow + 1)], list(range(others))
    ordered = order.dealt(slow_ones, rest, workers)
    assert sorted(ordered) == sorted([*slow_ones, *rest])
    assert [number for number in ordered if number >= 0] == rest
    if slow >= workers and others > slow * workers:
        size = len(ordered) // workers
        assert [ordered[size * worker] for worker in range(workers)] == slow_ones[:workers]


def test_the_slow_tests_are_there():
    code = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name in order.SLOWEST if f"def {name}(" not in code] == []
