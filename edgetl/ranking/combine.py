"""Several scores to one order of networks, and how sure that order is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCORES = ("knn", "logme", "h_score")
PRIOR_WEIGHT = 0.25
"""Weight of the published accuracy's rank beside 1 for each score measured on the data at hand."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A network's scores (higher is better), and the same scores of resampled data.

    replicates: (R, 3) float64 in the order of SCORES; row r of every network comes from the same resampled images.
    prior: published top-1 accuracy or None.
    """

    name: str
    knn: float
    logme: float
    h_score: float
    prior: float | None
    replicates: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a network stands. index: into what was given. place: 1 is best. rank: mean of its ranks by score.

    p_best: share of resamples in which it is the best. p_above_next: share in which it stands above the network of
    the next place, None for the last. low, high: 95 % interval of each score.
    """

    index: int
    place: int
    rank: float
    p_best: float
    p_above_next: float | None
    low: tuple[float, float, float]
    high: tuple[float, float, float]


def combine(networks: Sequence[Scored]) -> list[Placed]:
    """The networks from best to worst by the mean of their ranks; equal ones by the nearest neighbours' score."""
    if not networks:
        return []
    priors = np.array([np.nan if n.prior is None else n.prior for n in networks])
    points = np.array([[n.knn, n.logme, n.h_score] for n in networks])
    ranks = mean_ranks(points[None], priors)[0]
    order = np.lexsort((-points[:, 0], ranks.round(9)))
    resampled = mean_ranks(np.stack([n.replicates for n in networks], axis=1), priors)
    is_best = np.isclose(resampled, resampled.min(axis=1, keepdims=True))
    p_best = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)
    placed = []
    for place, i in enumerate(order.tolist(), 1):
        following = order[place] if place < len(order) else None
        above = None if following is None else _share_below(resampled[:, i], resampled[:, following])
        low, high = (np.percentile(networks[i].replicates, q, axis=0).tolist() for q in (2.5, 97.5))
        placed.append(Placed(i, place, float(ranks[i]), float(p_best[i]), above, tuple(low), tuple(high)))
    return placed


def mean_ranks(values: NDArray[np.float64], priors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, M, S) scores and (M,) priors, NaN where there is none -> (R, M) weighted means of the ranks, 1 is best.

    A rank counts the networks that are better, equal ones by half; where one of two has no prior, neither is better.
    """
    with np.errstate(invalid="ignore"):
        prior_rank = 1 + _better(priors[None, :, None])[0, :, 0]
    ranks = 1 + _better(values)
    total = ranks.sum(axis=2) + PRIOR_WEIGHT * prior_rank
    return np.asarray(total / (values.shape[2] + PRIOR_WEIGHT))


def _better(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, M, S) -> how many networks have a higher value; half for one that is equal or can't be compared."""
    mine, other = values[:, :, None], values[:, None]
    higher, lower = (other > mine).sum(axis=2), (other < mine).sum(axis=2)
    undecided = values.shape[1] - 1 - higher - lower
    return np.asarray(higher + 0.5 * undecided, np.float64)


def _share_below(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    equal = np.isclose(a, b)
    return float(np.where(equal, 0.5, a < b).mean())
