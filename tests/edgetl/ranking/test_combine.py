"""Orders that follow from the scores, and probabilities that follow from the resamples."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.ranking.combine import PRIOR_WEIGHT, Scored, combine, mean_ranks


def _scored(
    name: str, points: tuple[float, float, float], *, prior: float | None = None, noise: float = 0.0, seed: int = 0
) -> Scored:
    rng = np.random.default_rng(seed)
    return Scored(name, *points, prior, np.array(points) + noise * rng.normal(size=(200, 3)))


def test_nothing_and_one() -> None:
    assert combine([]) == []
    (only,) = combine([_scored("a", (1, 2, 3))])
    assert (only.place, only.rank, only.p_best, only.p_above_next) == (1, 1.0, 1.0, None)


def test_the_order_is_by_mean_rank() -> None:
    networks = [_scored("worst", (0.1, 0.1, 0.1)), _scored("best", (0.9, 0.9, 0.2)), _scored("mid", (0.5, 0.2, 0.9))]
    placed = combine(networks)
    assert [networks[p.index].name for p in placed] == ["best", "mid", "worst"]
    assert [p.place for p in placed] == [1, 2, 3]
    assert placed[0].p_best == 1
    assert placed[0].p_above_next == 1
    assert placed[2].p_above_next is None


def test_of_equal_ranks_the_nearest_neighbours_decide() -> None:
    networks = [_scored("linear", (0.4, 0.9, 0.5)), _scored("near", (0.6, 0.1, 0.5))]
    placed = combine(networks)
    assert placed[0].rank == placed[1].rank and networks[placed[0].index].name == "near"


def test_each_place_is_compared_with_the_next() -> None:
    networks = [_scored("worst", (0, 0, 0)), _scored("a", (1, 1, 1)), _scored("b", (1, 1, 1))]
    assert [p.p_above_next for p in combine(networks)] == [0.5, 1.0, None]


def test_the_interval_holds_19_of_20_resamples() -> None:
    replicates = np.linspace(0, 1, 201)[:, None] * [1, 10, 100]
    (only,) = combine([Scored("a", 0.5, 5, 50, None, replicates)])
    assert only.low == pytest.approx((0.025, 0.25, 2.5)) and only.high == pytest.approx((0.975, 9.75, 97.5))


def test_equal_networks_share_the_probability() -> None:
    placed = combine([_scored("a", (1, 1, 1)), _scored("b", (1, 1, 1))])
    assert [p.p_best for p in placed] == [0.5, 0.5]
    assert placed[0].p_above_next == 0.5


def test_noise_makes_the_order_less_sure() -> None:
    pairs = {}
    for noise in (0.01, 0.2, 5.0):
        networks = [
            _scored("a", (0.6, 0.6, 0.6), noise=noise, seed=1),
            _scored("b", (0.5, 0.5, 0.5), noise=noise, seed=2),
        ]
        pairs[noise] = combine(networks)[0].p_best
    assert pairs[0.01] == 1
    assert pairs[0.01] > pairs[0.2] > pairs[5.0]
    assert pairs[5.0] == pytest.approx(0.5, abs=0.1)


def test_the_prior_decides_between_equals_and_not_against_scores() -> None:
    equal = [_scored("low", (1, 1, 1), prior=60), _scored("high", (1, 1, 1), prior=80)]
    assert equal[combine(equal)[0].index].name == "high"
    against = [_scored("good", (2, 2, 1), prior=60), _scored("known", (1, 1, 2), prior=80)]
    assert against[combine(against)[0].index].name == "good"


def test_a_network_without_prior_neither_gains_nor_loses_by_it() -> None:
    values = np.zeros((1, 3, 3))
    ranks = mean_ranks(values, np.array([70.0, np.nan, 80.0]))[0]
    assert ranks[1] == pytest.approx(2.0)
    assert ranks[0] - ranks[2] == pytest.approx(PRIOR_WEIGHT / (3 + PRIOR_WEIGHT))


def test_mean_ranks_against_counting() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (5, 6, 3)).astype(float)
    found = mean_ranks(values, np.full(6, np.nan))
    for r in range(5):
        for i in range(6):
            ranks = [
                1
                + sum(
                    (values[r, j, s] > values[r, i, s]) + 0.5 * (j != i and values[r, j, s] == values[r, i, s])
                    for j in range(6)
                )
                for s in range(3)
            ]
            expected = (sum(ranks) + PRIOR_WEIGHT * 3.5) / (3 + PRIOR_WEIGHT)
            assert found[r, i] == pytest.approx(expected)
