"""Two-sample distances between features: kernel distance, nearest neighbours, and how far chance alone reaches.

All of it takes features as (N, D) arrays and a group for every row: rows of one group (a drive, a physical
object) are no independent evidence, so they are never compared with each other and are always drawn together.
numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

BOOTSTRAPS = 400
PERMUTATIONS = 999
NEIGHBOURS = 5
NEAREST_KEPT = 64
"""Neighbours kept for the bootstrap, where a third of them is not drawn."""
FEWEST_GROUPS = 8
"""Below this many groups on a side there are too few ways to draw groups; images then count one by one."""
SMALLEST_SPREAD = 0.05
"""A channel's deviation counts as at least this share of the median channel's, so that a channel that is
nearly constant over the reference does not drown the others."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """Unbiased squared MMD with the polynomial kernel: 0 where both sides are alike, and then of either sign.

    null: the 95 % quantile of the same value when images change sides by chance. p_value: the share of such
    draws that reach `value.value`.
    """

    value: Interval
    null: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Features (N, D) and (M, D) of both sides, and their groups as integers that mean the same on both."""

    reference: Floats
    data: Floats
    reference_groups: Groups
    data_groups: Groups


def make_pair(
    reference: NDArray[np.floating],
    data: NDArray[np.floating],
    reference_groups: list[str] | None = None,
    data_groups: list[str] | None = None,
) -> Pair:
    """Both sides, checked, as float64. Without groups every image is one of its own.

    Groups that are too few to draw from (FEWEST_GROUPS) are set aside on both sides. Raises InputError for
    fewer than four rows on a side, other widths, and values that are not finite.
    """
    if reference.ndim != 2 or data.ndim != 2 or reference.shape[1] != data.shape[1]:
        raise InputError(f"features must be (N, D) and (M, D), found {reference.shape} and {data.shape}")
    if min(len(reference), len(data)) < 4:
        raise InputError(
            f"a distance needs at least 4 images on each side, found {len(reference)} and {len(data)}",
            remedy="give more images",
        )
    if not (np.isfinite(reference).all() and np.isfinite(data).all()):
        raise InputError("features hold NaN or infinity", remedy="check the network's weights")
    groups = np.unique([*_names(reference_groups, len(reference), "r"), *_names(data_groups, len(data), "d")],
                       return_inverse=True)[1].astype(np.int64)  # fmt: skip
    first, second = groups[: len(reference)], groups[len(reference) :]
    if min(len(np.unique(first)), len(np.unique(second))) < FEWEST_GROUPS:
        first, second = np.arange(len(first)), len(first) + np.arange(len(second))
    return Pair(reference.astype(np.float64), data.astype(np.float64), first, second)


def standardised(values: Floats, basis: Floats) -> Floats:
    """`values` less the means of `basis`, over its deviations; see SMALLEST_SPREAD."""
    spread = basis.std(axis=0)
    floor = SMALLEST_SPREAD * float(np.median(spread))
    scaled: Floats = (values - basis.mean(axis=0)) / np.maximum(spread, floor if floor > 0 else 1.0)
    return scaled


def _names(groups: list[str] | None, count: int, side: str) -> list[str]:
    """Group names; without any, every row its own. A name that both sides use is one group."""
    if groups is None:
        return [f"\0{side}{i}" for i in range(count)]
    if len(groups) != count:
        raise InputError(f"expected one group for each of {count} images, found {len(groups)}")
    return groups


def kernel_distance(
    pair: Pair, *, bootstraps: int = BOOTSTRAPS, permutations: int = PERMUTATIONS, seed: int = 0
) -> KernelDistance:
    """The kernel distance of Binkowski et al. 2018 (arXiv:1801.01401), (x.y / D + 1)^3, whole sets at once.

    Pairs of one group are left out of every mean, which makes it unbiased where images of a group are alike.
    The interval draws groups with replacement within each side; it is wide enough only where the sides differ
    (a degenerate statistic otherwise), which is what `null` is for: groups change sides by chance. Features are
    standardised over both sides together, which no such change alters: the p-value is exact, and the value stays
    below about 16 however far the sides are apart.
    """
    rng = np.random.default_rng(seed)
    features = np.concatenate([pair.reference, pair.data])
    features = standardised(features, features)
    groups = np.concatenate([pair.reference_groups, pair.data_groups])
    count = len(pair.reference)
    different = (groups[:, None] != groups[None, :]).astype(np.float64)
    kernel = polynomial_kernel(features, features) * different
    sides = np.zeros((2, len(features)))
    sides[0, :count], sides[1, count:] = 1, 1
    value = float(_mmd2(kernel, different, sides[:1], sides[1:])[0])
    drawn = _mmd2(
        kernel,
        different,
        np.pad(draw_groups(pair.reference_groups, bootstraps, rng), ((0, 0), (0, len(features) - count))),
        np.pad(draw_groups(pair.data_groups, bootstraps, rng), ((0, 0), (count, 0))),
    )
    swapped = swap_groups(groups, count, permutations, rng)
    chance = _mmd2(kernel, different, swapped, 1 - swapped)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return KernelDistance(
        Interval(value, float(low), float(high)),
        float(np.nanquantile(chance, 0.95)),
        float((1 + np.count_nonzero(chance >= value)) / (1 + len(chance))),
    )


