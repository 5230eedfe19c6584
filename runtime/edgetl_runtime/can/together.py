"""Boxes of several cameras and bundles as one list, in which what two of them see is there once.

What counts as the same, always of one label and never twice from one camera and bundle:

- seen by two cameras: places whose difference lies within 99 % of what their covariances allow, errors taken as
  independent, and within MOST_APART_M;
- seen by two bundles in one frame of one camera: boxes that overlap by SAME_IOU; their errors are not independent.

An object that two see has the place of the one whose covariance is smaller, and the track number of the first that has
one. More than two: each must fit each other. Pairs are taken one to one, the best first.

Limits. Places are those of the captures: frames of two cameras that are t apart let an object that moves at v be off by
v t, and it is sent twice where that is too much. So is what lies far away, where places are off by more than
MOST_APART_M, and what has no place. Where each of two cameras sees another one of two objects of one label that stand
so near each other, one of them is not sent; the one that is sent stands within MOST_APART_M of it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.association import greedy_pairs, overlaps
from edgetl_runtime.result import Detections, Places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GATE = -2 * math.log(0.01)
"""99 % of chi-squared with two degrees of freedom."""
MOST_APART_M = 3.0
"""Two vehicles side by side are further apart from middle to middle."""
SAME_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """The boxes of one camera's frame by one bundle. found: labels and track numbers mean the same for all."""

    camera: str
    frame_id: int
    found: Detections


@dataclass(frozen=True, slots=True)
class Together:
    """found: every object once. source: (N,) which of those that were given each of them is from."""

    found: Detections
    source: NDArray[np.intp]


def together(seen: Sequence[Seen]) -> Together:
    """Everything that is seen, in the order that it came in; new arrays where several are given."""
    if len(seen) == 1:
        return Together(seen[0].found, np.zeros(len(seen[0].found), np.intp))
    source = np.repeat(np.arange(len(seen)), [len(s.found) for s in seen])
    joint = _joint([s.found for s in seen])
    alike = _alike(joint, seen, source)
    groups: list[list[int]] = []
    for i in range(len(seen)):
        _add(groups, np.flatnonzero(source == i), alike)
    spread = _spread(joint)
    groups.sort(key=min)
    kept = np.array([min(group, key=lambda i: spread[i]) for group in groups], np.intp)
    return Together(_taken(joint, kept, groups), source[kept])


def _add(groups: list[list[int]], own: NDArray[np.intp], alike: NDArray[np.float64]) -> None:
    """Put objects of one source into the groups that they belong to, or into new ones."""
    worth = np.array([alike[group][:, own].min(axis=0) for group in groups]).reshape(len(groups), len(own))
    rows, columns = np.nonzero(worth)
    rows, columns = greedy_pairs(rows, columns, worth[rows, columns])
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        groups[row].append(int(own[column]))
    taken = set(columns.tolist())
    groups.extend([int(i)] for column, i in enumerate(own) if column not in taken)


def _alike(joint: Detections, seen: Sequence[Seen], source: NDArray[np.intp]) -> NDArray[np.float64]:
    """(N, N) how much alike two objects are, above 0 to 1; 0 where they are not the same."""
    cameras = np.array([[s.camera for s in seen].index(s.camera) for s in seen], np.intp)[source]
    frames = np.array([s.frame_id for s in seen], np.int64)[source]
    boxes = joint.boxes_xyxy.astype(np.float64)
    overlap = overlaps(boxes, boxes)
    one_camera = cameras[:, None] == cameras[None]
    one_frame = one_camera & (frames[:, None] == frames[None])
    alike = np.where(one_frame & (overlap >= SAME_IOU), overlap, 0.0)
    if joint.places is not None:
        alike = np.where(one_camera, alike, _near(joint.places))
    alike[joint.classes[:, None] != joint.classes[None]] = 0.0
    return alike


