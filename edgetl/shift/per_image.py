"""How typical each single image is: Mahalanobis distance, energy of its logits, and which to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError

Floats = NDArray[np.float64]

FOLDS = 10
FEWEST_IMAGES = 20
"""Fewer images say too little about a covariance, however it is shrunk."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A normal distribution over features: mean (D,), whitening (D, D) with whitening @ whitening.T = inverse
    covariance."""

    mean: Floats
    whitening: Floats

    def distances(self, features: NDArray[np.floating]) -> Floats:
        """(N,) Mahalanobis distances of features (N, D)."""
        white = (np.asarray(features, np.float64) - self.mean) @ self.whitening
        distances: Floats = np.sqrt((white**2).sum(axis=1))
        return distances


@dataclass(frozen=True, slots=True)
class Covariance:
    """A shrunk covariance: its eigenvalues (D,) falling, eigenvectors (D, D) in columns, and the shrinkage 0..1."""

    mean: Floats
    values: Floats
    vectors: Floats
    shrinkage: float


def shrunk_covariance(features: NDArray[np.floating], *, fewest: int = FEWEST_IMAGES) -> Covariance:
    """Covariance of features (N, D), pulled towards a multiple of the identity as far as Ledoit and Wolf say.

    "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88 (2004).
    Raises InputError for fewer than `fewest` rows or values that are not finite.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < fewest:
        raise InputError(
            f"statistics of a domain need at least {fewest} images, found {len(x)}", remedy="give more images"
        )
    if not np.isfinite(x).all():
        raise InputError("features hold NaN or infinity", remedy="check the network's weights")
    count, width = x.shape
    mean = x.mean(axis=0)
    centred = x - mean
    sample = centred.T @ centred / count
    level = float(np.trace(sample)) / width
    spread = float((sample**2).sum()) - width * level**2
    # The mean over rows of |x x' - S|^2 is mean |x|^4 - |S|^2.
    noise = (float(((centred**2).sum(axis=1) ** 2).mean()) - float((sample**2).sum())) / count
    shrinkage = 1.0 if spread <= 0 else min(max(noise / spread, 0.0), 1.0)
    values, vectors = np.linalg.eigh(sample)
    values = (1 - shrinkage) * np.maximum(values[::-1], 0) + shrinkage * level
    return Covariance(mean, np.maximum(values, 1e-12 + 1e-9 * level), vectors[:, ::-1], shrinkage)


def fit_gaussian(features: NDArray[np.floating]) -> Gaussian:
    """Mean and shrunk covariance of features (N, D), for `distances`. Errors as `shrunk_covariance`."""
    covariance = shrunk_covariance(features)
    return Gaussian(covariance.mean, covariance.vectors / np.sqrt(covariance.values))


def fold_of_groups(groups: Sequence[str] | None, count: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """(count,) fold of every row, whole groups to one fold and the folds about equally large.

    Large groups are dealt out first, each to the smallest fold. Raises InputError for a single group.
    """
    names = [str(i) for i in range(count)] if groups is None else list(groups)
    if len(names) != count:
        raise InputError(f"expected one group for each of {count} images, found {len(names)}")
    _, index, sizes = np.unique(names, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError("all images are of one group, so none can be left out", remedy="give images of more groups")
    filled = np.zeros(min(folds, len(sizes)), np.int64)
    fold = np.empty(len(sizes), np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold[group] = int(np.argmin(filled))
        filled[fold[group]] += sizes[group]
    result: NDArray[np.int64] = fold[index]
    return result


def energy(logits: NDArray[np.floating], *, temperature: float = 1.0) -> Floats:
    """(N,) free energy -T log sum exp(logits / T) of logits (N, C); higher is less typical (arXiv:2010.03759).

    For a network trained with cross-entropy. Raises InputError for other shapes or a temperature not above zero.
    """
    scaled = np.asarray(logits, np.float64)
    if scaled.ndim != 2 or scaled.shape[1] == 0 or not temperature > 0:
        raise InputError(
            f"energy needs logits (N, C) and a temperature above zero, found {scaled.shape}, {temperature}"
        )
    scaled = scaled / temperature
    top = scaled.max(axis=1)
    result: Floats = -temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)))
    return result


def most_and_least(distances: Floats, number: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the most typical images (nearest first) and of the least typical (furthest first)."""
    order = np.argsort(distances, kind="stable")
    return order[:number], order[::-1][:number]


def cover(reference: Floats, data: Floats, number: int) -> NDArray[np.intp]:
    """Indices of `number` data rows to label first: each the furthest from the reference and all chosen before.

    Greedy k-centre (Sener and Savarese 2018, arXiv:1708.00489), so that twenty frames of one tunnel count once.
    reference (N, D) and data (M, D) should be whitened. Stops early where nothing new is left.
    """
    nearest = np.full(len(data), np.inf)
    for block in np.array_split(reference, max(len(reference) // 256, 1)):
        squares = (data**2).sum(1)[:, None] + (block**2).sum(1)[None] - 2 * data @ block.T
        nearest = np.minimum(nearest, squares.min(axis=1, initial=np.inf))
    chosen: list[int] = []
    while len(chosen) < min(number, len(data)):
        furthest = int(np.argmax(nearest))
        if nearest[furthest] <= 1e-9:
            break
        chosen.append(furthest)
        nearest = np.minimum(nearest, ((data - data[furthest]) ** 2).sum(axis=1))
    return np.array(chosen, np.intp)
