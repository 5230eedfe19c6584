"""Labelled feature vectors of a dataset: one for each image, box or picked pixel, the same places for every network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.data import VOID, Dataset, read_mask_of
from edgetl.data.header import image_size
from edgetl.features.frozen import backbone_maps, feature_key
from edgetl.features.pooled import pooled_features
from edgetl.features.store import cached
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Geometry

if TYPE_CHECKING:
    from edgetl.data import Sample
    from edgetl_runtime.spec import Preprocess

Task = Literal["classify", "detect", "segment"]
BACKGROUND = "background"
PER_CLASS = 4
"""Boxes of one class that an image may give, so that a queue of cars doesn't outweigh everything."""
PIXELS = 40
"""Pixels that an image gives, shared evenly by the classes in it."""
TRIES = 30
"""Random positions tried for a background box before it is given up."""
ROI_CELLS = 3
"""A box is read at 3 x 3 cells of 2 x 2 bilinear samples each, whose mean is its vector."""


@dataclass(frozen=True, slots=True)
class Picks:
    """Where features are read, in the order of the dataset's images.

    places: (M_i, 4) float32 for image i, x1, y1, x2, y2 as shares of its sides; a pixel is a box of no area.
    labels: (N,) int64 index into names. groups: (N,) int64, equal where the samples' groups are.
    """

    places: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """vectors: (N, D) float32. labels: (N,) int64 index into names. groups: (N,) int64, what a vector comes from."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    names: tuple[str, ...]


def pick(dataset: Dataset, task: Task, *, layer: int = 0, seed: int = 0) -> Picks:
    """The images, boxes or pixels whose features are compared; they depend on the labels only, not on a network.

    classify: every image with a category. detect: up to PER_CLASS boxes of each class of an image, and as many
    boxes of the same sizes that touch no object, as another class. segment: PIXELS of each image with a mask in
    `layer`, shared evenly by the classes that it shows. Raises InputError where the dataset has no such labels.
    """
    numbers = {g: i for i, g in enumerate(dict.fromkeys(s.group for s in dataset.samples))}
    places, labels, groups = [], [], []
    for index, sample in enumerate(dataset.samples):
        rng = np.random.default_rng([seed, index])
        if task == "classify":
            boxes, own = _whole(sample)
        elif task == "detect":
            boxes, own = _boxes(sample, len(dataset.classes), rng)
        else:
            boxes, own = _pixels(sample, dataset, layer, rng)
        places.append(boxes)
        labels.append(own)
        groups.append(np.full(len(own), numbers[sample.group], np.int64))
    names = {
        "classify": dataset.categories,
        "detect": (*dataset.classes, BACKGROUND),
        "segment": dataset.layers[layer].classes if len(dataset.layers) > layer else (),
    }[task]
    joined = np.concatenate([np.zeros(0, np.int64), *labels])
    if len(set(joined.tolist())) < 2:
        what = {"classify": "categories of images", "detect": "boxes", "segment": "masks"}[task]
        raise InputError(
            f"{dataset.name}: no labels to {task} by, expected {what} of at least two classes (background counts)",
            remedy="choose another --task, or label the data",
        )
    return Picks(tuple(places), joined, np.concatenate(groups), names)


def labelled_features(
    backbone: nn.Module, preprocess: Preprocess, dataset: Dataset, picks: Picks, task: Task, *, title: str = ""
) -> Labelled:
    """Features at the picked places, read from the cache where it has them.

    backbone: normalised RGB (B, 3, H, W) to a list of maps, finest first; it is put into eval mode. classify gives the
    mean of the coarsest level; detect the means inside each box of the three coarsest levels, joined; segment the
    values of all levels at each pixel, bilinear, joined.
    """
    if task == "classify":
        pooled = pooled_features(backbone, preprocess, dataset, title=title)
        chosen = [i for i, p in enumerate(picks.places) if len(p)]
        return Labelled(pooled.embedding[chosen], picks.labels, picks.groups, picks.names)
    key = feature_key(f"labelled {task}", backbone, preprocess, dataset, places=_places_sha256(picks))
    title = title or f"features of {dataset.name}"
    arrays = cached(key, lambda: {"vectors": _compute(backbone, preprocess, dataset, picks, task, title)})
    return Labelled(arrays["vectors"].astype(np.float32), picks.labels, picks.groups, picks.names)


def _whole(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    known = sample.category >= 0
    return np.array([[0, 0, 1, 1]] * known, np.float32).reshape(-1, 4), np.array([sample.category] * known, np.int64)


def _boxes(sample: Sample, classes: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Some boxes of each class, then background boxes of the same sizes."""
    usable = np.flatnonzero(~sample.ignore)
    chosen: list[int] = []
    for label in np.unique(sample.labels[usable]):
        own = usable[sample.labels[usable] == label]
        spread = np.linspace(0, len(own) - 1, min(len(own), PER_CLASS)).round().astype(int)
        chosen += own[spread].tolist()
    boxes = sample.boxes[chosen]
    found = [_free_place(box[2:] - box[:2], sample.boxes, rng) for box in boxes]
    background = np.array([place for place in found if place is not None], np.float32).reshape(-1, 4)
    labels = np.concatenate([sample.labels[chosen], np.full(len(background), classes, np.int64)])
    return np.concatenate([boxes, background]).astype(np.float32), labels


