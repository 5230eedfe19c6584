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
    """(N,) 1 for a right box, 0 for a wrong one, -1 for one on an ignored object, as COCO's evaluation has it.

    boxes (N, 4), best first, and truth (M, 4): x1, y1, x2, y2 in the same unit. Each takes the free object of its
    class with the largest IoU of at least `iou`; ignored objects may be taken by many, and only by boxes that found no
    other. They may stand for a crowd, so it is enough that such a share of the box itself lies on one.
    """
    overlap, inside = box_iou(boxes, truth), share_inside(boxes, truth)
    free = ~ignore
    flags = np.zeros(len(boxes), np.int64)
    for i in range(len(boxes)):
        own = labels == classes[i]
        candidates = np.where(own & free & (overlap[i] >= iou), overlap[i], -1.0)
        if len(candidates) and candidates.max() >= 0:
            free[int(np.argmax(candidates))] = False
            flags[i] = 1
        elif (own & ignore & (inside[i] >= iou)).any():
            flags[i] = -1
    return flags


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4); 0 where both are empty."""
    inner = _shared(first, second)
    union = _areas(first)[:, None] + _areas(second)[None, :] - inner
    result: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return result


def share_inside(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) share of each of the first boxes (N, 4) that lies in each of the second (M, 4); 0 for an empty one."""
    inner = _shared(first, second)
    own = np.broadcast_to(_areas(first)[:, None], inner.shape)
    result: NDArray[np.float64] = np.divide(inner, own, out=np.zeros_like(inner), where=own > 0)
    return result


def _shared(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) areas that boxes (N, 4) and (M, 4) share."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner: NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    return inner


def _areas(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    sides = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]
    areas: NDArray[np.float64] = np.clip(sides, 0, None).prod(axis=1)
    return areas
