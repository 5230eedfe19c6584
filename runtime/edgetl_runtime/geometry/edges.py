"""How far the edges of a detector's boxes are off, by what is seen of each box.

    deviation^2 = (floor / scale)^2 + (share^2 + (GROWTH * height / frame)^2) * (score^-SCORE_POWER * height)^2

A network places an edge to a part of one of its own pixels, whatever the frame's size is, hence the floor; scale is
network pixels for one of the frame. What grows with the box is a share of its height by label: feet lift and legs part,
wheels and shadows differ. Of a box that takes up much of the picture the edge is far from the cell that tells it, and
off by more, hence the growth; frame is the frame's height. And a box that is less sure is less exact: Jiang et al.,
ECCV 2018, and He et al., CVPR 2019, predict that exactness; here the calibrated score stands for it.

Source of the constants: the lower edges of the detector that `edgetl demo` trains, 320x192, against roadworld's exact
poses, on 1,200 stills by day (seed 100) and 400 each by night, in fog and in rain (seed 101): shares such that 90 % of
the edges are within 1.645 deviations; floor, power and growth such that this holds across heights, scores and
distances. Not a frame of them is reported on. `python tests/bench/bench_geometry.py --fit --bundle DIR` gives the
shares of another detector; a mounting's own box_edge_std_px and box_edge_std_share go first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.geometry.calibration import Mounting

    F64 = NDArray[np.float64]

FLOOR_NETWORK_PX = 0.7
"""One deviation of an edge, in pixels of the network's input."""
SCORE_POWER = 0.4
LEAST_SCORE = 0.05
GROWTH = 0.08
_VEHICLE, _LARGE, _PERSON, _CYCLIST = 0.022, 0.027, 0.053, 0.063
SHARES: dict[str, float] = {
    "car": _VEHICLE,
    "van": _VEHICLE,
    "truck": _LARGE,
    "bus": _LARGE,
    "vehicle": _LARGE,
    "person": _PERSON,
    "pedestrian": _PERSON,
    "cyclist": _CYCLIST,
    "rider": _CYCLIST,
    "motorcycle": _CYCLIST,
}
"""One deviation of an edge in shares of the box's height, of a box whose score is 1."""
UNKNOWN_SHARE = 0.063
"""Of any other label: the largest."""
CONTACT_SHARES: dict[str, float] = {
    "person": 0.02,
    "pedestrian": 0.02,
    "cyclist": 0.022,
    "rider": 0.022,
    "motorcycle": 0.022,
}
"""How far the lowest point of an exact outline is from the nearest point on the ground: feet lift, and a wheel's lower
edge bends. Part of SHARES, and added to a mounting's own share, which is of boxes. From exact boxes of the same stills:
95 % of people within 0.045 of their height, cyclists' off by 0.02 to 0.025. None for other labels, below 0.01."""


class EdgeErrors:
    """Deviations of the edges of one head's boxes.

    network_hw: size of the network's input; None where frames are looked at as they are.
    """

    def __init__(self, labels: Sequence[str], mounting: Mounting, network_hw: tuple[int, int] | None) -> None:
        own_share = mounting.box_edge_std_share
        self._shares = np.array([_share(label, own_share) for label in labels])
        self._by_score = own_share is None
        self._own_px, self._network_hw = mounting.box_edge_std_px, network_hw

    def floor_px(self, size_hw: tuple[int, int]) -> float:
        """Of a box of no height, in pixels of a frame of this size."""
        if self._own_px is not None:
            return self._own_px
        network = self._network_hw or size_hw
        return FLOOR_NETWORK_PX / min(network[0] / size_hw[0], network[1] / size_hw[1])

    def stds_px(
        self,
        boxes_xyxy: NDArray[np.float32],
        scores: NDArray[np.float32],
        classes: NDArray[np.int64],
        size_hw: tuple[int, int],
    ) -> F64:
        """(N,) one deviation of each edge of boxes (N, 4) in a frame of this size, in its pixels."""
        tall = (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]).astype(np.float64)
        shares = self._shares[classes]
        if self._by_score:
            shares = np.hypot(shares, GROWTH / size_hw[0] * tall)
            shares *= np.maximum(scores, LEAST_SCORE).astype(np.float64) ** -SCORE_POWER
        stds: F64 = np.hypot(self.floor_px(size_hw), shares * tall)
        return stds


def _share(label: str, own: float | None) -> float:
    if own is None:
        return SHARES.get(label, UNKNOWN_SHARE)
    return float(np.hypot(own, CONTACT_SHARES.get(label, 0.0)))
