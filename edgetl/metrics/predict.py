"""Run a network over a dataset and score what it found, the same way for torch and for a bundle's engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, read_image
from edgetl.metrics.detection import DetectionMetric, Scoring, Truth, average_precision
from edgetl_runtime.decode import decode
from edgetl_runtime.letterbox import Geometry, Letterbox
from edgetl_runtime.progress import Progress
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import Decode, Preprocess

Infer = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.generic]]]
"""(1, H, W, 3) uint8 BGR at network size to the outputs boxes, scores and classes of spec.Decode."""

EVALUATION_THRESHOLD = 0.01
"""Scores below this do not change average precision and cost time."""


class Frames:
    """A dataset letterboxed once, in memory, with the truth in source pixels."""

    def __init__(self, dataset: Dataset, preprocess: Preprocess, *, title: str = "reading") -> None:
        self.dataset = dataset
        self.images: list[NDArray[np.uint8]] = []
        self.shapes: list[Geometry] = []
        self.truths: list[Truth] = []
        letterbox = Letterbox(preprocess)
        with Progress(title, len(dataset), unit="images", enabled=len(dataset) > 200) as progress:
            for sample in dataset.samples:
                image = read_image(sample.image)
                height, width = image.shape[:2]
                tensor, shape = letterbox(image)
                self.shapes.append(shape)
                self.images.append(tensor.copy())
                boxes = sample.boxes * np.array([width, height, width, height], np.float32)
                self.truths.append(Truth(boxes, sample.labels, sample.ignore))
                progress.step()

    def __len__(self) -> int:
        return len(self.images)


def predict(infer: Infer, frames: Frames, *, max_detections: int, stride: int = 4, title: str = "") -> list[Detections]:
    """Detections in source pixels for every frame, at the evaluation's low threshold."""
    rule = Decode(max_detections=max_detections, score_threshold=EVALUATION_THRESHOLD, stride=stride)
    found = []
    with Progress(title or "evaluating", len(frames), unit="images", enabled=bool(title)) as progress:
        for image, shape in zip(frames.images, frames.shapes, strict=True):
            found.append(decode(infer(image), rule, shape))
            progress.step()
    return found


def evaluate(
    infer: Infer, frames: Frames, *, max_detections: int, scoring: Scoring | None = None, title: str = ""
) -> DetectionMetric:
    """Average precision of `infer` on frames."""
    found = predict(infer, frames, max_detections=max_detections, title=title)
    return average_precision(frames.truths, found, frames.dataset.classes, scoring)
