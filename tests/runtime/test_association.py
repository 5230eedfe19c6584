"""Overlaps against the definition, pairs against what is seen by eye."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl_runtime.association import greedy_pairs, overlaps


def one(a: list[float], b: list[float]) -> float:
    wide = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    high = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return wide * high / max(sum(areas) - wide * high, 1e-9)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0), (1, 1), (7, 5)])
def test_overlaps_are_intersection_over_union(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    a, b = (np.concatenate([c, c + rng.uniform(0, 9, c.shape)], 1) for c in (rng.uniform(0, 9, (k, 2)) for k in (n, m)))
    found = overlaps(a, b)
    assert found.shape == (n, m)
    assert found.tolist() == [[pytest.approx(one(p, q)) for q in b.tolist()] for p in a.tolist()]


def test_boxes_without_area_overlap_nothing() -> None:
    flat = np.array([[1.0, 1.0, 1.0, 5.0], [2.0, 2.0, 2.0, 2.0]])
    assert overlaps(flat, flat).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], []),
        ([(0, 0, 0.5)], [(0, 0)]),
        ([(0, 0, 0.5), (0, 1, 0.9), (1, 1, 0.8)], [(0, 1)]),
        ([(0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.8), (1, 1, 0.1)], [(0, 0), (1, 1)]),
        ([(0, 1, 0.5), (0, 0, 0.5), (1, 0, 0.5)], [(0, 1), (1, 0)]),
    ],
    ids=str,
)
def test_the_best_pair_first(pairs: list[tuple[int, int, float]], expected: list[tuple[int, int]]) -> None:
    rows, columns, worth = (np.array([p[i] for p in pairs]) for i in range(3))
    taken = greedy_pairs(rows.astype(int), columns.astype(int), worth.astype(float))
    assert list(zip(*taken, strict=True)) == expected
