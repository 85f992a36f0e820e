"""What an attack may spend: its budget, its source of chance, and the amounts of its curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from timm_encmixer.errors import AuditError

T = TypeVar("T")
BUDGETS = ("quick", "full")


@dataclass(frozen=True)
class Budgeted:
    """A number that depends on the budget, the default of a parameter."""

    quick: int
    full: int


def budgeted(quick: int, full: int) -> int:
    """Return the default of a parameter whose number depends on the budget; `attack` finds the number of the run's budget."""
    return field(default=Budgeted(quick, full))  # type: ignore[return-value]  # as `dataclasses.field` is typed


@dataclass(frozen=True)
class Curve:
    """What is varied from run to run of one attack; the last value gives the attack's result.

    Args:
        setting: Name that `Target.hold` or the attack knows.
        label: What to write at the axis.
        quick: Values for the quick budget. A value above the amount of material takes all the material.
        full: Values for the full budget.
        amount: More of it helps the attacker. Then the report says the least amount that breaks the cipher.

    Raises:
        AuditError: No values, or values that are not numbers.
    """

    setting: str
    label: str
    quick: tuple[float, ...]
    full: tuple[float, ...]
    amount: bool = True

    def __post_init__(self) -> None:
        """Refuse a curve without points."""
        for budget in BUDGETS:
            values = getattr(self, budget)
            if not (values and are_numbers(values, 0)):
                expected = "a tuple of numbers from 0, such as (1, 10)"
                raise AuditError(f"Curve of {self.setting}: {budget}", expected, repr(values)[:100], "give such values")


def are_numbers(values: object, least: float) -> bool:
    """Whether this is a tuple or list of finite numbers, each at least `least`."""
    return isinstance(values, (tuple, list)) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf for value in values
    )


@dataclass(frozen=True)
class Effort:
    """What an attack may spend, the seed of its random numbers, and where it reports its progress.

    Args:
        budget: One of `BUDGETS`.
        seed: For everything that is left to chance.
        done: Called with the share of a run that was done since the last call.
    """

    budget: str
    seed: int
    done: Callable[[float], object] = field(default=lambda share: None, repr=False, compare=False)

    @property
    def generator(self) -> torch.Generator:
        """A fresh generator of this run."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def rng(self) -> np.random.Generator:
        """A fresh numpy generator of this run."""
        return np.random.default_rng(self.seed)

    def track(self, items: Sequence[T], *, share: float = 1.0) -> Iterator[T]:
        """Yield items, and report after each that its part of the work is done; all items together are `share` of the run."""
        for item in items:
            yield item
            self.done(share / len(items))
