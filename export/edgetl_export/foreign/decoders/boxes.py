"""What all decoders of boxes share: the best candidates by TopK, suppression, and the outputs of a DetectHead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgetl_export.foreign.decoders.decoder import Labelled, Output, Size
from edgetl_export.foreign.decoders.suppress import greedy, suppress_nodes
from edgetl_export.foreign.nodes import Nodes
from edgetl_runtime.spec import DetectHead, Head

Score = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(gt=0, le=3840)]
"""TensorRT's TopK takes at most 3840."""


class Candidates(NamedTuple):
    """Boxes (N, 4) float32 x1, y1, x2, y2 in pixels of the network's input, scores (N,) in 0..1, classes (N,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Picked:
    """Names of tensors: boxes (K, 4), scores (K,) and classes (K,) int64 of the K best candidates, best first."""

    boxes: str
    scores: str
    classes: str


class BoxDecoder(Labelled, frozen=True, kw_only=True):
    """A decoder of boxes.

    threshold: the score from which a box counts on the vehicle; thresholds: other values for some labels.
    max_detections: boxes of a frame.
    """

    threshold: Score = 0.3
    thresholds: dict[str, Score] = msgspec.field(default_factory=dict)
    max_detections: Count = 100

    def heads(self, outputs: Sequence[Output], size_hw: Size) -> tuple[Head, ...]:
        self.check(outputs, size_hw)
        return (
            DetectHead(
                labels=self.names,
                max_detections=self.most(outputs),
                thresholds=tuple(self.thresholds.get(name, self.threshold) for name in self.names),
                stride=self.stride(outputs, size_hw),
            ),
        )

    def most(self, outputs: Sequence[Output]) -> int:
        """How many boxes come out."""
        return min(self.max_detections, self.total(outputs))

    def check(self, outputs: Sequence[Output], size_hw: Size) -> None:
        """Raise InputError unless the outputs have shapes that this decoder reads."""
        raise NotImplementedError

    def total(self, outputs: Sequence[Output]) -> int:
        """How many candidates there are."""
        raise NotImplementedError

    def stride(self, outputs: Sequence[Output], size_hw: Size) -> int:
        """Of the finest map that boxes come from, in pixels."""
        return 8

    def pick(self, g: Nodes, outputs: Sequence[Output], size_hw: Size, count: int) -> Picked:
        """Nodes that find the `count` best candidates."""
        raise NotImplementedError

    def candidates(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Candidates:
        """All candidates, in numpy."""
        raise NotImplementedError

    def nodes(self, g: Nodes, outputs: Sequence[Output], size_hw: Size) -> None:
        finish(g, self.pick(g, outputs, size_hw, self.most(outputs)))

    def reference(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Mapping[str, NDArray[np.generic]]:
        found = self.candidates(arrays, size_hw)
        best = np.argsort(-found.scores, kind="stable")[: self.max_detections]
        return outputs_of(found, best, len(best))


class SuppressedDecoder(BoxDecoder, frozen=True, kw_only=True):
    """A decoder whose network finds one object many times.

    top_candidates: how many of the best are looked at. Greedy suppression decides on them alone, so the result is that
    of all candidates cut off where this many end. nms_iou: see suppress_nodes.
    """

    top_candidates: Count = 200
    nms_iou: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.45

    def nodes(self, g: Nodes, outputs: Sequence[Output], size_hw: Size) -> None:
        count = min(max(self.top_candidates, self.max_detections), self.total(outputs))
        picked = self.pick(g, outputs, size_hw, count)
        stay = suppress_nodes(g, picked.boxes, picked.classes, count, self.nms_iou)
        scores, order = g.several(
            "TopK", g.add("Mul", picked.scores, stay), g.indices(self.most(outputs)), outputs=("", ""), axis=0
        )
        # A suppressed box has no area and no class either: it can't be shown whatever the threshold.
        boxes = g.add("Mul", picked.boxes, g.reshape(stay, count, 1))
        classes = g.add("Mul", picked.classes, g.cast(stay, TensorProto.INT64))
        finish(g, Picked(g.add("Gather", boxes, order), scores, g.add("Gather", classes, order)))

    def reference(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Mapping[str, NDArray[np.generic]]:
        found = self.candidates(arrays, size_hw)
        looked_at = max(self.top_candidates, self.max_detections)
        best = np.argsort(-found.scores, kind="stable")[:looked_at]
        kept = best[greedy(found.boxes[best], found.classes[best], self.nms_iou)]
        return outputs_of(found, kept[: self.max_detections], min(self.max_detections, len(best)))


def top_cells(g: Nodes, scores: str, count: int) -> tuple[str, str]:
    """Scores (K,) and indices (K,) of the best of (1, N)."""
    values, places = g.several("TopK", scores, g.indices(count), outputs=("", ""), axis=1)
    return g.reshape(values, count), g.reshape(places, count)


def corners(g: Nodes, centre: tuple[str, str], size: tuple[str, str]) -> str:
    """(K, 4) x1, y1, x2, y2 of centre x, y and width, height, each (K, 1)."""
    half = g.constant(0.5)
    halves = [g.add("Mul", s, half) for s in size]
    low = [g.add("Sub", c, h) for c, h in zip(centre, halves, strict=True)]
    high = [g.add("Add", c, h) for c, h in zip(centre, halves, strict=True)]
    return g.add("Concat", *low, *high, axis=1)


def corners_of(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) centre x, y, width, height to x1, y1, x2, y2."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def finish(g: Nodes, picked: Picked) -> None:
    """Boxes, scores and classes under a DetectHead's names, with the batch's axis."""
    axis = g.indices(0)
    for tensor, name in ((picked.boxes, "boxes"), (picked.scores, "scores"), (picked.classes, "classes")):
        g.add("Unsqueeze", tensor, axis, name=name)


def outputs_of(found: Candidates, rows: NDArray[np.int64], count: int) -> dict[str, NDArray[np.generic]]:
    """A DetectHead's outputs: these rows, then zeros up to `count`."""
    boxes, scores = np.zeros((1, count, 4), np.float32), np.zeros((1, count), np.float32)
    classes = np.zeros((1, count), np.int64)
    boxes[0, : len(rows)], scores[0, : len(rows)] = found.boxes[rows], found.scores[rows]
    classes[0, : len(rows)] = found.classes[rows]
    return {"boxes": boxes, "scores": scores, "classes": classes}