def _near(places: Places) -> NDArray[np.float64]:
    """(N, N) 1 where two places are the same, falling to 0 at the gate, and 0 where one is not known."""
    x, y = (v[:, None] - v[None] for v in places.positions_m.T.astype(np.float64))
    spread = places.covariances_m2.astype(np.float64)
    a, b, c = (v[:, None] + v[None] for v in (spread[:, 0, 0], spread[:, 0, 1], spread[:, 1, 1]))
    det = a * c - b * b
    with np.errstate(invalid="ignore", divide="ignore"):
        off = (c * x * x - 2 * b * x * y + a * y * y) / det
        inside = (det > 0) & (off >= 0) & (off < GATE) & (x * x + y * y <= MOST_APART_M**2)
    return np.where(inside, 1 - off / GATE, 0.0)


def _spread(joint: Detections) -> NDArray[np.float64]:
    """(N,) the sum of a place's variances; infinity where there is none."""
    if joint.places is None:
        return np.full(len(joint), np.inf)
    spread = joint.places.covariances_m2.astype(np.float64).trace(axis1=1, axis2=2)
    return np.where(np.isfinite(spread), spread, np.inf)


def _joint(found: Sequence[Detections]) -> Detections:
    """One after the other; -1 and NaN for tracks and places that some of them don't have."""
    tracks = [f.track_ids is not None for f in found]
    return Detections(
        np.concatenate([f.boxes_xyxy for f in found]),
        np.concatenate([f.scores for f in found]),
        np.concatenate([f.classes for f in found]),
        track_ids=np.concatenate([_numbers(f) for f in found]) if any(tracks) else None,
        track_ages_s=np.concatenate([_known(f.track_ages_s, len(f)) for f in found]) if any(tracks) else None,
        velocities_px_s=np.concatenate([_known(f.velocities_px_s, len(f), 2) for f in found]) if any(tracks) else None,
        places=_joint_places(found) if any(f.places is not None for f in found) else None,
    )


def _joint_places(found: Sequence[Detections]) -> Places:
    rows = [(f.places, len(f)) for f in found]
    return Places(
        np.concatenate([_known(None if p is None else p.positions_m, n, 2) for p, n in rows]),
        np.concatenate([_known(None if p is None else p.covariances_m2, n, 2, 2) for p, n in rows]),
        np.concatenate([_known(None if p is None else p.closing_speeds_mps, n) for p, n in rows]),
        np.concatenate([_known(None if p is None else p.times_to_collision_s, n) for p, n in rows]),
    )


def _numbers(found: Detections) -> NDArray[np.int64]:
    return np.full(len(found), -1, np.int64) if found.track_ids is None else found.track_ids


def _known(values: NDArray[np.float32] | None, *shape: int) -> NDArray[np.float32]:
    return np.full(shape, np.nan, np.float32) if values is None else values


def _taken(joint: Detections, kept: NDArray[np.intp], groups: Sequence[Sequence[int]]) -> Detections:
    """The objects that are kept, each with the first track number of its group."""
    found, numbers = subset(joint, kept), joint.track_ids
    if numbers is None:
        return found
    known = [next((n for n in numbers[list(group)].tolist() if n >= 0), -1) for group in groups]
    return dataclasses.replace(found, track_ids=np.array(known, np.int64))


def subset(found: Detections, kept: NDArray[np.intp]) -> Detections:
    """These boxes of it, in this order; new arrays."""
    p, places = found.places, None
    if p is not None:
        parts = (p.positions_m, p.covariances_m2, p.closing_speeds_mps, p.times_to_collision_s)
        places = Places(*(part[kept] for part in parts))
    return Detections(
        found.boxes_xyxy[kept],
        found.scores[kept],
        found.classes[kept],
        track_ids=None if found.track_ids is None else found.track_ids[kept],
        track_ages_s=None if found.track_ages_s is None else found.track_ages_s[kept],
        velocities_px_s=None if found.velocities_px_s is None else found.velocities_px_s[kept],
        places=places,
    )