def _free_place(
    size: NDArray[np.float32], taken: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """A box of this size that touches none of `taken`, ignored ones included; None where none was found."""
    for _ in range(TRIES):
        corner = rng.random(2) * np.maximum(1 - size, 0)
        box = np.concatenate([corner, corner + size]).astype(np.float32)
        apart = (taken[:, :2] >= box[2:]).any(axis=1) | (taken[:, 2:] <= box[:2]).any(axis=1)
        if apart.all():
            return box
    return None


def _pixels(
    sample: Sample, dataset: Dataset, layer: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    path = sample.masks[layer] if layer < len(sample.masks) else None
    if path is None:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    wide, high = image_size(sample.image)
    mask = read_mask_of(path, dataset.layers[layer], (high, wide))
    height, width = mask.shape
    flat = mask.ravel()
    present = [int(c) for c in np.unique(flat) if c != VOID]
    points, labels = [], []
    for i, label in enumerate(present):
        own = np.flatnonzero(flat == label)
        wanted = PIXELS // len(present) + (i < PIXELS % len(present))
        at = rng.choice(own, min(max(wanted, 1), len(own)), replace=False)
        x, y = (at % width + 0.5) / width, (at // width + 0.5) / height
        points.append(np.stack([x, y, x, y], axis=1))
        labels.append(np.full(len(at), label, np.int64))
    if not points:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return np.concatenate(points).astype(np.float32), np.concatenate(labels)


def _places_sha256(picks: Picks) -> str:
    digest = hashlib.sha256()
    for places in picks.places:
        digest.update(f"{len(places)}:".encode() + places.tobytes())
    return digest.hexdigest()


def _compute(
    backbone: nn.Module, preprocess: Preprocess, dataset: Dataset, picks: Picks, task: Task, title: str
) -> NDArray[np.float32]:
    read = _box_means if task == "detect" else _point_values
    shown = [(s, p) for s, p in zip(dataset.samples, picks.places, strict=True) if len(p)]
    each = backbone_maps(backbone, preprocess, [s for s, _ in shown], title=title)
    rows = [read(maps, _in_network(p, g).to(maps[0].device)) for (g, maps), (_, p) in zip(each, shown, strict=True)]
    return np.concatenate([row.cpu().numpy() for row in rows])


def _in_network(places: NDArray[np.float32], geometry: Geometry) -> Tensor:
    """Shares of the source image as shares of the network's input."""
    (height, width), (net_h, net_w) = geometry.source_hw, geometry.size_hw
    pixels = geometry.to_network(places * np.array([width, height, width, height], np.float32))
    return torch.from_numpy(pixels / np.array([net_w, net_h, net_w, net_h], np.float32))


def _box_means(maps: list[Tensor], boxes: Tensor) -> Tensor:
    """(M, C) means of the three coarsest levels inside each box; boxes as shares of the network's input."""
    from torchvision.ops import roi_align

    parts = []
    for level in maps[-3:]:
        height, width = level.shape[2:]
        cells = boxes * torch.tensor([width, height, width, height], dtype=boxes.dtype)
        parts.append(roi_align(level.contiguous(), [cells], ROI_CELLS, sampling_ratio=2, aligned=True).mean((2, 3)))
    return torch.cat(parts, dim=1)


def _point_values(maps: list[Tensor], points: Tensor) -> Tensor:
    """(M, C) bilinear values of all levels at each point; points as shares of the network's input."""
    grid = (points[:, :2] * 2 - 1).view(1, 1, -1, 2)
    parts = [F.grid_sample(level, grid, padding_mode="border", align_corners=False)[0, :, 0].T for level in maps]
    return torch.cat(parts, dim=1)
