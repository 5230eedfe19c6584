"""How well frozen features tell the classes apart: nearest neighbours, LogME and H-score. numpy only.

All take standardised vectors (N, D), labels (N,) and, where resampled, a weight for each vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEIGHBOURS = 9
RIDGE_RANGE = (1e-7, 1e7)
"""Where LogME's ratio of precisions is looked for, in units of the mean eigenvalue."""


def standardised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) with each column of mean 0 and deviation 1; a column that never changes becomes 0."""
    x = vectors.astype(np.float64)
    x -= x.mean(axis=0)
    deviation = x.std(axis=0)
    return np.asarray(x / np.where(deviation > 1e-6 * max(deviation.max(initial=0), 1e-12), deviation, np.inf)).astype(
        np.float32
    )


def knn_correct(x: NDArray[np.float32], labels: Ints, groups: Ints, *, k: int = NEIGHBOURS) -> NDArray[np.bool_]:
    """(N,) whether the majority of the k nearest vectors of other groups has the vector's own label.

    Nearness is the cosine; among labels with equally many votes the one with the nearer neighbours (the larger sum of
    cosines) wins. A vector without any neighbour outside its group counts as wrong.
    """
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    classes = int(labels.max()) + 1
    correct = np.zeros(len(x), np.bool_)
    for start in range(0, len(x), 1024):
        rows = slice(start, min(start + 1024, len(x)))
        near = unit[rows] @ unit.T
        near[groups[rows, None] == groups[None]] = -np.inf
        top = np.argpartition(-near, min(k, len(x) - 1) - 1, axis=1)[:, :k]
        cosine = np.take_along_axis(near, top, axis=1)
        valid = np.isfinite(cosine)
        # The sum of cosines only breaks ties: it is squeezed below one vote.
        vote = np.where(valid, 1 + np.where(valid, cosine, 0) / (2 * k), 0)
        votes = np.zeros((len(near), classes))
        np.add.at(votes, (np.arange(len(near))[:, None], labels[top]), vote)
        correct[rows] = (votes.argmax(axis=1) == labels[rows]) & valid.any(axis=1)
    return correct


def balanced_accuracy(correct: NDArray[np.bool_], labels: Ints) -> float:
    """The mean over classes of the share that is right."""
    totals = np.bincount(labels)
    hits = np.bincount(labels, weights=correct.astype(np.float64), minlength=len(totals))
    return float((hits[totals > 0] / totals[totals > 0]).mean())


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The centred, weighted vectors as U S V': U (N, r), the squares of S (r,), and what both scores need besides.

    root: (N,) roots of the weights. total: sum of the weights. dims: D. fourth: weighted sum of |x|^4.
    """

    u: Floats
    squares: Floats
    root: Floats
    total: float
    dims: int
    fourth: float


def spectrum(x: NDArray[np.float32], weights: Floats | None = None) -> Spectrum:
    """Decompose the smaller of the two Gram matrices. weights: (N,) not negative, 1 for each vector by default."""
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    total = float(w.sum())
    centred = x.astype(np.float64)
    centred = centred - (w @ centred) / total
    fourth = float(w @ (centred**2).sum(axis=1) ** 2)
    root = np.sqrt(w)
    f = centred * root[:, None]
    if len(f) <= f.shape[1]:
        squares, u = np.linalg.eigh(f @ f.T)
        keep = squares > max(squares[-1], 0) * 1e-10
        squares, u = squares[keep], u[:, keep]
    else:
        squares, v = np.linalg.eigh(f.T @ f)
        keep = squares > max(squares[-1], 0) * 1e-10
        squares = squares[keep]
        u = (f @ v[:, keep]) / np.sqrt(squares)
    return Spectrum(u, squares, root, total, f.shape[1], fourth)


