"""Intervals that hold the truth, and networks that are compared on the same resampled images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgetl.features.objects import Labelled
from edgetl.ranking import resample
from edgetl.ranking.resample import LEAST_OF_CLASS, frequent, score
from edgetl.ranking.scores import balanced_accuracy, knn_correct, standardised


def _labelled(seed: int, *, n: int = 200, d: int = 8, apart: float = 1.0) -> Labelled:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 4).astype(np.int64)
    groups = (np.arange(n) // 5).astype(np.int64)
    centres = np.random.default_rng(9).normal(size=(4, d)) * apart
    x = centres[labels] + rng.normal(size=(n, d))
    return Labelled(x.astype(np.float32), labels, groups, tuple("abcd"))


def test_knn_replicates_are_the_accuracy_of_the_resampled_groups() -> None:
    data = _labelled(0)
    found = score(data, resamples=3, seed=4)
    correct = knn_correct(standardised(data.vectors), data.labels, data.groups)
    weights = np.random.default_rng(4).multinomial(40, np.full(40, 1 / 40), size=3)
    for r in range(3):
        again = np.repeat(np.arange(200), weights[r][data.groups])
        expected = balanced_accuracy(correct[again], data.labels[again])
        assert found.replicates[r, 0] == pytest.approx(expected)


def test_replicates_scatter_around_the_score() -> None:
    found = score(_labelled(0))
    points = (found.knn, found.logme, found.h_score)
    assert found.replicates.shape == (200, 3)
    assert (np.abs(np.median(found.replicates, axis=0) - points) < 2 * found.replicates.std(axis=0)).all()
    assert (found.replicates.std(axis=0) > 0).all()


def test_the_same_again_for_the_same_seed() -> None:
    assert np.array_equal(score(_labelled(1)).replicates, score(_labelled(1)).replicates)


def test_a_class_of_one_group_is_missing_in_some_resamples() -> None:
    data = _labelled(0)
    groups = np.where(data.labels == 3, 0, 1 + np.arange(200) % 2)
    found = score(dataclasses.replace(data, labels=(data.labels == 3).astype(np.int64), groups=groups))
    assert np.isfinite(found.replicates).all()
    assert np.percentile(found.replicates[:, 1], 97.5) < found.logme + 1
    labels = (data.labels == 3).astype(np.int64)
    correct = knn_correct(standardised(data.vectors), labels, groups)
    weights = np.random.default_rng(0).multinomial(3, np.full(3, 1 / 3), size=200)
    without = int(np.flatnonzero(weights[:, 0] == 0)[0])
    again = np.repeat(np.arange(200), weights[without][groups])
    assert found.replicates[without, 0] == pytest.approx(balanced_accuracy(correct[again], labels[again]))


def test_fewer_vectors_are_spread_and_scatter_around_the_same_score(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _labelled(0, n=400)
    order = np.argsort(data.labels, kind="stable")
    data = dataclasses.replace(data, vectors=data.vectors[order], labels=data.labels[order], groups=np.arange(400) // 5)
    whole = score(data, resamples=50)
    monkeypatch.setattr(resample, "MOST_DECOMPOSED", 200)
    monkeypatch.setattr(resample, "MOST_VECTORS", 100)
    monkeypatch.setattr(resample, "MOST_DIMS", 3)
    part = score(data, resamples=50)
    assert part.logme == pytest.approx(whole.logme, abs=0.2) and part.h_score == pytest.approx(whole.h_score, rel=0.3)
    assert np.median(part.replicates[:, 1:], axis=0) == pytest.approx([part.logme, part.h_score])


def test_more_images_make_the_interval_narrower() -> None:
    few, many = (score(_labelled(0, n=n, apart=0.5)).replicates[:, 0].std() for n in (100, 1600))
    assert many < few / 2


def test_intervals_mostly_hold_the_score_of_other_images() -> None:
    inside = 0
    truth = np.mean([score(_labelled(s, apart=0.5), resamples=1).knn for s in range(100, 120)])
    for seed in range(20):
        low, high = np.percentile(score(_labelled(seed, apart=0.5), resamples=100).replicates[:, 0], (2.5, 97.5))
        inside += low <= truth <= high
    assert inside >= 15


def test_a_class_of_too_few_vectors_is_left_out() -> None:
    labels = np.array([0] * LEAST_OF_CLASS + [1] * (LEAST_OF_CLASS - 1) + [3] * 9)
    assert sorted(set(labels[frequent(labels)].tolist())) == [0, 3]
