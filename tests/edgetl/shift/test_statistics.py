"""Statistics of the training domain: the fit, honest quantiles, and the file."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl.shift.per_image import fit_gaussian, shrunk_covariance
from edgetl.shift.statistics import can_leave_out, fit_statistics, save_statistics
from edgetl_runtime.domain import MAX_QUANTILES, read_domain
from edgetl_runtime.errors import BundleError, InputError


def embeddings(n: int, width: int = 40, seed: int = 0) -> NDArray[np.float64]:
    """Correlated, of very different variances, as a backbone's are; one distribution for every seed."""
    mix = np.random.default_rng(99).normal(size=(width, width)) / np.arange(1, width + 1)
    return np.random.default_rng(seed).normal(size=(n, width)) @ mix.T + 3


def test_with_all_axes_the_distance_is_mahalanobis() -> None:
    x, y = embeddings(200), embeddings(9, seed=1)
    model = fit_statistics(x)
    np.testing.assert_allclose(model.distances(y), fit_gaussian(x).distances(y) / np.sqrt(40), rtol=1e-6)


def test_with_few_axes_the_rest_counts_with_one_variance() -> None:
    x, y = embeddings(300), embeddings(9, seed=1)
    model = fit_statistics(x, directions=5)
    covariance = model.axes @ np.diag(model.deviations**2 - model.residual**2) @ model.axes.T
    inverse = np.linalg.inv(covariance + model.residual**2 * np.eye(40))
    expected = [np.sqrt((row - model.mean) @ inverse @ (row - model.mean) / 40) for row in y]
    np.testing.assert_allclose(model.distances(y), expected, rtol=1e-8)
    assert model.residual**2 == pytest.approx(shrunk_covariance(x).values[5:].mean())


@pytest.mark.parametrize("n", [60, 300])
def test_left_out_quantiles_hold_on_new_images(n: int) -> None:
    """In-sample distances would call far too many new images odd; those of left-out images do not."""
    model, new = fit_statistics(embeddings(n)), embeddings(4000, seed=5)
    shares = model.quantiles_of(model.distances(new))
    assert np.mean(shares > 0.9) == pytest.approx(0.1, abs=0.08 if n == 60 else 0.04)
    in_sample = np.quantile(model.distances(embeddings(n)), 0.9)
    assert np.mean(model.distances(new) > in_sample) > np.mean(shares > 0.9)


def test_groups_are_left_out_whole() -> None:
    """Ten near copies of every frame: left out one by one each is known already, left out as groups it is not."""
    x = np.repeat(embeddings(30), 10, axis=0) + 0.01 * np.random.default_rng(1).normal(size=(300, 40))
    by_image = fit_statistics(x)
    by_group = fit_statistics(x, [str(i // 10) for i in range(300)])
    assert np.median(by_group.quantiles) > 1.1 * np.median(by_image.quantiles)


def test_the_fewest_images_are_enough() -> None:
    """A fit without one fold has fewer of them still."""
    model = fit_statistics(embeddings(20, 8))
    assert model.images == 20 and np.isfinite(model.quantiles).all()


@pytest.mark.parametrize(
    ("sizes", "enough"), [([100], False), ([85, 15], False), ([82, 18], True), ([1] * 20, True), ([1] * 19, False)]
)
def test_groups_can_be_left_out_where_enough_images_remain(sizes: list[int], enough: bool) -> None:
    groups = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    assert can_leave_out(groups) is enough
    if enough:
        assert fit_statistics(embeddings(len(groups)), groups).images == len(groups)


def test_held_out_embeddings_give_the_quantiles() -> None:
    x, held_out = embeddings(100), embeddings(50, seed=2) + 1
    model = fit_statistics(x, held_out=held_out)
    np.testing.assert_allclose(model.quantiles, np.sort(model.distances(held_out)))
    assert model.images == 50 and model.probabilities[-1] == pytest.approx(50 / 51)


def test_many_images_keep_the_tail_whole() -> None:
    model = fit_statistics(embeddings(200, 8), held_out=embeddings(5000, 8, seed=3))
    distances = np.sort(model.distances(embeddings(5000, 8, seed=3)))
    assert len(model.quantiles) == MAX_QUANTILES and model.images == 5000
    np.testing.assert_allclose(model.quantiles[-400:], distances[-400:])
    assert model.quantiles[0] == pytest.approx(distances[0])
    assert model.quantiles_of(np.median(distances, keepdims=True))[0] == pytest.approx(0.5, abs=0.01)


def test_the_file_is_the_same_twice_and_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit_statistics(embeddings(100))
    save_statistics(tmp_path / "a.npz", model)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    save_statistics(tmp_path / "b.npz", fit_statistics(embeddings(100)))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = read_domain(tmp_path / "a.npz")
    np.testing.assert_allclose(
        again.distances(embeddings(5, seed=1)), model.distances(embeddings(5, seed=1)), rtol=1e-4
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 20"):
        fit_statistics(embeddings(19))
    with pytest.raises(InputError, match="one group"):
        fit_statistics(embeddings(30), ["a"] * 30)
    with pytest.raises(InputError, match="without the largest group 15 of 100 images are left"):
        fit_statistics(embeddings(100), ["a"] * 85 + ["b"] * 15)
    with pytest.raises(InputError, match="held-out"):
        fit_statistics(embeddings(30), held_out=embeddings(0))
    with pytest.raises(InputError, match="can't be written"):
        save_statistics(tmp_path / "none" / "a.npz", fit_statistics(embeddings(30)))


def test_statistics_that_are_no_valid_file_leave_the_old_one(tmp_path: Path) -> None:
    model = fit_statistics(embeddings(30))
    save_statistics(tmp_path / "a.npz", model)
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(BundleError, match="mean holds NaN"):
        save_statistics(tmp_path / "a.npz", dataclasses.replace(model, mean=model.mean * np.nan))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"] and (tmp_path / "a.npz").read_bytes() == before
