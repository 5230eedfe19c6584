"""Kernel and neighbour distances against naive loops, known answers, and chance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl.shift.distances import (
    FEWEST_GROUPS,
    Pair,
    draw_groups,
    kernel_distance,
    make_pair,
    neighbour_distances,
    neighbour_ratio,
    polynomial_kernel,
    standardised,
    swap_groups,
)
from edgetl_runtime.errors import InputError

Floats = NDArray[np.float64]


def sides(n: int = 30, m: int = 40, width: int = 6, move: float = 0.0, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)), rng.normal(size=(m, width)) + move


def naive_mmd2(x: Floats, y: Floats, gx: list[str], gy: list[str]) -> float:
    """The unbiased estimator as the paper writes it, pairs of one group left out."""

    def mean(a: Floats, ga: list[str], b: Floats, gb: list[str]) -> float:
        values = [
            (float(np.dot(p, q)) / len(p) + 1) ** 3
            for p, g in zip(a, ga, strict=True)
            for q, h in zip(b, gb, strict=True)
            if g != h
        ]
        return sum(values) / len(values)

    return mean(x, gx, x, gx) + mean(y, gy, y, gy) - 2 * mean(x, gx, y, gy)


@pytest.mark.parametrize("shared", [False, True])
def test_kernel_distance_equals_the_loops(shared: bool) -> None:
    x, y = sides(move=0.5)
    gx = [f"a{i // 3}" for i in range(len(x))]
    gy = [f"{'a' if shared else 'b'}{i // 4}" for i in range(len(y))]
    both = np.concatenate([x, y])
    found = kernel_distance(make_pair(x, y, gx, gy), bootstraps=20, permutations=19)
    expected = naive_mmd2(standardised(x, both), standardised(y, both), gx, gy)
    assert found.value.value == pytest.approx(expected, rel=1e-9)
    assert found.value.low < found.value.high


def test_no_groups_means_the_diagonal_is_left_out() -> None:
    x, y = sides(8, 9)
    both = np.concatenate([x, y])
    names = [str(i) for i in range(17)]
    expected = naive_mmd2(standardised(x, both), standardised(y, both), names[:8], names[8:])
    assert kernel_distance(make_pair(x, y), bootstraps=9, permutations=9).value.value == pytest.approx(expected)


def test_chance_is_called_chance_and_a_move_a_move() -> None:
    p_values = [
        kernel_distance(make_pair(*sides(40, 40, seed=s)), bootstraps=10, permutations=99).p_value for s in range(60)
    ]
    assert 0.25 < np.mean(p_values) < 0.75  # uniform: 0.5 +- 0.04
    assert np.mean(np.array(p_values) <= 0.05) < 0.15
    moved = kernel_distance(make_pair(*sides(40, 40, move=1.0)), permutations=199)
    assert moved.p_value == pytest.approx(1 / 200)
    assert moved.value.low > moved.null > 0


def test_the_value_is_bounded_however_far_the_sides_are() -> None:
    x, y = sides(30, 30)
    assert 10 < kernel_distance(make_pair(x, y + 1e6)).value.value < 16.5


def test_groups_are_what_counts_as_evidence() -> None:
    """Ten drives of nearly equal frames on each side: by frames anything differs, by drives nothing does."""
    rng = np.random.default_rng(3)
    drives = rng.normal(size=(20, 6))
    frames = np.repeat(drives, 12, axis=0) + 0.01 * rng.normal(size=(240, 6))
    names = [str(i // 12) for i in range(240)]
    by_frames = kernel_distance(make_pair(frames[:120], frames[120:]), permutations=199)
    by_drives = kernel_distance(make_pair(frames[:120], frames[120:], names[:120], names[120:]), permutations=199)
    assert by_frames.p_value < 0.02 < by_drives.p_value
    assert by_drives.value.value < by_frames.value.value


def test_too_few_groups_count_by_image() -> None:
    x, y = sides(20, 20)
    few = make_pair(x, y, [str(i % (FEWEST_GROUPS - 1)) for i in range(20)], [f"d{i}" for i in range(20)])
    assert len(np.unique(few.reference_groups)) == 20
    assert not set(few.reference_groups) & set(few.data_groups)
    other = make_pair(x, y, [f"r{i}" for i in range(20)], [str(i % (FEWEST_GROUPS - 1)) for i in range(20)])
    assert len(np.unique(other.data_groups)) == 20
    enough = make_pair(x, y, [str(i % FEWEST_GROUPS) for i in range(20)], [f"d{i % FEWEST_GROUPS}" for i in range(20)])
    assert len(np.unique(enough.reference_groups)) == len(np.unique(enough.data_groups)) == FEWEST_GROUPS


def test_swapped_groups_stay_whole_and_about_as_many() -> None:
    groups = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 6, 30))
    taken = swap_groups(groups, len(groups) // 2, 200, np.random.default_rng(1))
    for g in range(30):
        assert (np.ptp(taken[:, groups == g], axis=1) == 0).all()
    assert abs(taken.sum(axis=1) - len(groups) // 2).max() <= 5
    assert taken.mean(axis=0).min() > 0.3 and taken.mean(axis=0).max() < 0.7
    drawn = draw_groups(groups, 50, np.random.default_rng(2))
    assert (np.ptp(drawn[:, groups == 4], axis=1) == 0).all() and drawn.max() > 1


@pytest.mark.parametrize("neighbours", [1, 5, 100])
def test_neighbour_distances_equal_the_loops(neighbours: int) -> None:
    x, y = sides(24, 10, move=0.7)
    gx, gy = [f"a{i // 2}" for i in range(24)], [f"a{i + 8}" for i in range(10)]
    within, outside = neighbour_distances(make_pair(x, y, gx, gy), neighbours=neighbours)
    a, b = standardised(x, x), standardised(y, x)

    def expected(rows: Floats, names: list[str]) -> list[float]:
        means = []
        for p, name in zip(rows, names, strict=True):
            far = sorted(np.linalg.norm(p - q) / np.sqrt(6) for q, g in zip(a, gx, strict=True) if g != name)
            means.append(float(np.mean(far[:neighbours])))
        return means

    np.testing.assert_allclose(within, expected(a, gx), rtol=1e-9)
    np.testing.assert_allclose(outside, expected(b, gy), rtol=1e-9)


def test_neighbour_ratio_is_one_at_home_and_grows() -> None:
    home, away = (neighbour_ratio(make_pair(*sides(120, 120, move=m))) for m in (0.0, 1.5))
    assert home.low < 1 < home.high
    assert abs(home.value - 1) < 0.06
    assert away.low > 1.2 and away.low < away.value < away.high


@pytest.mark.parametrize("side", ["reference", "data"])
def test_neighbours_are_drawn_by_drives_on_both_sides(side: str) -> None:
    """Ten drives, each further away than the one before: by drives the ratio is far less sure than by frames."""
    x, y = sides(100, 100)
    moved = x if side == "reference" else y
    moved += np.repeat(np.linspace(0, 4, 10), 10)[:, None]
    drives, frames = [f"{i // 10}" for i in range(100)], [f"f{i}" for i in range(100)]
    groups = (drives, frames) if side == "reference" else (frames, drives)
    by_drive, by_frame = neighbour_ratio(make_pair(x, y, *groups)), neighbour_ratio(make_pair(x, y, frames, None))
    assert by_drive.high - by_drive.low > 1.8 * (by_frame.high - by_frame.low)


def test_an_image_needs_reference_of_another_group() -> None:
    x, y = sides(9, 9)
    with pytest.raises(InputError, match="all reference images belong to the group"):
        neighbour_distances(Pair(x, y, np.zeros(9, np.int64), np.arange(9)))


def test_a_copy_of_the_reference_is_at_home() -> None:
    x, _ = sides(40)
    names = [str(i) for i in range(40)]
    assert neighbour_ratio(make_pair(x, x, names, names)).value == pytest.approx(1.0)


def test_a_nearly_constant_channel_does_not_drown_the_others() -> None:
    x, y = sides(50, 50)
    x[:, 0] *= 1e-9
    assert np.abs(standardised(y, x)).max() < 100
    assert np.isfinite(standardised(np.ones((5, 3)), np.ones((5, 3)))).all()


def test_kernel_of_known_vectors() -> None:
    assert polynomial_kernel(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [-1.0, -1.0]])).tolist() == [[8.0, 0.0]]


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.zeros((3, 2)), np.zeros((9, 2)), "at least 4 images"),
        (np.zeros((9, 2)), np.zeros((0, 2)), "at least 4 images"),
        (np.zeros((9, 2)), np.zeros((9, 3)), "found"),
        (np.full((9, 2), np.nan), np.zeros((9, 2)), "NaN"),
        (np.zeros((9, 2)), np.full((9, 2), np.inf), "NaN"),
    ],
)
def test_wrong_features_are_refused(x: Floats, y: Floats, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_pair(x, y)


def test_wrong_groups_are_refused() -> None:
    with pytest.raises(InputError, match="one group for each of 9"):
        make_pair(np.zeros((9, 2)), np.zeros((9, 2)), ["a"], None)
