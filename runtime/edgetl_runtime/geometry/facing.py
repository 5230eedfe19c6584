"""From the middle of a box's lower edge to the middle of the side that faces the camera, as far as it is seen.

The lower edge is that of the nearest corner, but the box also holds what lies behind: of a bus to the left its flank,
to the right of its front. So the middle of the box lies towards the camera's axis from the middle of the front. Of an
object that stands along or across the axis, the outer edge of the box is the nearest side's own outer edge; what the
box is wider than that side is flank, as far as an object of this label can be that long. Half of it is the shift.

Where the picture's left or right edge cuts a box, the nearest corner may lie beyond it, and the lower edge shows a
place along the flank: the distance is an upper bound. From its far end to that edge so much of the flank is seen; what
the label's length is more than that is hidden, or nothing is where the object stands across. The place is put halfway,
with half of the hidden length as its deviation, and is not given where that is too unsure.

The shares below were chosen on roadworld's stills of the seeds 100 and 101 and its drives 100 to 105, by how many
errors the stated 90 % hold; what they do on others is in tests/bench/bench_geometry.py and docs/vehicle.md.

Lengths are along X and Y from the camera's foot, X the way the camera looks by its yaw, as in `ground`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.geometry.ground import EDGE_PX, MOST_RELATIVE_STD
from edgetl_runtime.geometry.kinds import footprints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.geometry.ground import Ground, Sight

    F64 = NDArray[np.float64]

SHIFT_STD = 0.3
"""Deviation of a shift, as a share of it: objects stand slantwise, and lengths differ."""
WHOLE_SHARE = 1.5
"""A cut box that shows so much of the label's length shows the nearest corner, whatever the length is."""
AXLES_SHARE = 0.6
"""The axles' distance as a share of the length: the lowest thing to be seen is a wheel, the near one or the far."""
_LEAST_SLOPE = 1e-3


class Facing:
    """The sides of objects by label, as a camera that looks this way sees them."""

    def __init__(self, labels: Sequence[str], yaw_deg: float) -> None:
        length, width, deviation = footprints(labels).T
        along, across = abs(float(np.cos(np.deg2rad(yaw_deg)))), abs(float(np.sin(np.deg2rad(yaw_deg))))
        self._deep, self._wide = length * along + width * across, width * along + length * across
        self._wide_std = deviation

    def faced(
        self,
        ground: Ground,
        sight: Sight,
        boxes_xyxy: NDArray[np.float32],
        classes: NDArray[np.int64],
        size_hw: tuple[int, int],
    ) -> tuple[Sight, NDArray[np.bool_]]:
        """The same boxes with the places of their facing sides, and (N,) which of them the picture's side cuts."""
        cut_left, cut_right = boxes_xyxy[:, 0] < EDGE_PX, boxes_xyxy[:, 2] > size_hw[1] - EDGE_PX
        forward, to_left = ground.turned_to_axis(sight.places_m)
        ahead = np.isfinite(sight.corners).all(axis=0)  # of what lies beneath a camera that looks down no side is told
        corners = np.where(ahead, sight.corners, 0.0)
        left = corners[0] + corners[1] >= 0
        sign = np.where(left, 1.0, -1.0)
        inner, outer = np.where(left, corners[::-1], -corners)  # outwards is positive
        deep, wide = self._deep[classes], self._wide[classes]
        with np.errstate(all="ignore"):
            behind = np.maximum(outer * forward - wide, 0)
            longest = behind * deep / (forward + deep)
            shift = np.minimum(np.maximum((outer - inner) * forward - wide, 0), longest) / 2
        cut = cut_left | cut_right
        hidden, wide_std = np.zeros(len(cut)), np.minimum(self._wide_std[classes], shift)
        if cut.any():
            outwards = np.where(left, cut_left, cut_right)
            shift[outwards] = 0
            side, hidden = _cut(forward, inner, outer, deep, wide)
            hidden[~outwards] = 0
            to_left = np.where(outwards & np.isfinite(side), sign * side, to_left)
            wide_std = np.where(cut, wide / 2, wide_std)
        across_var = wide_std**2 + (SHIFT_STD * shift) ** 2
        moved = ground.turned_from_axis(np.stack([forward - hidden / 2, to_left + sign * shift]))
        return _moved(ground, sight, moved, ground.spread_from_axis(hidden * hidden / 4, across_var)), cut


def _cut(forward: F64, inner: F64, outer: F64, deep: F64, wide: F64) -> tuple[F64, F64]:
    """(N,) each: how far outwards the facing side of a cut object is, NaN where that isn't seen; how much is hidden."""
    with np.errstate(all="ignore"):
        slope = np.maximum(inner, _LEAST_SLOPE)
        seen = np.where(inner > _LEAST_SLOPE, forward * (outer / slope - 1), np.inf)
        side = np.where(inner > _LEAST_SLOPE, inner * (forward + np.minimum(seen, deep)) + wide / 2, np.nan)
        return side, np.clip(WHOLE_SHARE * deep - seen, 0, AXLES_SHARE * deep)


def _moved(ground: Ground, sight: Sight, places_m: F64, spread: F64) -> Sight:
    """The sight with other places, surer by nothing; NaN where that leaves them too unsure."""
    covariances = sight.covariances_m2 + spread
    x, y = places_m - ground.foot_m
    with np.errstate(all="ignore"):
        squared = x * x + y * y
        added = (x * x * spread[0, 0] + 2 * x * y * spread[0, 1] + y * y * spread[1, 1]) / squared
        distance_var = sight.distance_var + added
        sure = distance_var < MOST_RELATIVE_STD**2 * squared
    distance = np.sqrt(squared)
    if not sure.all():
        for part in (places_m, covariances, distance, distance_var):
            part[..., ~sure] = np.nan
    return dataclasses.replace(
        sight, places_m=places_m, covariances_m2=covariances, distance_m=distance, distance_var=distance_var
    )
