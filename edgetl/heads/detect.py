"""Boxes: centre heatmap and box maps, focal and GIoU losses, average precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.heads.kind import HeadMetric
from edgetl.metrics.detection import Scoring, Truth, average_precision
from edgetl.models.detector import BoxHead, Maps, decode_maps
from edgetl.training.loss import BatchTargets, detection_loss
from edgetl.training.targets import make_targets
from edgetl_runtime.decode import decode
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import DetectHead, at_threshold

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.training.augment import View
    from edgetl_runtime.letterbox import Geometry

EVALUATION_THRESHOLD = 0.01
"""Scores below this do not change average precision and cost time."""


class Detect:
    """The kind of DetectHead."""

    place: Literal["dense", "whole"] = "dense"
    losses = ("heat", "box")

    def __init__(self, head: DetectHead) -> None:
        self.head = head
        self.probes = ("heat", "box")

    def module(self, channels: int) -> nn.Module:
        return BoxHead(channels, len(self.head.labels))

    def targets(self, view: View) -> tuple[NDArray[Any], ...]:
        size_hw = (view.image.shape[0], view.image.shape[1])
        t = make_targets(view.boxes, view.labels, view.ignore, classes=len(self.head.labels), size_hw=size_hw)
        return t.heat, t.box, t.weight, t.quiet

    def loss(self, raw: Maps, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return detection_loss(raw, BatchTargets(*targets))

    def imitate(self, raw: Maps, teacher: Maps) -> Tensor:
        """Heatmap: cross-entropy with the teacher's, where either is sure. Boxes: L1 where the teacher sees one."""
        sure = torch.sigmoid(teacher.heat)
        focus = torch.maximum(sure, torch.sigmoid(raw.heat).detach()) ** 2
        heat = (F.binary_cross_entropy_with_logits(raw.heat, sure, reduction="none") * focus).sum()
        seen = sure.amax(dim=1, keepdim=True)
        box = ((raw.box - teacher.box).abs() * seen).sum()
        return heat / focus.sum().clamp(min=1) + box / (4 * seen.sum()).clamp(min=1)

    def decode(self, raw: Maps) -> tuple[Tensor, ...]:
        return decode_maps(raw, self.head.max_detections, self.head.temperature)

    def probe(self, raw: Maps) -> tuple[Tensor, ...]:
        return raw.heat, raw.box

    def labelled(self, dataset: Dataset) -> bool:
        return dataset.classes == self.head.labels and any((~s.ignore).any() for s in dataset.samples)

    def meter(self, dataset: Dataset, scoring: Scoring) -> _Meter:
        return _Meter(self.head, dataset, scoring)


class _Meter:
    def __init__(self, head: DetectHead, dataset: Dataset, scoring: Scoring) -> None:
        self._head = at_threshold(head, EVALUATION_THRESHOLD)
        self._dataset, self._scoring = dataset, scoring
        self.truths: list[Truth] = []
        self.found: list[Detections] = []

    def add(self, outputs: Mapping[str, NDArray[np.generic]], geometry: Geometry, index: int) -> None:
        found = decode(outputs, self._head, geometry)
        assert isinstance(found, Detections)
        self.found.append(found)
        self.truths.append(truth_of(self._dataset, index, geometry))

    def result(self) -> HeadMetric:
        metric = average_precision(self.truths, self.found, self._head.labels, self._scoring)
        return HeadMetric("ap50", metric.ap50, metric.per_class, {"ap": metric.ap})


def truth_of(dataset: Dataset, index: int, geometry: Geometry) -> Truth:
    """What stands in a sample, in source pixels."""
    sample, (height, width) = dataset.samples[index], geometry.source_hw
    boxes = sample.boxes * np.array([width, height, width, height], np.float32)
    return Truth(boxes, sample.labels, sample.ignore)
