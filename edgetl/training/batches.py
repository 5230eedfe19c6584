"""Batches of augmented crops or of whole letterboxed frames, prepared while the network trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgetl.data import Dataset, read_image
from edgetl.training.augment import AugmentConfig, View, augmented_view, sided_classes
from edgetl.training.loss import BatchTargets
from edgetl.training.targets import Targets, make_targets
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.spec import Preprocess


class Batch(NamedTuple):
    """frames (B, H, W, 3) uint8 BGR, their targets, and the file names for messages."""

    frames: Tensor
    targets: BatchTargets
    names: tuple[str, ...]


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """A shuffled order of sample indices: one seed and epoch, one order."""
    return list(np.random.default_rng([seed, epoch]).permutation(count))


def augmented_batches(
    dataset: Dataset,
    *,
    crop_hw: tuple[int, int],
    network_hw: tuple[int, int],
    batch: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    config: AugmentConfig,
) -> Iterator[Batch]:
    """One epoch of augmented crops from batch number `skip` on; the last, smaller batch is left out."""
    order = epoch_order(len(dataset), seed=seed, epoch=epoch)
    sided = sided_classes(dataset.classes)
    count = max(len(order) // batch, 1)
    chunks = [order[i * batch : (i + 1) * batch] for i in range(skip, count)]

    def prepare(indices: list[int]) -> Batch:
        views = [
            augmented_view(
                dataset.samples[i],
                crop_hw=crop_hw,
                network_hw=network_hw,
                sided=sided,
                config=config,
                rng=np.random.default_rng([seed, epoch, i]),
            )
            for i in indices
        ]
        return collate(views, len(dataset.classes), tuple(dataset.samples[i].image.name for i in indices))

    yield from _ahead(prepare, chunks)


def letterboxed_view(dataset: Dataset, index: int, preprocess: Preprocess) -> View:
    """A whole frame as the vehicle's network sees it, with its boxes in network pixels."""
    sample = dataset.samples[index]
    image = read_image(sample.image)
    tensor, shape = Letterbox(preprocess)(image)
    height, width = image.shape[:2]
    boxes = shape.to_network(sample.boxes * np.array([width, height, width, height], np.float32))
    return View(tensor[0], boxes, sample.labels, sample.ignore)


def collate(views: list[View], classes: int, names: tuple[str, ...]) -> Batch:
    """Views of one size as a batch."""
    frames = np.stack([v.image for v in views])
    size_hw = (frames.shape[1], frames.shape[2])
    targets = [make_targets(v.boxes, v.labels, v.ignore, classes=classes, size_hw=size_hw) for v in views]
    return Batch(torch.from_numpy(frames), stack_targets(targets), names)


def stack_targets(targets: list[Targets]) -> BatchTargets:
    """Targets of single images as tensors of a batch."""
    return BatchTargets(
        torch.from_numpy(np.stack([t.heat for t in targets])),
        torch.from_numpy(np.stack([t.box for t in targets])),
        torch.from_numpy(np.stack([t.weight for t in targets])),
        torch.from_numpy(np.stack([t.quiet for t in targets])),
    )


def _ahead(prepare: Callable[[list[int]], Batch], chunks: list[list[int]], depth: int = 2) -> Iterator[Batch]:
    """Results of prepare(chunk) in order, prepared by one thread a few batches ahead."""
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(prepare, chunk))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
