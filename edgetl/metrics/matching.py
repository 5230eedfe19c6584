"""Which detections are right: greedy by score, each object found once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.metrics.detection import Truth
from edgetl_runtime.result import Detections

MATCH_IOU = 0.5


def iou_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4), x1, y1, x2, y2."""
    low = np.maximum(a[:, None, :2], b[None, :, :2]).astype(np.float64)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:]).astype(np.float64)
    inner = (high - low).clip(min=0).prod(axis=2)
    area_a = (a[:, 2:] - a[:, :2]).astype(np.float64).prod(axis=1)
    area_b = (b[:, 2:] - b[:, :2]).astype(np.float64).prod(axis=1)
    result: NDArray[np.float64] = inner / np.maximum(area_a[:, None] + area_b[None] - inner, 1e-9)
    return result


def matched(truth: Truth, found: Detections, *, iou: float = MATCH_IOU) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each detection: whether it is right, and whether it counts at all.

    A detection is right where it overlaps an object of its class, which no better one has found, by at least `iou`.
    One that only finds an ignored object doesn't count. Detections must stand in order of falling score.
    """
    right, counts = np.zeros(len(found), np.bool_), np.ones(len(found), np.bool_)
    if not len(found) or not len(truth.boxes):
        return right, counts
    overlap = iou_matrix(found.boxes_xyxy, truth.boxes)
    overlap[found.classes[:, None] != truth.labels[None]] = 0
    taken = np.zeros(len(truth.boxes), np.bool_)
    for i in range(len(found)):
        free = np.where(taken | truth.ignore, 0, overlap[i])
        best = int(free.argmax())
        if free[best] >= iou:
            right[i] = taken[best] = True
        elif (truth.ignore & (overlap[i] >= iou)).any():
            counts[i] = False
    return right, counts
