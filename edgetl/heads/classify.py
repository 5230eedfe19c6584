"""One class for the whole frame: smoothed cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.heads.kind import HeadMetric
from edgetl.metrics.detection import Scoring
from edgetl.models.classifier import CategoryHead
from edgetl_runtime.spec import ClassifyHead

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.training.augment import View
    from edgetl_runtime.letterbox import Geometry

SMOOTHING = 0.05
IMITATION_TEMPERATURE = 4.0


class Classify:
    """The kind of ClassifyHead."""

    place: Literal["dense", "whole"] = "whole"
    losses = ("category",)

    def __init__(self, head: ClassifyHead) -> None:
        self.head = head
        self.probes = ("logits",)

    def module(self, channels: int) -> nn.Module:
        return CategoryHead(channels, len(self.head.labels))

    def targets(self, view: View) -> tuple[NDArray[Any], ...]:
        return (np.array(view.category, np.int64),)

    def loss(self, raw: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        truth = targets[0]
        if not (truth >= 0).any():
            return {"category": raw.sum() * 0}
        return {"category": F.cross_entropy(raw.float(), truth, ignore_index=-1, label_smoothing=SMOOTHING)}

    def imitate(self, raw: Tensor, teacher: Tensor) -> Tensor:
        """Kullback-Leibler divergence of softened classes (arXiv:1503.02531)."""
        t = IMITATION_TEMPERATURE
        log_student, log_teacher = F.log_softmax(raw / t, 1), F.log_softmax(teacher / t, 1)
        return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * t * t

    def decode(self, raw: Tensor) -> tuple[Tensor, ...]:
        return (torch.softmax(raw / self.head.temperature, 1),)

    def probe(self, raw: Tensor) -> tuple[Tensor, ...]:
        return (raw,)

    def labelled(self, dataset: Dataset) -> bool:
        return dataset.categories == self.head.labels and any(s.category >= 0 for s in dataset.samples)

    def meter(self, dataset: Dataset, scoring: Scoring) -> _Meter:
        return _Meter(self.head, dataset)


class _Meter:
    def __init__(self, head: ClassifyHead, dataset: Dataset) -> None:
        self._labels, self._dataset = head.labels, dataset
        self._hits = np.zeros(len(head.labels), np.int64)
        self._seen = np.zeros(len(head.labels), np.int64)

    def add(self, outputs: Mapping[str, NDArray[np.generic]], geometry: Geometry, index: int) -> None:
        truth = self._dataset.samples[index].category
        if truth >= 0:
            self._seen[truth] += 1
            self._hits[truth] += int(np.asarray(outputs["probabilities"])[0].argmax() == truth)

    def result(self) -> HeadMetric:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.where(self._seen > 0, self._hits / self._seen, np.nan)
        value = float(self._hits.sum() / self._seen.sum()) if self._seen.any() else float("nan")
        per_class = dict(zip(self._labels, each.tolist(), strict=True))
        mean = float(np.nanmean(each)) if self._seen.any() else float("nan")
        return HeadMetric("accuracy", value, per_class, {"mean_class_accuracy": mean})
