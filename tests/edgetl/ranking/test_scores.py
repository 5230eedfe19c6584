"""kNN against naive loops, LogME against a search over both precisions, H-score against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.ranking.scores import balanced_accuracy, h_score, knn_correct, logme, spectrum, standardised


def _data(
    rng: np.random.Generator, n: int = 60, d: int = 5, classes: int = 3, apart: float = 2.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = rng.integers(0, classes, n)
    labels[:classes] = range(classes)
    centres = rng.normal(size=(classes, d)) * apart
    x = (centres[labels] + rng.normal(size=(n, d))).astype(np.float32)
    return x, labels.astype(np.int64), rng.integers(0, n // 3, n).astype(np.int64)


def _naive_knn(x: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int) -> list[bool]:
    found = []
    for i in range(len(x)):
        near = sorted(
            (
                (-float(x[i] @ x[j] / (np.linalg.norm(x[i]) * np.linalg.norm(x[j]))), int(labels[j]))
                for j in range(len(x))
                if groups[j] != groups[i]
            ),
        )[:k]
        votes: dict[int, tuple[int, float]] = {}
        for minus_cosine, label in near:
            count, total = votes.get(label, (0, 0.0))
            votes[label] = (count + 1, total - minus_cosine)
        best = max(votes, key=lambda c: votes[c]) if votes else -1
        found.append(best == labels[i])
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 4, 9])
def test_knn_is_what_loops_find(seed: int, k: int) -> None:
    x, labels, groups = _data(np.random.default_rng(seed), apart=0.7)
    assert knn_correct(x, labels, groups, k=k).tolist() == _naive_knn(x, labels, groups, k)


def test_a_vectors_own_group_never_helps() -> None:
    x = np.repeat(np.eye(4, dtype=np.float32), 2, axis=0)
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    pairs = np.repeat(np.arange(4), 2)
    assert knn_correct(x, labels, np.arange(8), k=1).all()  # the twin has the label
    assert knn_correct(x, labels, pairs, k=7).sum() < 8  # without the twin nothing is near
    assert not knn_correct(x, labels, np.zeros(8, np.int64), k=3).any()  # one group: nobody left to ask


def test_more_than_one_block_of_rows_gives_the_same() -> None:
    x, labels, groups = _data(np.random.default_rng(1), n=1500)
    whole = knn_correct(x, labels, groups)
    some = np.array([3, 1100, 1499])
    for i in some:
        order = np.r_[i, np.delete(np.arange(1500), i)]
        assert knn_correct(x[order], labels[order], groups[order])[0] == whole[i]


def test_balanced_accuracy_counts_every_class_alike() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2])
    assert balanced_accuracy(np.array([1, 1, 1, 1, 0, 0], np.bool_), labels) == 0.5


def _evidence(x: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """Log evidence of Bayesian linear regression by its definition, dense."""
    n, d = x.shape
    a = alpha * np.eye(d) + beta * x.T @ x
    m = beta * np.linalg.solve(a, x.T @ y)
    return float(
        0.5 * (d * np.log(alpha) + n * np.log(beta) - n * np.log(2 * np.pi) - np.linalg.slogdet(a)[1])
        - 0.5 * beta * ((x @ m - y) ** 2).sum()
        - 0.5 * alpha * (m**2).sum()
    )


@pytest.mark.parametrize(("n", "d", "apart"), [(40, 3, 0.5), (25, 6, 2.0), (12, 20, 0.7)])
def test_logme_is_the_highest_evidence_that_a_grid_finds(n: int, d: int, apart: float) -> None:
    rng = np.random.default_rng(n)
    x, labels, _ = _data(rng, n=n, d=d, classes=2, apart=apart)
    # An offset with a flat prior is the same as the n - 1 directions in which the mean does not live.
    basis = np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1]
    grid = np.exp(np.linspace(-14, 14, 113))
    values = []
    for c in (0, 1):
        xs, ys = basis.T @ x.astype(np.float64), basis.T @ (labels == c).astype(np.float64)
        values.append(max(_evidence(xs, ys, a, b) for a in grid for b in grid) / (n - 1))
    assert logme(spectrum(x), labels) == pytest.approx(np.mean(values), abs=0.01)
    assert logme(spectrum(x), labels) >= np.mean(values) - 1e-6


@pytest.mark.parametrize("score", [logme, h_score])
@pytest.mark.parametrize("d", [4, 200])
def test_separable_labels_score_above_shuffled_ones(score, d: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    x, labels, _ = _data(rng, n=90, d=d)
    shuffled = [score(spectrum(standardised(x)), rng.permutation(labels)) for _ in range(10)]
    assert score(spectrum(standardised(x)), labels) > max(shuffled) + 0.1


@pytest.mark.parametrize("d", [3, 40, 300])
def test_h_score_of_shuffled_labels_is_nothing_however_many_features(d: int) -> None:
    rng = np.random.default_rng(d)
    x, labels, _ = _data(rng, n=120, d=d, apart=0)
    values = [h_score(spectrum(x), rng.permutation(labels)) for _ in range(60)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60) + 1e-3


@pytest.mark.parametrize(("n", "d"), [(50, 6), (20, 45)])
def test_h_score_is_what_dense_algebra_gives(n: int, d: int) -> None:
    rng = np.random.default_rng(3)
    x, labels, _ = _data(rng, n=n, d=d)
    z = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    cov = z.T @ z / n
    mean = np.trace(cov) / d
    apart = ((cov - mean * np.eye(d)) ** 2).sum() / d
    noise = sum(((np.outer(r, r) - cov) ** 2).sum() for r in z) / n**2 / d
    delta = min(noise / apart, 1)
    shrunk = (1 - delta) * cov + delta * mean * np.eye(d)
    between = sum(
        (labels == c).mean() * np.outer(z[labels == c].mean(axis=0), z[labels == c].mean(axis=0)) for c in range(3)
    )
    chance = 2 / (n - 1) * np.trace(np.linalg.solve(shrunk, cov))
    expected = (1 - delta) * (np.trace(np.linalg.solve(shrunk, between)) - chance)
    assert h_score(spectrum(x), labels) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("score", [logme, h_score])
def test_weights_are_the_same_as_repeated_vectors(score) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    x, labels, _ = _data(rng, n=30)
    w = rng.integers(1, 4, 30)
    repeated = score(spectrum(np.repeat(x, w, axis=0)), np.repeat(labels, w))
    assert score(spectrum(x, w.astype(np.float64)), labels) == pytest.approx(repeated, rel=1e-6)


@pytest.mark.parametrize("score", [logme, h_score])
def test_features_that_never_change_give_a_finite_low_score(score) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    x, labels, _ = _data(rng, n=30)
    flat = score(spectrum(standardised(np.ones_like(x))), labels)
    assert np.isfinite(flat)
    assert flat < score(spectrum(standardised(x)), labels)


@pytest.mark.parametrize("score", [logme, h_score])
def test_one_class_alone_says_nothing(score) -> None:  # type: ignore[no-untyped-def]
    x, _, _ = _data(np.random.default_rng(2), n=30)
    assert score(spectrum(standardised(x)), np.full(30, 4)) == pytest.approx(0.0, abs=1e-9)


def test_scores_do_not_change_with_the_units_of_a_feature() -> None:
    x, labels, groups = _data(np.random.default_rng(4))
    other = x * np.array([1, 100, 0.01, 3, 7], np.float32) + 5
    for a, b in ((standardised(x), standardised(other)),):
        assert logme(spectrum(a), labels) == pytest.approx(logme(spectrum(b), labels), abs=1e-4)
        assert knn_correct(a, labels, groups).tolist() == knn_correct(b, labels, groups).tolist()
