"""Which boxes are right: greedy by score, each object found once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

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
    other. They may stand for a crowd, so it is enough that such a share of the box itself lies on one. Of equal
    overlaps the later object's counts.
    """
    flags: NDArray[np.int64] = match_at((iou,), boxes, classes, truth, labels, ignore, np.zeros_like(ignore))[0]
    return flags


def match_at(
    ious: Sequence[float],
    boxes: NDArray[np.floating],
    classes: NDArray[np.integer],
    truth: NDArray[np.floating],
    labels: NDArray[np.integer],
    crowd: NDArray[np.bool_],
    aside: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(len(ious), N) like `match` at each of these overlaps, with the objects to ignore by kind.

    crowd (M,): may be taken by many, see `match`. aside (M,): single objects that count neither way, like low ones.
    """
    overlap = _overlap(boxes, truth, crowd)
    overlap[classes[:, None] != labels[None, :]] = -1.0
    many, neither = crowd.tolist(), (crowd | aside).tolist()
    flags = np.zeros((len(ious), len(boxes)), np.int64)
    for at, iou in enumerate(ious):
        rows, columns = np.nonzero(overlap >= iou)
        pairs = zip(rows.tolist(), overlap[rows, columns].tolist(), columns.tolist(), strict=True)
        taken: set[int] = set()
        for row, near in groupby(pairs, key=itemgetter(0)):
            free = [(share, j) for _, share, j in near if many[j] or j not in taken]
            if free:
                _, place = max([each for each in free if not neither[each[1]]] or free)
                taken.add(place)
                flags[at, row] = -1 if neither[place] else 1
    return flags


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4); 0 where both are empty."""
    return _overlap(first, second, np.zeros(len(second), np.bool_))


def _overlap(boxes: NDArray[np.floating], truth: NDArray[np.floating], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, M) intersection over union, of a crowd over the box itself; 0 where that is empty."""
    a, b = np.asarray(boxes, np.float64), np.asarray(truth, np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner: NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    own, theirs = _areas(a)[:, None], _areas(b)[None, :]
    over = np.where(crowd, own, own + theirs - inner)
    result: NDArray[np.float64] = np.divide(inner, over, out=np.zeros_like(inner), where=over > 0)
    return result


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return areas
