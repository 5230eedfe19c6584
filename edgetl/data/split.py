"""Split a dataset by whole groups, so that no drive and no object stands on two sides, with the classes in balance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset, Sample
from edgetl.data.histograms import box_counts, category_counts, mask_counts
from edgetl.data.leaks import grouped, stated_groups
from edgetl.data.looks import looks_of, same_pictures
from edgetl_runtime.errors import InputError

PASSES = 4
"""How often every group is looked at again once all are placed."""

Floats = NDArray[np.float64]


def split_by_group(
    dataset: Dataset,
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    together: Iterable[tuple[int, int]] = (),
) -> dict[str, Dataset]:
    """Whole groups dealt out so that every split has its share of the images and of every class.

    fractions: split name -> share, adding up to 1. together: pairs of samples that must stay on one side, too.
    The same seed gives the same splits. Greedy over groups, the largest first, in the manner of iterative
    stratification (Sechidis et al. 2011), then groups are moved as long as that improves the balance.
    Raises InputError for wrong shares and for fewer groups than splits.
    """
    names = _checked(fractions)
    units = _units(dataset, together)
    count = int(units.max(initial=-1)) + 1
    if count < len(names):
        raise InputError(
            f"{dataset.name}: {count} {'group' if count == 1 else 'groups'} can't fill {len(names)} splits "
            f"({', '.join(names)})",
            remedy="ask for fewer splits, or state smaller groups with --group-pattern",
        )
    shares = np.array([fractions[n] for n in names])
    sides = _deal(_unit_shares(dataset, units, count), shares, np.random.default_rng(seed))
    return {
        name: dataclasses.replace(dataset.only(np.flatnonzero(sides[units] == k).tolist()), name=name)
        for k, name in enumerate(names)
    }


def same_picture_pairs(dataset: Dataset) -> list[tuple[int, int]]:
    """Pairs of samples that are the same file or the same picture, for `together`."""
    looks = looks_of(dataset)
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(row.tobytes(), i), i) for i, row in enumerate(looks.sha256)]
    for rows, columns, _ in same_pictures(looks, looks):
        pairs += zip(rows.tolist(), columns.tolist(), strict=True)
    return [(a, b) for a, b in pairs if a < b]


def pooled(datasets: Iterable[Dataset], name: str) -> Dataset:
    """Several splits of one dataset as one; an image that stands in two of them is taken once.

    Images of one name in two splits are different images, so each becomes a group of its own where it has none.
    """
    parts = list(datasets)
    stated = set[str]().union(*map(stated_groups, parts))
    seen: dict[Path, Sample] = {}
    stems: set[str] = set()
    for part in parts:
        for sample in part.samples:
            place = sample.image.resolve()
            if place in seen:
                continue
            clash = not grouped(sample) and sample.group in stems and sample.group not in stated
            own = dataclasses.replace(sample, group=f"{part.name}/{sample.group}") if clash else sample
            stems.add(own.group)
            seen[place] = own
    return dataclasses.replace(parts[0], name=name, samples=tuple(seen.values()))


def _checked(fractions: Mapping[str, float]) -> list[str]:
    total = sum(fractions.values())
    if not fractions or min(fractions.values()) <= 0 or abs(total - 1) > 1e-6:
        found = ", ".join(f"{name}={share:g}" for name, share in fractions.items()) or "none"
        raise InputError(
            f"the shares must be above 0 and add up to 1, found {found}", remedy="write them like train=0.8,val=0.2"
        )
    return list(fractions)


def _units(dataset: Dataset, together: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """(N,) int64: which unit, 0 to U-1, each sample belongs to; a sample without a group is one of its own."""
    parent = list(range(len(dataset)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    stated = stated_groups(dataset)
    for i, sample in enumerate(dataset.samples):
        if sample.group in stated:
            parent[root(i)] = root(first.setdefault(sample.group, i))
    for a, b in together:
        parent[root(b)] = root(a)
    _, units = np.unique([root(i) for i in range(len(dataset))], return_inverse=True)
    return np.asarray(units, dtype=np.int64)


def _unit_shares(dataset: Dataset, units: NDArray[np.int64], count: int) -> Floats:
    """(U, C) each unit's share of what the whole dataset has: images, classes, categories, mask pixels, domains."""
    domains = sorted({s.domain for s in dataset.samples})
    domain_of = np.array([domains.index(s.domain) for s in dataset.samples])
    columns = [
        np.ones((len(dataset), 1)),
        box_counts(dataset),
        category_counts(dataset),
        *(mask_counts(dataset, i).per_class(layer) for i, layer in enumerate(dataset.layers)),
        domain_of[:, None] == np.arange(len(domains)),
    ]
    per_sample = np.concatenate([c.astype(np.float64) for c in columns], axis=1)
    per_unit = np.zeros((count, per_sample.shape[1]))
    np.add.at(per_unit, units, per_sample)
    totals = per_unit.sum(axis=0)
    shares: Floats = per_unit[:, totals > 0] / totals[totals > 0]
    shares[:, 0] *= np.sqrt(max(shares.shape[1] - 1, 1))  # the number of images counts as much as all else together
    return shares


def _deal(units: Floats, shares: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """(U,) int64: the split of each unit."""
    order = rng.permutation(len(units))
    order = order[np.argsort(-units[order].max(axis=1), kind="stable")]
    wanted = shares[:, None] * units.sum(axis=0)
    have = np.zeros_like(wanted)
    sides = np.zeros(len(units), np.int64)
    for i in order:
        k = int(np.argmin(_cost(have + units[i], wanted, shares) - _cost(have, wanted, shares)))
        sides[i] = k
        have[k] += units[i]
    _fill_empty(sides, units, len(shares))
    _improve(sides, units, wanted, shares, rng)
    return sides


def _cost(have: Floats, wanted: Floats, shares: Floats) -> Floats:
    """(S,) squared distance of each split from its share, in proportion to the share: a small one counts as much."""
    return np.asarray(((have - wanted) ** 2).sum(axis=1) / shares)


def _fill_empty(sides: NDArray[np.int64], units: Floats, splits: int) -> None:
    """Give every empty split the smallest unit of the split with the most units."""
    for k in range(splits):
        if not (sides == k).any():
            rich = int(np.bincount(sides, minlength=splits).argmax())
            members = np.flatnonzero(sides == rich)
            sides[members[units[members].sum(axis=1).argmin()]] = k


def _improve(sides: NDArray[np.int64], units: Floats, wanted: Floats, shares: Floats, rng: np.random.Generator) -> None:
    """Move one unit at a time where that brings all splits nearer to their shares; none is emptied."""
    have = np.zeros_like(wanted)
    np.add.at(have, sides, units)
    sizes = np.bincount(sides, minlength=len(shares))
    for _ in range(PASSES):
        moved = False
        for i in rng.permutation(len(units)):
            k = int(sides[i])
            if sizes[k] == 1:
                continue
            now = _cost(have, wanted, shares)
            change = _cost(have + units[i], wanted, shares) - now
            change += _cost(have - units[i], wanted, shares)[k] - now[k]
            change[k] = 0.0
            best = int(change.argmin())
            if change[best] < -1e-12:
                have[k] -= units[i]
                have[best] += units[i]
                sizes[k] -= 1
                sizes[best] += 1
                sides[i], moved = best, True
        if not moved:
            return