def polynomial_kernel(x: Floats, y: Floats) -> Floats:
    """(N, M) of (x.y / D + 1)^3."""
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _mmd2(kernel: Floats, different: Floats, first: Floats, second: Floats) -> Floats:
    """(B,) squared MMD for B pairs of row weights (B, N); `kernel` is zero where `different` is."""

    def mean(a: Floats, b: Floats) -> Floats:
        pairs = np.einsum("bn,bn->b", a @ different, b)
        total = np.einsum("bn,bn->b", a @ kernel, b)
        means: Floats = total / np.where(pairs > 0, pairs, np.nan)
        return means

    squared: Floats = mean(first, first) + mean(second, second) - 2 * mean(first, second)
    return squared


def draw_groups(groups: Groups, draws: int, rng: np.random.Generator) -> Floats:
    """(draws, N) how often each row is in a bootstrap sample of whole groups."""
    names, index = np.unique(groups, return_inverse=True)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    weights: Floats = times[:, index].astype(np.float64)
    return weights


def swap_groups(groups: Groups, count: int, draws: int, rng: np.random.Generator) -> Floats:
    """(draws, N) of 0 and 1: groups in random order go to the first side until it holds about `count` rows."""
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permuted(np.tile(np.arange(len(sizes)), (draws, 1)), axis=1)
    filled = np.cumsum(sizes[order], axis=1)
    # A group goes to the first side where most of its rows still fit.
    taken_in_order = filled - sizes[order] / 2 <= count
    taken = np.zeros_like(taken_in_order)
    np.put_along_axis(taken, order, taken_in_order, axis=1)
    weights: Floats = taken[:, index].astype(np.float64)
    return weights


def neighbour_distances(pair: Pair, *, neighbours: int = NEIGHBOURS) -> tuple[Floats, Floats]:
    """(N,) of the reference among itself and (M,) of the data to the reference; the own group never counts.

    Each is the mean Euclidean distance to the nearest `neighbours` reference rows, over sqrt(D), of features
    standardised by the reference. Raises InputError where an image has no reference outside its own group.
    """
    within, outside = _neighbours(pair)
    everything = np.ones(len(pair.reference))
    return _nearest(within, everything, neighbours), _nearest(outside, everything, neighbours)


def neighbour_ratio(
    pair: Pair, *, neighbours: int = NEIGHBOURS, bootstraps: int = BOOTSTRAPS, seed: int = 0
) -> Interval:
    """How much further data lies from the reference than the reference from itself; 1 where it is at home.

    The interval draws groups of both sides with replacement; a reference that isn't drawn is nobody's neighbour.
    It is somewhat narrow for fewer than 60 images, so whether there is a shift at all is not for it to say.
    """
    rng = np.random.default_rng(seed)
    within, outside = _neighbours(pair)
    drawn = zip(
        draw_groups(pair.reference_groups, bootstraps, rng), draw_groups(pair.data_groups, bootstraps, rng), strict=True
    )
    ratios = [_ratio(within, outside, first, second, neighbours) for first, second in drawn]
    value = _ratio(within, outside, np.ones(len(pair.reference)), np.ones(len(pair.data)), neighbours)
    # Fewer rows lie nearer to no one: what drawing does to the middle is no uncertainty and is taken out.
    low, high = value * np.nanquantile(ratios, [0.025, 0.975]) / max(float(np.nanmedian(ratios)), 1e-12)
    return Interval(value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class _Near:
    """distances: (N, T) to the nearest allowed reference rows, rising. index: (N, T) which rows they are."""

    distances: Floats
    index: NDArray[np.intp]


def _neighbours(pair: Pair) -> tuple[_Near, _Near]:
    """Of the reference in itself and of the data in the reference, own groups at infinity."""
    reference, data = (standardised(side, pair.reference) for side in (pair.reference, pair.data))
    sides = ((reference, pair.reference_groups), (data, pair.data_groups))
    near = []
    for features, groups in sides:
        distances = _distances(features, reference)
        distances[groups[:, None] == pair.reference_groups[None, :]] = np.inf
        index = np.argsort(distances, axis=1, kind="stable")[:, :NEAREST_KEPT]
        near.append(_Near(np.take_along_axis(distances, index, axis=1), index))
        if not np.isfinite(near[-1].distances[:, 0]).all():
            raise InputError(
                "all reference images belong to the group of an image that is compared with them",
                remedy="give a reference of more than one group",
            )
    return near[0], near[1]


def _nearest(near: _Near, present: Floats, neighbours: int) -> Floats:
    """(N,) mean distance to the nearest `neighbours` of the reference rows that are present; NaN for none."""
    use = (present[near.index] > 0) & np.isfinite(near.distances)
    use &= np.cumsum(use, axis=1) <= neighbours
    total = np.where(use, near.distances, 0).sum(axis=1)
    number = use.sum(axis=1)
    means: Floats = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return means


def _ratio(within: _Near, outside: _Near, reference: Floats, data: Floats, neighbours: int) -> float:
    """The ratio where reference and data rows count as often as their weights say."""
    means = []
    for near, weights in ((outside, data), (within, reference)):
        distances = _nearest(near, reference, neighbours)
        known = np.isfinite(distances) & (weights > 0)
        if not known.any():
            return float("nan")
        means.append(float(np.average(distances[known], weights=weights[known])))
    return means[0] / max(means[1], 1e-12)


def _distances(x: Floats, y: Floats) -> Floats:
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2 * x @ y.T
    distances: Floats = np.sqrt(np.maximum(squares, 0) / x.shape[1])
    return distances
