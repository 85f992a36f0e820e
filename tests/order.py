"""The slowest tests first, dealt out to the workers: a long one that begins last keeps the others waiting at the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

SLOWEST = (  # functions, by `pytest --durations=50`; an order of tests, and no claim about them
    "test_a_run_killed_before_any_of_its_steps_is_finished_by_the_next_one",
    "test_all_pages_can_be_followed_one_after_the_other",
    "test_an_audit_gives_these_figures_again",
    "test_a_run_killed_at_a_random_moment_is_finished_by_the_next_one",
    "test_training_on_ciphertext_takes_the_path_of_plain_training",
    "test_evaluation_gives_the_same_figures_on_one_process_and_on_two",
    "test_a_third_party_fine_tunes_what_it_cannot_see",
    "test_adam_keeps_the_path_for_signed_permutations_only",
    "test_bfloat16_evaluation_reports_its_own_floor",
    "test_one_process_where_two_were_asked_for_is_said",
    "test_what_is_encrypted_and_what_is_refused",
    "test_memory_does_not_grow_with_the_file",
    "test_cheap_cells_come_out_again",
    "test_a_page_can_be_followed_after_the_readme",
)
_Item = TypeVar("_Item")


def dealt(slow: Sequence[_Item], others: Sequence[_Item], workers: int) -> list[_Item]:
    """Return all tests in an order that xdist cuts into as many equal parts (the last has what is left over).

    Each part begins with its share of the slow ones.

    Args:
        slow: The slowest first.
        others: The rest, which stay in their order: neighbours share fixtures.
        workers: How many parts.
    """
    size, begun, ordered = (len(slow) + len(others)) // workers, 0, list[_Item]()
    for worker in range(workers):
        own = slow[worker::workers]
        end = begun + max(0, size - len(own))
        ordered += [*own, *others[begun:end]]
        begun = end
    return [*ordered, *others[begun:]]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order what was chosen; where one process runs all of it, the order stays."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        places = {name: place for place, name in enumerate(SLOWEST)}
        rank = {item.nodeid: places.get(item.name.partition("[")[0], len(SLOWEST)) for item in items}
        slow = sorted((item for item in items if rank[item.nodeid] < len(SLOWEST)), key=lambda item: rank[item.nodeid])
        items[:] = dealt(slow, [item for item in items if rank[item.nodeid] == len(SLOWEST)], workers)
