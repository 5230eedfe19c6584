"""What the scores would be for other images: bootstrap over groups of images, the same for every network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.features.objects import Labelled
from edgetl.ranking.scores import balanced_accuracy, h_score, knn_correct, logme, spectrum, standardised

RESAMPLES = 200
MOST_DECOMPOSED = 2000
"""Vectors, spread over the groups, that LogME and H-score are computed on."""
MOST_VECTORS = 600
"""Vectors, spread over the groups, that these two are resampled on."""
MOST_DIMS = 96
"""Principal directions of these vectors that they are resampled in."""
LEAST_OF_CLASS = 6
"""A class with fewer vectors than this says little about a network and is left out."""


@dataclass(frozen=True, slots=True)
class Scores:
    """knn: balanced accuracy in 0..1. replicates: (R, 3) float64 of knn, logme, h_score on resampled groups."""

    knn: float
    logme: float
    h_score: float
    replicates: NDArray[np.float64]


def frequent(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the vectors whose class has at least LEAST_OF_CLASS of them."""
    return np.flatnonzero(np.bincount(labels, minlength=1)[labels] >= LEAST_OF_CLASS)


def score(data: Labelled, *, resamples: int = RESAMPLES, seed: int = 0) -> Scores:
    """All scores of one network's vectors. Networks must be given the same picks: then resamples go together."""
    keep = frequent(data.labels)
    labels, groups = data.labels[keep], np.unique(data.groups[keep], return_inverse=True)[1]
    x = standardised(data.vectors[keep])
    correct = knn_correct(x, labels, groups)
    some = _spread(groups, MOST_DECOMPOSED)
    whole = spectrum(x[some])
    point = np.array([balanced_accuracy(correct, labels), logme(whole, labels[some]), h_score(whole, labels[some])])
    count = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    spectral = _spectral(x, labels, groups, weights)
    # On fewer vectors and directions the two scores have another level; their scatter is what is wanted of them.
    spectral += point[1:] - np.median(spectral, axis=0)
    replicates = np.column_stack([_knn(correct, labels, groups, weights), spectral])
    return Scores(float(point[0]), float(point[1]), float(point[2]), replicates)


def _knn(
    correct: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(R,) balanced accuracy when group g counts weights[r, g] times; neighbours stay as they were found."""
    shape = (weights.shape[1], int(labels.max()) + 1)
    totals, hits = np.zeros(shape), np.zeros(shape)
    np.add.at(totals, (groups, labels), 1)
    np.add.at(hits, (groups, labels), correct)
    seen, right = weights @ totals, weights @ hits
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(np.where(seen > 0, right / seen, np.nan), axis=1))


def _spectral(
    x: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(R, 2) LogME and H-score of at most MOST_VECTORS vectors in at most MOST_DIMS directions."""
    chosen = _spread(groups, MOST_VECTORS)
    x, labels, groups = x[chosen], labels[chosen], groups[chosen]
    basis = spectrum(x)
    top = np.argsort(-basis.squares)[:MOST_DIMS]
    low = (basis.u[:, top] * np.sqrt(basis.squares[top])).astype(np.float32)
    rows = []
    for row in weights:
        w = row[groups].astype(np.float64)
        used = w > 0
        part = spectrum(low[used], w[used])
        rows.append((logme(part, labels[used]), h_score(part, labels[used])))
    return np.array(rows)


def _spread(groups: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Indices of at most `most` vectors, evenly over the groups."""
    by_group = np.argsort(groups, kind="stable")
    return np.asarray(by_group[np.linspace(0, len(groups) - 1, min(len(groups), most)).round().astype(int)])
