"""Who is tried for how long, and who wins."""

from __future__ import annotations

import math

import pytest

from edgetl.ranking.halving import halve


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, []), (2, [(2, 10)]), (3, [(3, 10), (2, 20)]), (5, [(5, 10), (3, 20), (2, 40)])],
)
def test_budgets_double_while_the_better_half_goes_on(count: int, expected: list[tuple[int, int]]) -> None:
    names = [f"n{i}" for i in range(count)]
    found = halve(names, lambda name, steps: float(name[1:]), steps=10)
    assert [(len(r.values), r.steps) for r in found.rungs] == expected
    assert found.order == tuple(reversed(names))


def test_the_last_round_decides() -> None:
    late = {"slow": {5: 0.3, 10: 0.9}, "quick": {5: 0.5, 10: 0.6}, "poor": {5: 0.1}}
    found = halve(["quick", "slow", "poor"], lambda name, steps: late[name][steps], steps=5)
    assert found.order == ("slow", "quick", "poor")


def test_equal_ones_keep_the_order_they_came_in() -> None:
    assert halve(["b", "a"], lambda *_: 0.5, steps=1).order == ("b", "a")


def test_a_trial_that_gives_nothing_is_last() -> None:
    assert halve(["a", "b"], lambda n, _: math.nan if n == "a" else 0.0, steps=1).order == ("b", "a")
