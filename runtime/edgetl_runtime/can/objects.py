"""Which boxes of a result are sent, in which order, and what is said of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.can.dbc import Value
    from edgetl_runtime.result import Detections

LEAST_CLOSING_MPS = 5.0
"""Objects that come nearer more slowly than this, or go away, count as if they came at this speed: what stands in front
of the vehicle matters too."""
TRACK_IDS = 65535


def urgency_order(found: Detections) -> NDArray[np.intp]:
    """(N,) indices of boxes, the one first that would be reached first.

    With a place: by distance over closing speed, which counts as LEAST_CLOSING_MPS at least. Then those without one, by
    their lower edge, which is lower in the picture the nearer an object stands.
    """
    lower_edges = found.boxes_xyxy[:, 3]
    if found.places is None:
        return np.argsort(-lower_edges, kind="stable")
    distances = np.hypot(*found.places.positions_m.T)
    speeds = np.fmax(found.places.closing_speeds_mps, LEAST_CLOSING_MPS)  # of NaN and a number the number
    return np.lexsort((-lower_edges, distances / speeds))  # NaN comes last


def object_values(found: Detections, index: int) -> dict[str, Value]:
    """The signals of one box, but for Index, Validity and Age."""
    number = -1 if found.track_ids is None else int(found.track_ids[index])
    kind = int(found.classes[index])
    values: dict[str, Value] = {
        "Class": kind if kind < 63 else None,
        "Confidence": 100 * float(found.scores[index]),
        "TrackId": number % TRACK_IDS if number >= 0 else None,
    }
    if found.places is None:
        return values
    x, y = found.places.positions_m[index].tolist()
    variances = found.places.covariances_m2[index].diagonal()
    placed: dict[str, Value] = {
        "DistanceX": x,
        "LateralY": y,
        "ClosingSpeed": float(found.places.closing_speeds_mps[index]),
        "Deviation": float(np.sqrt(variances.max())),
    }
    return values | placed
