"""Agreement of two orders against loops over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetl.ranking.kendall import weighted_tau


def test_equal_and_opposite_orders() -> None:
    assert weighted_tau([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert weighted_tau([4, 3, 2, 1], [10, 20, 30, 40]) == pytest.approx(-1)


def test_a_mistake_at_the_top_costs_more() -> None:
    truth = [5, 4, 3, 2, 1]
    assert weighted_tau([4, 5, 3, 2, 1], truth) < weighted_tau([5, 4, 3, 1, 2], truth) < 1


def test_against_loops_with_ties() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 9), rng.permutation(9)
    position = {i: p for p, i in enumerate(sorted(range(9), key=lambda i: -b[i]))}
    top = left = right = 0.0
    for i in range(9):
        for j in range(i):
            w = 1 / (1 + position[i]) + 1 / (1 + position[j])
            sa, sb = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            top, left, right = top + w * sa * sb, left + w * sa**2, right + w * sb**2
    assert weighted_tau(a.tolist(), b.tolist()) == pytest.approx(top / np.sqrt(left * right))


def test_nothing_to_compare_and_wrong_lengths() -> None:
    assert math.isnan(weighted_tau([1], [2]))
    assert math.isnan(weighted_tau([1, 1], [2, 3]))
    with pytest.raises(ValueError, match="one length"):
        weighted_tau([1, 2], [1])
