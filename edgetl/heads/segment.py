"""A class for every pixel: cross-entropy and Dice losses, mean intersection over union."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.data import VOID, read_mask
from edgetl.heads.kind import HeadMetric
from edgetl.metrics.detection import Scoring
from edgetl.metrics.segmentation import confusion, mean_iou
from edgetl.models.segmenter import MaskHead, enlarged
from edgetl_runtime.decode import decode
from edgetl_runtime.errors import InputError
from edgetl_runtime.result import Mask
from edgetl_runtime.spec import SegmentHead

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.training.augment import View
    from edgetl_runtime.letterbox import Geometry

IMITATION_TEMPERATURE = 2.0
WEIGHT_LIMITS = (0.3, 3.0)
"""Of a class in the loss: the root of how much rarer it is than the median class, within these limits."""


class Segment:
    """The kind of SegmentHead; `layer` is the index of its masks among a view's."""

    place: Literal["dense", "whole"] = "dense"
    losses = ("mask", "dice")

    def __init__(self, head: SegmentHead, layer: int = 0) -> None:
        self.head, self.layer = head, layer
        self.probes = (f"logits_{head.name}",)
        self._weights: Tensor | None = None

    def weigh(self, pixels: NDArray[np.int64]) -> None:
        """Let rare classes count more in the loss; pixels (C,): how many the training masks have of each."""
        known = pixels[pixels > 0]
        if len(known):
            share = np.sqrt(np.median(known) / np.maximum(pixels, 1))
            self._weights = torch.from_numpy(share.clip(*WEIGHT_LIMITS).astype(np.float32))

    def module(self, channels: int) -> nn.Module:
        return MaskHead(channels, len(self.head.labels))

    def targets(self, view: View) -> tuple[NDArray[Any], ...]:
        step = self.head.stride
        return (np.ascontiguousarray(view.masks[self.layer][step // 2 :: step, step // 2 :: step]),)

    def loss(self, raw: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        truth = targets[0].long()
        logits = enlarged(raw.float(), self.head.stride)
        known = truth != VOID
        if not known.any():
            return {"mask": raw.sum() * 0}
        weights = self._weights.to(logits.device) if self._weights is not None else None
        plain = F.cross_entropy(logits, truth, weight=weights, ignore_index=VOID)
        return {"mask": plain, "dice": _dice_loss(logits, truth, known)}

    def imitate(self, raw: Tensor, teacher: Tensor) -> Tensor:
        """Kullback-Leibler divergence of softened classes, cell by cell (arXiv:1503.02531)."""
        t = IMITATION_TEMPERATURE
        loss = F.kl_div(F.log_softmax(raw / t, 1), F.log_softmax(teacher / t, 1), reduction="none", log_target=True)
        return loss.sum(1).mean() * t * t

    def decode(self, raw: Tensor) -> tuple[Tensor, ...]:
        return (enlarged(raw, self.head.stride).argmax(1).to(torch.uint8),)

    def probe(self, raw: Tensor) -> tuple[Tensor, ...]:
        return (raw,)

    def labelled(self, dataset: Dataset) -> bool:
        layer = _layer_of(self.head, dataset)
        return layer >= 0 and any(len(s.masks) > layer and s.masks[layer] for s in dataset.samples)

    def meter(self, dataset: Dataset, scoring: Scoring) -> _Meter:
        return _Meter(self.head, dataset)


def _layer_of(head: SegmentHead, dataset: Dataset) -> int:
    """Index of the dataset's layer that this head speaks of, -1 where it has none."""
    for i, layer in enumerate(dataset.layers):
        if layer.name == head.name and layer.classes == head.labels:
            return i
    return -1


def _dice_loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """1 - soft Dice (arXiv:1606.04797), mean over the classes that the batch shows."""
    classes = logits.shape[1]
    p = torch.softmax(logits, 1) * known.unsqueeze(1)
    one_hot = F.one_hot(torch.where(known, truth, 0), classes).permute(0, 3, 1, 2) * known.unsqueeze(1)
    both = (p * one_hot).sum((0, 2, 3))
    truth_size = one_hot.sum((0, 2, 3))
    dice = (2 * both + 1) / (p.sum((0, 2, 3)) + truth_size + 1)
    return 1 - dice[truth_size > 0].mean()


class _Meter:
    def __init__(self, head: SegmentHead, dataset: Dataset) -> None:
        self._head, self._dataset = head, dataset
        self._layer = _layer_of(head, dataset)
        self._counts = np.zeros((len(head.labels), len(head.labels)), np.int64)

    def add(self, outputs: Mapping[str, NDArray[np.generic]], geometry: Geometry, index: int) -> None:
        path = self._dataset.samples[index].masks[self._layer]
        if path is None:
            return
        found = decode(outputs, self._head, geometry)
        assert isinstance(found, Mask)
        truth = read_mask(path, self._dataset.layers[self._layer])
        if truth.shape != geometry.source_hw:
            (height, width), (rows, columns) = geometry.source_hw, truth.shape
            raise InputError(
                f"{path}: a mask of {columns}x{rows} pixels for an image of {width}x{height}",
                remedy="give masks of their images' size",
            )
        self._counts += confusion(truth, found.at_source(), len(self._head.labels))

    def result(self) -> HeadMetric:
        value, ious, accuracy = mean_iou(self._counts)
        per_class = dict(zip(self._head.labels, ious, strict=True))
        return HeadMetric("miou", value, per_class, {"pixel_accuracy": accuracy})
