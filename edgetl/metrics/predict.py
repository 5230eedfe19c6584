"""Run a network over a dataset and score what it found, the same way for torch and for a bundle's engine."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, read_image
from edgetl.heads import HeadMetric, Scorable, Scoring
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Geometry, Letterbox
from edgetl_runtime.machine import usable_cores
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import Preprocess

MOST_READERS = 4
"""Images that are decoded at a time."""
Infer = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.generic]]]
"""(1, H, W, 3) uint8 BGR at network size to the network's outputs by name."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metric of every head by name, over `images` frames."""

    heads: dict[str, HeadMetric]
    images: int

    @property
    def metric(self) -> str:
        """The one head's metric, or `mean` over several."""
        return next(iter(self.heads.values())).metric if len(self.heads) == 1 else "mean"

    @property
    def values(self) -> dict[str, float]:
        """The metric's value by head, in 0..1, NaN where nothing was labelled."""
        return {name: m.value for name, m in self.heads.items()}

    @property
    def value(self) -> float:
        """The mean over the heads that have a value."""
        known = [v for v in self.values.values() if math.isfinite(v)]
        return sum(known) / len(known) if known else float("nan")


def remembering(infer: Infer) -> Infer:
    """The same function that runs the network once for each array: for frames that are scored in several ways.

    Arrays are told apart by identity, so they must stay alive and unchanged; their outputs are kept.
    """
    kept: dict[int, Mapping[str, NDArray[np.generic]]] = {}

    def recall(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        if id(frame) not in kept:
            kept[id(frame)] = infer(frame)
        return kept[id(frame)]

    return recall


class Frames:
    """A dataset letterboxed once, in memory: images (1, H, W, 3) uint8 BGR and where each lies in its frame."""

    def __init__(self, dataset: Dataset, preprocess: Preprocess, *, title: str = "reading") -> None:
        self.dataset = dataset
        self.images: list[NDArray[np.uint8]] = []
        self.shapes: list[Geometry] = []
        for tensor, shape in _placed(dataset, preprocess, title):
            self.shapes.append(shape)
            self.images.append(tensor.copy())

    def __len__(self) -> int:
        return len(self.images)

    def placed(self) -> Iterator[tuple[NDArray[np.uint8], Geometry]]:
        """Each image and where it lies in its frame."""
        return zip(self.images, self.shapes, strict=True)


@dataclass(frozen=True, slots=True)
class FramesOnce:
    """The same frames for whoever wants them once: read when their turn comes, and overwritten by the next."""

    dataset: Dataset
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.dataset)

    def placed(self) -> Iterator[tuple[NDArray[np.uint8], Geometry]]:
        """Each image and where it lies in its frame, in one buffer."""
        return _placed(self.dataset, self.preprocess, "")


def letterboxed(dataset: Dataset, preprocess: Preprocess, *, title: str) -> Iterator[NDArray[np.uint8]]:
    """The images as `Frames` holds them, one at a time in one buffer: each is overwritten by the next."""
    return (tensor for tensor, _ in _placed(dataset, preprocess, title))


def _placed(dataset: Dataset, preprocess: Preprocess, title: str) -> Iterator[tuple[NDArray[np.uint8], Geometry]]:
    letterbox = Letterbox(preprocess)
    with Progress(title, len(dataset), unit="images", enabled=bool(title) and len(dataset) > 200) as progress:
        for image in _read_ahead([sample.image for sample in dataset.samples]):
            yield letterbox(image)
            progress.step()


def _read_ahead(paths: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """The images in order; while one is in use some of the next are decoded. Raises where its turn comes."""
    workers = min(usable_cores(), MOST_READERS)
    begun: deque[Future[NDArray[np.uint8]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    try:
        for path in paths:
            begun.append(pool.submit(read_image, path))
            if len(begun) > 2 * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def scored_kinds(kinds: Sequence[Scorable], dataset: Dataset) -> tuple[Scorable, ...]:
    """The heads that this dataset has labels for. Raises InputError where there are none."""
    scored = tuple(k for k in kinds if k.labelled(dataset))
    if not scored:
        wanted = "; ".join(f"{k.head.name} ({', '.join(k.head.labels)})" for k in kinds)
        raise InputError(
            f"{dataset.name}: no labelled object, mask or category to score by",
            remedy=f"give data with labels for: {wanted}",
        )
    return scored


def evaluate(
    infer: Infer,
    frames: Frames | FramesOnce,
    kinds: Sequence[Scorable],
    *,
    scoring: Scoring | None = None,
    title: str = "",
) -> Evaluation:
    """The metric of every head that the frames have labels for."""
    meters = {k.head.name: k.meter(frames.dataset, scoring or Scoring()) for k in scored_kinds(kinds, frames.dataset)}
    with Progress(title or "evaluating", len(frames), unit="images", enabled=bool(title)) as progress:
        for index, (image, shape) in enumerate(frames.placed()):
            outputs = infer(image)
            for meter in meters.values():
                meter.add(outputs, shape, index)
            progress.step()
    return Evaluation({name: meter.result() for name, meter in meters.items()}, len(frames))
