"""A metric without labels: how far a network gives the answers that another one gives on the same frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.heads.detect import EVALUATION_THRESHOLD
from edgetl.heads.kind import HeadMetric, Meter
from edgetl.metrics.detection import Scoring, Truth, average_precision
from edgetl.metrics.segmentation import confusion, mean_iou
from edgetl_runtime.decode import decode
from edgetl_runtime.letterbox import Geometry
from edgetl_runtime.result import Detections, Mask, Output, Scores
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, SegmentHead, at_threshold

AGREEMENT = "agreement"
Outputs = Mapping[str, NDArray[np.generic]]
_Kind = TypeVar("_Kind", Detections, Mask, Scores)


class Agreement:
    """Scores one head by another network's outputs for the same frames, in their order.

    Boxes: AP50 against the other's boxes at the head's thresholds. Masks: mean IoU with the other's. Categories: share
    of frames with the other's most probable one. The metric's name is `agreement`.
    """

    def __init__(self, head: Head, answers: Sequence[Outputs]) -> None:
        self.head = head
        self._answers = answers

    def labelled(self, dataset: Dataset) -> bool:
        """Always: no label is needed."""
        return len(dataset) == len(self._answers)

    def meter(self, dataset: Dataset, scoring: Scoring) -> Meter:
        """A new meter."""
        if isinstance(self.head, DetectHead):
            return _Boxes(self.head, self._answers, scoring)
        if isinstance(self.head, SegmentHead):
            return _Masks(self.head, self._answers)
        return _Categories(self.head, self._answers)


class _Boxes:
    def __init__(self, head: DetectHead, answers: Sequence[Outputs], scoring: Scoring) -> None:
        self._sure, self._all = head, at_threshold(head, EVALUATION_THRESHOLD)
        self._answers, self._scoring = answers, scoring
        self._truths: list[Truth] = []
        self._found: list[Detections] = []

    def add(self, outputs: Outputs, geometry: Geometry, index: int) -> None:
        theirs = _of(decode(self._answers[index], self._sure, geometry), Detections)
        self._truths.append(Truth(theirs.boxes_xyxy, theirs.classes, np.zeros(len(theirs), np.bool_)))
        self._found.append(_of(decode(outputs, self._all, geometry), Detections))

    def result(self) -> HeadMetric:
        metric = average_precision(self._truths, self._found, self._sure.labels, self._scoring)
        return HeadMetric(AGREEMENT, metric.ap50, metric.per_class, {"ap": metric.ap})


class _Masks:
    def __init__(self, head: SegmentHead, answers: Sequence[Outputs]) -> None:
        self._head, self._answers = head, answers
        self._counts = np.zeros((len(head.labels), len(head.labels)), np.int64)

    def add(self, outputs: Outputs, geometry: Geometry, index: int) -> None:
        theirs, ours = (_of(decode(o, self._head, geometry), Mask) for o in (self._answers[index], outputs))
        self._counts += confusion(theirs.classes, ours.classes, len(self._head.labels))

    def result(self) -> HeadMetric:
        value, ious, accuracy = mean_iou(self._counts)
        return HeadMetric(
            AGREEMENT, value, dict(zip(self._head.labels, ious, strict=True)), {"pixel_accuracy": accuracy}
        )


class _Categories:
    def __init__(self, head: ClassifyHead, answers: Sequence[Outputs]) -> None:
        self._head, self._answers = head, answers
        self._hits = np.zeros(len(head.labels), np.int64)
        self._seen = np.zeros(len(head.labels), np.int64)

    def add(self, outputs: Outputs, geometry: Geometry, index: int) -> None:
        theirs, ours = (
            int(_of(decode(o, self._head, geometry), Scores).probabilities.argmax())
            for o in (self._answers[index], outputs)
        )
        self._seen[theirs] += 1
        self._hits[theirs] += theirs == ours

    def result(self) -> HeadMetric:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.where(self._seen > 0, self._hits / self._seen, np.nan)
        value = float(self._hits.sum() / self._seen.sum()) if self._seen.any() else float("nan")
        return HeadMetric(AGREEMENT, value, dict(zip(self._head.labels, each.tolist(), strict=True)))


def _of(output: Output, kind: type[_Kind]) -> _Kind:
    if not isinstance(output, kind):
        raise TypeError(f"expected {kind.__name__}, found {type(output).__name__}")
    return output
