"""Batches of augmented crops or of whole letterboxed frames, prepared while the network trains."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetl.data import VOID, Dataset, read_mask_of
from edgetl.data.header import image_size
from edgetl.data.histograms import box_counts, category_counts, mask_counts
from edgetl.heads import Kind
from edgetl.training.augment import AugmentConfig, View, augmented_view, sided_classes, whole_view
from edgetl_runtime.letterbox import Geometry, geometry
from edgetl_runtime.spec import Preprocess

Targets = dict[str, tuple[Tensor, ...]]


class Batch(NamedTuple):
    """frames (B, H, W, 3) uint8 BGR, targets by head, and the file names for messages."""

    frames: Tensor
    targets: Targets
    names: tuple[str, ...]


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """A shuffled order of sample indices: one seed and epoch, one order."""
    return list(np.random.default_rng([seed, epoch]).permutation(count))


def balanced_order(dataset: Dataset, share: float, *, seed: int, epoch: int) -> list[int]:
    """An epoch's order in which images of rare classes return (repeat-factor sampling, arXiv:1908.03195).

    An image is repeated sqrt(share / f) times, f being the share of images that show its rarest class; fractions by
    lot. The epoch keeps its length. With share 0 every image comes once.
    """
    order = epoch_order(len(dataset), seed=seed, epoch=epoch)
    if share <= 0:
        return order
    shown = _shown(dataset)
    counts: Counter[tuple[str, int]] = Counter()
    for classes in shown:
        counts.update(classes)
    factor = {c: max(1.0, float(np.sqrt(share * len(dataset) / n))) for c, n in counts.items()}
    repeats = np.array([max((factor[c] for c in classes), default=1.0) for classes in shown])
    rng = np.random.default_rng([seed, epoch, 1])
    passed = np.floor(np.cumsum(repeats[order]) * len(dataset) / repeats.sum() + rng.random() - 1e-9)
    times = np.diff(passed, prepend=0.0).astype(np.int64)
    return list(rng.permutation(np.repeat(order, times)))


def _shown(dataset: Dataset) -> list[set[tuple[str, int]]]:
    """The classes that each image shows: of boxes that aren't ignored, of the whole image, of each layer of masks."""
    kinds = {"boxes": box_counts(dataset), "category": category_counts(dataset)}
    for i, layer in enumerate(dataset.layers):
        kinds[f"masks {layer.name}"] = mask_counts(dataset, i).per_class(layer)
    shown: list[set[tuple[str, int]]] = [set() for _ in dataset.samples]
    for kind, table in kinds.items():
        for image, label in np.argwhere(table > 0).tolist():
            shown[image].add((kind, label))
    return shown


def augmented_batches(
    dataset: Dataset,
    kinds: Sequence[Kind],
    *,
    crop_hw: tuple[int, int],
    network_hw: tuple[int, int],
    batch: int,
    seed: int,
    epoch: int,
    config: AugmentConfig,
    skip: int = 0,
    balance: float = 0.0,
    share: Callable[[Sequence[range]], Sequence[range]] = lambda chunks: chunks,
) -> Iterator[Batch]:
    """One epoch of augmented crops from batch number `skip` on; the last, smaller batch is left out.

    Where all heads speak of the whole frame, views are of the whole frame. share: which of the epoch's batches are
    this process's.
    """
    order = balanced_order(dataset, balance, seed=seed, epoch=epoch)
    whole = all(k.place == "whole" for k in kinds)
    count = max(len(order) // batch, 1)
    chunks = share([range(i * batch, min((i + 1) * batch, len(order))) for i in range(count)])[skip:]

    def view(place: int) -> View:
        sample, rng = dataset.samples[order[place]], np.random.default_rng([seed, epoch, place])
        if whole:
            return whole_view(sample, network_hw=network_hw, config=config, rng=rng, layers=dataset.layers)
        return augmented_view(
            sample,
            crop_hw=crop_hw,
            network_hw=network_hw,
            sided=sided_classes(dataset.classes),
            sided_categories=sided_classes(dataset.categories),
            config=config,
            rng=rng,
            layers=dataset.layers,
        )

    def prepare(places: Sequence[int]) -> Batch:
        views = [view(place) for place in places]
        return collate(views, kinds, tuple(dataset.samples[order[place]].image.name for place in places))

    yield from _ahead(prepare, chunks)


def letterboxed_labels(dataset: Dataset, index: int, preprocess: Preprocess) -> View:
    """A whole frame's labels in network pixels, on a black picture: the frame itself is not decoded."""
    sample = dataset.samples[index]
    width, height = image_size(sample.image)
    shape = geometry((height, width), preprocess.size_hw)
    boxes = shape.to_network(sample.boxes * np.array([width, height, width, height], np.float32))
    masks = tuple(_letterboxed_mask(dataset, index, i, shape) for i in range(len(dataset.layers)))
    black = np.broadcast_to(np.uint8(0), (*preprocess.size_hw, 3))
    return View(black, boxes, sample.labels, sample.ignore, sample.category, masks)


def _letterboxed_mask(dataset: Dataset, index: int, layer: int, place: Geometry) -> NDArray[np.uint8]:
    """A mask at network size: nearest pixel, VOID in the padding and where the image has no mask."""
    height, width = place.size_hw
    path = dataset.samples[index].masks[layer]
    if path is None:
        return np.full((height, width), VOID, np.uint8)
    mask = read_mask_of(path, dataset.layers[layer], place.source_hw)
    new_h, new_w = place.new_hw
    rows = ((np.arange(new_h) + 0.5) * mask.shape[0] / new_h).astype(int)
    columns = ((np.arange(new_w) + 0.5) * mask.shape[1] / new_w).astype(int)
    out = np.full((height, width), VOID, np.uint8)
    out[place.pad_top : place.pad_top + new_h, place.pad_left : place.pad_left + new_w] = mask[rows[:, None], columns]
    return out


def collate(views: Sequence[View], kinds: Sequence[Kind], names: tuple[str, ...]) -> Batch:
    """Views of one size as a batch."""
    frames = np.stack([v.image for v in views])
    targets = {k.head.name: stack_targets([k.targets(v) for v in views]) for k in kinds}
    return Batch(torch.from_numpy(frames), targets, names)


def stack_targets(rows: Sequence[tuple[NDArray[Any], ...]]) -> tuple[Tensor, ...]:
    """One head's targets of single images as tensors of a batch."""
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))


def _ahead(
    prepare: Callable[[Sequence[int]], Batch], chunks: Sequence[Sequence[int]], depth: int = 2
) -> Iterator[Batch]:
    """Results of prepare(chunk) in order, prepared by one thread a few batches ahead.

    That thread takes one core for torch's operations: with a team of its own it slows the training beside it by a
    tenth on two cores. All others keep what they have, also those that begin later.
    """
    waiting: deque[Future[Batch]] = deque()
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "batches", initializer=_take_one_core) as pool:
        pool.submit(torch.get_num_threads).result()
        torch.set_num_threads(threads)  # torch has one number for all threads that have none yet
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


def _take_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # from now on it is this thread's own
