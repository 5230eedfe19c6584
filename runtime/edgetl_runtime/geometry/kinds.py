"""What is known of objects by their label: what stands on no road, and how tall, long and wide the others are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

OFF_GROUND = ("traffic light", "traffic sign", "light", "sign", "traffic_light", "traffic_sign", "stop sign")
"""Labels of what hangs above the road."""

HEIGHTS_M: dict[str, tuple[float, float]] = {
    "car": (1.6, 0.2),
    "van": (2.1, 0.3),
    "truck": (3.1, 0.6),
    "bus": (3.0, 0.4),
    "vehicle": (1.9, 0.8),
    "person": (1.68, 0.15),
    "pedestrian": (1.68, 0.15),
    "cyclist": (1.72, 0.15),
    "rider": (1.72, 0.15),
    "motorcycle": (1.5, 0.3),
}
"""Mean and deviation in metres by label: round figures, and no more than a start. A mounting's heights_m go first."""

UNKNOWN_M = (1.7, 1.5)
"""Of any other label: next to nothing is known."""

FOOTPRINTS_M: dict[str, tuple[float, float, float]] = {
    "car": (4.5, 1.8, 0.15),
    "van": (5.5, 2.0, 0.15),
    "truck": (8.0, 2.5, 0.15),
    "bus": (11.0, 2.5, 0.15),
    "vehicle": (6.0, 2.1, 0.4),
    "person": (0.5, 0.6, 0.15),
    "pedestrian": (0.5, 0.6, 0.15),
    "cyclist": (1.75, 0.6, 0.15),
    "rider": (1.75, 0.6, 0.15),
    "motorcycle": (2.1, 0.8, 0.15),
}
"""Length, width and the width's deviation in metres by label: round figures; 2.55 m is the widest that Directive
96/53/EC lets on Europe's roads."""

UNKNOWN_FOOTPRINT_M = (0.0, 1.0, 0.5)
"""Of any other label: its box is taken to have no flank."""


def footprints(labels: Sequence[str]) -> NDArray[np.float64]:
    """(L, 3) length, width and the width's deviation in metres by label."""
    return np.array([FOOTPRINTS_M.get(label, UNKNOWN_FOOTPRINT_M) for label in labels], np.float64).reshape(-1, 3)


def heights(labels: Sequence[str], own: Mapping[str, tuple[float, float]]) -> NDArray[np.float64]:
    """(L, 2) mean and deviation in metres by label; own: the user's, which come first."""
    known = HEIGHTS_M | dict(own)
    return np.array([known.get(label, UNKNOWN_M) for label in labels], np.float64).reshape(-1, 2)


def on_ground(labels: Sequence[str], off_ground: Sequence[str]) -> NDArray[np.bool_]:
    """(L,) whether objects of a label stand on the ground."""
    return np.array([label not in off_ground for label in labels], bool)