def logme(spectral: Spectrum, labels: Ints) -> float:
    """Log evidence of a linear model, by class against the rest, per vector (You et al., arXiv:2102.11005).

    With a free offset: its flat prior takes one degree of freedom. The noise's precision has a closed form for a given
    ratio of the two precisions, so the evidence is maximised over that ratio alone; this is the optimum of the paper's
    fixed-point iteration without its ways to diverge. 0 for a single class, which leaves nothing to tell apart.
    """
    y = _one_hot(labels)
    if y.shape[1] < 2:
        return 0.0
    share = (spectral.root**2 @ y) / spectral.total
    y = (y - share) * spectral.root[:, None]
    z2 = (spectral.u.T @ y) ** 2
    rest = np.maximum((y**2).sum(axis=0) - z2.sum(axis=0), 0)
    n = spectral.total - 1
    if not len(spectral.squares):
        spectral_scale = 1.0
        squares = np.zeros(1)
        z2 = np.zeros((1, y.shape[1]))
    else:
        squares, spectral_scale = spectral.squares, float(spectral.squares.mean())

    def evidence(log_ratio: Floats) -> Floats:
        """(C,) log ratio of prior to noise precision -> (C,) log evidence."""
        ratio = np.exp(log_ratio)[:, None]
        left = ratio / (ratio + squares)
        energy = (left * z2.T).sum(axis=1) + rest
        floor = np.finfo(np.float64).tiny
        return np.asarray(
            0.5 * n * (np.log(n / np.maximum(energy, floor)) - 1 - np.log(2 * np.pi)) + 0.5 * np.log(left).sum(axis=1)
        )

    low, high = (np.log(edge * spectral_scale) for edge in RIDGE_RANGE)
    best = _maximum(evidence, low, high, len(share))
    return float((best / n).mean())


def h_score(spectral: Spectrum, labels: Ints) -> float:
    """tr(cov^-1 cov_between): how much of the features' variance is between classes (Bao et al., arXiv:1904.05358).

    The covariance is shrunk towards a multiple of the identity by Ledoit and Wolf's amount, as in arXiv:2110.06893.
    What labels drawn at random would get is taken off: it grows with the number of features, and would let a wide
    network of random weights stand above a narrow one that knows something.
    """
    n, d = spectral.total, spectral.dims
    if not len(spectral.squares):
        return 0.0
    values = spectral.squares / n
    mean = values.sum() / d
    norm2 = float((values**2).sum())
    apart = norm2 / d - mean**2
    noise = max(spectral.fourth / n**2 - norm2 / n, 0.0) / d
    delta = min(noise / apart, 1.0) if apart > 0 else 1.0
    y = _one_hot(labels) * spectral.root[:, None]
    counts = (y * spectral.root[:, None]).sum(axis=0)
    # Class means in the basis V are S U' y / count; cov^-1 is diagonal there.
    means2 = (spectral.u.T @ y) ** 2 * spectral.squares[:, None] / np.maximum(counts, 1e-12)
    shrunk = (1 - delta) * values + delta * mean
    chance = (len(counts) - 1) * (values / shrunk).sum() / max(n - 1, 1)
    return float((1 - delta) * ((means2 / shrunk[:, None]).sum() / n - chance))


def _one_hot(labels: Ints) -> Floats:
    """(N, C) over the classes that occur."""
    return np.asarray(labels[:, None] == np.unique(labels)[None], np.float64)


def _maximum(function: Callable[[Floats], Floats], low: float, high: float, count: int) -> Floats:
    """The highest values of `count` functions of one variable, together: a coarse grid, then golden section."""
    grid = np.linspace(low, high, 29)
    values = np.stack([function(np.full(count, g)) for g in grid])
    at = values.argmax(axis=0)
    a, b = grid[np.maximum(at - 1, 0)], grid[np.minimum(at + 1, len(grid) - 1)]
    golden = (np.sqrt(5) - 1) / 2
    best: Floats = np.asarray(values.max(axis=0))
    for _ in range(18):
        c, d = b - golden * (b - a), a + golden * (b - a)
        fc, fd = function(c), function(d)
        best = np.maximum(best, np.maximum(fc, fd))
        left = fc > fd
        a, b = np.where(left, a, c), np.where(left, d, b)
    return best
