"""Which boxes are right: greedy by score, each object found once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MATCH_IOU = 0.5


def match(
    boxes: NDArray[np.floating],
    classes: NDArray[np.integer],
    truth: NDArray[np.floating],
    labels: NDArray[np.integer],
    ignore: NDArray[np.bool_],
    *,
    iou: float = MATCH_IOU,
) -> NDArray[np.int64]:
    """(N,) 1 for a right box, 0 for a wrong one, -1 for one on an ignored object.

    boxes (N, 4), best first, and truth (M, 4): x1, y1, x2, y2 in the same unit. Each takes the free object of its
    class with the largest IoU of at least `iou`; ignored objects may be taken by many, and only by boxes that found no
    other.
    """
    overlap = box_iou(boxes, truth)
    free = ~ignore
    flags = np.zeros(len(boxes), np.int64)
    for i in range(len(boxes)):
        fitting = (labels == classes[i]) & (overlap[i] >= iou)
        candidates = np.where(fitting & free, overlap[i], -1.0)
        if len(candidates) and candidates.max() >= 0:
            free[int(np.argmax(candidates))] = False
            flags[i] = 1
        elif (fitting & ignore).any():
            flags[i] = -1
    return flags


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4); 0 where both are empty."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(s[:, 2:] - s[:, :2], 0, None).prod(axis=1) for s in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - inner
    result: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return result
