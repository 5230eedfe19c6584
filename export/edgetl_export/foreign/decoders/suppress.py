"""Greedy non-maximum suppression: in numpy one box after the other, and as ONNX nodes of static shape.

Engines have no NonMaxSuppression in common: some can't build it, and its result has no fixed size. The nodes find the
same boxes another way. A box stays unless a better one that stays covers it. Starting from "all stay", that sentence
is applied to all boxes at once, again and again. After n rounds every box is right whose chain of coverings (A covers
B, B covers C, ...) has at most n links; with an even number of rounds a longer chain leaves boxes too many, and never
too few.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgetl_export.foreign.nodes import Nodes

ROUNDS = 12
"""Even. The 200 best boxes that FastestDet gives on 500 frames of BDD100K took 11 rounds at most, 5 in the mean."""


def suppress_nodes(g: Nodes, boxes: str, classes: str, count: int, iou: float) -> str:
    """(K,) float32, 1 for boxes that stay and 0 for others.

    boxes: (K, 4) x1, y1, x2, y2, best first. classes: (K,) int64; boxes of two classes don't cover each other. iou:
    a box is covered by a better one where their intersection over union is larger.
    """
    sides = g.columns(boxes, 4)
    across = [g.reshape(s, 1, count) for s in sides]
    x1, y1, x2, y2 = sides
    width, height = (_overlap(g, (x1, across[0]), (x2, across[2])), _overlap(g, (y1, across[1]), (y2, across[3])))
    inner = g.add("Mul", width, height)
    area = g.add("Mul", g.add("Relu", g.add("Sub", x2, x1)), g.add("Relu", g.add("Sub", y2, y1)))
    union = g.add("Sub", g.add("Add", area, g.reshape(area, 1, count)), inner)
    near = g.add("Greater", inner, g.add("Mul", union, g.constant(iou)))
    alike = g.add("Equal", g.reshape(classes, count, 1), g.reshape(classes, 1, count))
    better = g.constant(np.tril(np.ones((count, count)), -1), np.bool_)
    covers = g.cast(g.add("And", g.add("And", near, alike), better), TensorProto.FLOAT)
    one, axis = g.constant(1.0), g.indices(1)
    # The first round: every box stays, so those that any better one covers fall. No MatMul: OpenVINO computes all
    # that stands before the last MatMul in bf16 when bf16 is asked for, and boxes need more digits than bf16 has.
    stay = g.add("Sub", one, g.add("ReduceMax", covers, axis, keepdims=0))
    for _ in range(ROUNDS - 1):
        covered = g.add("ReduceMax", g.add("Mul", covers, stay), axis, keepdims=0)
        stay = g.add("Sub", one, covered)
    return stay


def _overlap(g: Nodes, low: tuple[str, str], high: tuple[str, str]) -> str:
    """(K, K) length that two boxes share along one axis."""
    return g.add("Relu", g.add("Sub", g.add("Min", *high), g.add("Max", *low)))


def greedy(boxes: NDArray[np.float32], classes: NDArray[np.int64], iou: float) -> NDArray[np.int64]:
    """Indices of the boxes that stay, of boxes (N, 4) that come best first."""
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    left = np.arange(len(boxes))
    kept = []
    while len(left):
        best, rest = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        inner = np.clip(high - low, 0, None).prod(axis=1)
        union = areas[best] + areas[rest] - inner
        covered = (inner > np.float32(iou) * union) & (classes[rest] == classes[best])
        left = rest[~covered]
    return np.array(kept, np.int64)
