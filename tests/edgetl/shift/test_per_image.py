"""Shrunk covariance, leaving groups out, energy, and which images to label."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.shift.per_image import cover, energy, fit_gaussian, fold_of_groups, most_and_least, shrunk_covariance
from edgetl_runtime.errors import InputError


def test_shrinkage_equals_the_paper_by_loops() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5)) * [3, 1, 1, 0.5, 0.1]
    centred = x - x.mean(0)
    sample = sum(np.outer(row, row) for row in centred) / 30
    m = np.trace(sample) / 5
    d2 = np.sum((sample - m * np.eye(5)) ** 2)
    b2 = sum(np.sum((np.outer(row, row) - sample) ** 2) for row in centred) / 30**2
    shrinkage = min(b2, d2) / d2
    expected = (1 - shrinkage) * sample + shrinkage * m * np.eye(5)
    found = shrunk_covariance(x)
    assert found.shrinkage == pytest.approx(shrinkage)
    np.testing.assert_allclose(found.vectors @ np.diag(found.values) @ found.vectors.T, expected, atol=1e-9)
    assert (np.diff(found.values) <= 0).all()


def test_mahalanobis_equals_the_inverse() -> None:
    x = np.random.default_rng(1).normal(size=(60, 4)) @ np.random.default_rng(2).normal(size=(4, 4))
    found = shrunk_covariance(x)
    inverse = np.linalg.inv(found.vectors @ np.diag(found.values) @ found.vectors.T)
    y = np.random.default_rng(3).normal(size=(7, 4))
    expected = [np.sqrt((row - x.mean(0)) @ inverse @ (row - x.mean(0))) for row in y]
    np.testing.assert_allclose(fit_gaussian(x).distances(y), expected, rtol=1e-9)


def test_more_channels_than_images_still_have_a_covariance() -> None:
    x = np.random.default_rng(0).normal(size=(24, 200))
    distances = fit_gaussian(x).distances(np.random.default_rng(1).normal(size=(50, 200)))
    assert 0.9 < np.median(distances) / np.sqrt(200) < 1.3
    assert np.isfinite(fit_gaussian(np.ones((24, 3))).distances(np.ones((2, 3)))).all()


def test_folds_hold_whole_groups_and_are_even() -> None:
    groups = [f"g{i % 23}" for i in range(200)]
    folds = fold_of_groups(groups, 200)
    assert all(len({int(f) for f, g in zip(folds, groups, strict=True) if g == name}) == 1 for name in set(groups))
    assert np.ptp(np.bincount(folds)) <= 9 and len(np.bincount(folds)) == 10
    assert len(np.unique(fold_of_groups(None, 7))) == 7
    with pytest.raises(InputError, match="one group"):
        fold_of_groups(["a"] * 5, 5)


def test_large_groups_are_dealt_out_first_each_to_the_smallest_fold() -> None:
    groups = [str(i) for i, size in enumerate([10, 10, 10, 30, 10, 10, 10, 10]) for _ in range(size)]
    assert sorted(np.bincount(fold_of_groups(groups, 100, folds=3))) == [30, 30, 40]


def test_shrinkage_goes_to_the_identity_and_no_further() -> None:
    found = [shrunk_covariance(np.random.default_rng(s).normal(size=(20, 5))) for s in range(4)]
    assert [f.shrinkage == 1 for f in found] == [False, False, True, True]
    assert np.ptp(found[2].values) == pytest.approx(0, abs=1e-12)


def test_energy_of_known_logits() -> None:
    logits = np.array([[0.0, 0.0], [10.0, -10.0], [1000.0, 1000.0]])
    np.testing.assert_allclose(energy(logits), [-np.log(2), -10, -1000 - np.log(2)], rtol=1e-8)
    np.testing.assert_allclose(energy(logits[:1], temperature=2.0), [-2 * np.log(2)])
    for wrong in (np.zeros(3), np.zeros((2, 0))):
        with pytest.raises(InputError, match="logits"):
            energy(wrong)
    with pytest.raises(InputError, match="temperature"):
        energy(logits, temperature=0)


def test_most_and_least_typical() -> None:
    most, least = most_and_least(np.array([3.0, 1.0, 2.0]), 2)
    assert most.tolist() == [1, 2] and least.tolist() == [0, 2]


def test_cover_takes_one_of_each_new_cluster_first() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 2)) * 0.1
    tunnel, snow = np.array([9.0, 0.0]), np.array([0.0, 5.0])
    data = np.concatenate(
        [reference[:20], tunnel + 0.1 * rng.normal(size=(20, 2)), snow + 0.1 * rng.normal(size=(5, 2))]
    )
    first = cover(reference, data, 2)
    assert 20 <= first[0] < 40 <= first[1]
    assert sorted(cover(reference, data, 45).tolist()) == list(range(20, 45))  # what the reference has is not new
    assert len(cover(reference, data[:20], 5)) == 0  # all of it is in the reference already
    assert len(cover(reference, data[:0], 5)) == 0


@pytest.mark.parametrize("x", [np.zeros((19, 3)), np.full((30, 3), np.inf), np.zeros(30)])
def test_wrong_features_are_refused(x: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError):
        shrunk_covariance(x)
