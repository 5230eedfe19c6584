"""Calibration frames chosen so that all that the data hold is among them: light, drives, classes, small objects."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.data.histograms import box_counts, category_counts
from edgetl.data.masks import unlabelled
from edgetl.metrics.predict import Frames
from edgetl.strata import Kind, kinds_of_strata
from edgetl_export.frames import check_frames
from edgetl_runtime.spec import Calibration, Preprocess

MOST_LOOKED_AT = 2000
"""Larger datasets are thinned out before any image is opened, but not in their rarer classes."""


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The chosen images, without their labels, and how many of them each stratum has, as Calibration.strata says."""

    dataset: Dataset
    strata: dict[str, int]


def choose_calibration(datasets: Sequence[Dataset], number: int, *, size_hw: tuple[int, int]) -> CalibrationSet:
    """At most `number` images of the datasets together, labelled or not, so that every stratum is covered.

    size_hw: the network's input, by which objects are small. Greedy: always the image whose strata lack most of
    their even shares; of equals the one with the most objects, then the first. The same files give the same choice.
    Raises InputError for an image that can't be read.
    """
    datasets = [_thinned(d, number) for d in _distinct(datasets)]
    samples = [s for d in datasets for s in d.samples]
    kinds = kinds_of_strata(datasets, number, size_hw)
    chosen = _greedy(kinds, np.array([len(s.labels) for s in samples]), min(number, len(samples)))
    dataset = Dataset("calibration", (), tuple(unlabelled(samples[i].image) for i in chosen))
    return CalibrationSet(dataset, _counts(kinds, chosen))


def calibration_frames(chosen: CalibrationSet, preprocess: Preprocess) -> tuple[list[NDArray[np.uint8]], Calibration]:
    """The letterboxed frames (1, H, W, 3) uint8 BGR and the record of them.

    Raises InputError for frames that check_frames refuses.
    """
    frames = Frames(chosen.dataset, preprocess, title="calibration").images
    check_frames(frames, preprocess.size_hw, names=[str(s.image) for s in chosen.dataset.samples])
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame.tobytes())
    return frames, Calibration(frames=len(frames), sha256=digest.hexdigest(), strata=chosen.strata)


def _distinct(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The datasets, every file once: it counts where it comes first."""
    seen: set[Path] = set()
    result = []
    for dataset in datasets:
        places = [s.image.resolve() for s in dataset.samples]
        new = [s for s, place in zip(dataset.samples, places, strict=True) if place not in seen]
        seen.update(places)
        result.append(dataclasses.replace(dataset, samples=tuple(new)))
    return result


def _thinned(dataset: Dataset, number: int) -> Dataset:
    """At most MOST_LOOKED_AT samples evenly spread, and of every class as many as could be chosen."""
    if len(dataset) <= MOST_LOOKED_AT:
        return dataset
    keep = set(_spread(np.arange(len(dataset)), MOST_LOOKED_AT))
    for column in np.concatenate([box_counts(dataset), category_counts(dataset)], axis=1).T:
        keep.update(_spread(np.flatnonzero(column), number))
    return dataset.only(sorted(keep))


def _spread(indices: NDArray[np.int64], number: int) -> list[int]:
    if len(indices) <= number:
        return [int(i) for i in indices]
    return [int(i) for i in indices[np.linspace(0, len(indices) - 1, number).round().astype(int)]]


def _greedy(kinds: Sequence[Kind], objects: NDArray[np.int64], number: int) -> list[int]:
    """Indices of the chosen images, rising. objects: (N,) how many each has."""
    members = np.concatenate([k.members for k in kinds], axis=1).astype(np.float32)
    wanted = np.concatenate([_wanted(k, number) for k in kinds])
    weights = np.concatenate([_weights(k) for k in kinds])
    have = np.zeros(members.shape[1])
    left = np.ones(len(members), np.bool_)
    for _ in range(number):
        lacking = weights * (1 - have / wanted).clip(0)
        gain = np.where(left, (members @ lacking.astype(np.float32)).round(4), -1)
        best = np.flatnonzero(gain == gain.max())
        pick = best[np.argmax(objects[best])]
        left[pick] = False
        have += members[pick]
    return [int(i) for i in np.flatnonzero(~left)]


def _wanted(kind: Kind, number: int) -> NDArray[np.float64]:
    """(S,) how many frames each stratum should have: an even share, at least one, and never more than there are."""
    there = kind.members.sum(axis=0)
    even = kind.share * number / max(int(np.count_nonzero(there)), 1)
    return np.asarray(np.minimum(max(even, 1.0), np.maximum(there, 1)), np.float64)


def _weights(kind: Kind) -> NDArray[np.float64]:
    """(S,) the kind's weight, or up to twice that for the rarest."""
    frequent = kind.members.sum(axis=0) / max(len(kind.members), 1)
    return np.asarray(kind.weight * (2 - frequent if kind.rare_first else np.ones(len(kind.strata))))


def _counts(kinds: Sequence[Kind], chosen: Sequence[int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        have = kind.members[list(chosen)].sum(axis=0)
        if kind.shown == "each":
            counts |= {f"{kind.name}: {s}": int(n) for s, n in zip(kind.strata, have, strict=True)}
        elif kind.shown == "how many" and kind.strata:
            counts[f"different: {kind.name}"] = int(np.count_nonzero(have))
    return counts
