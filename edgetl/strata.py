"""What every image of a dataset has that calibration must cover: its light, place, classes and sizes of objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, Sample, read_image
from edgetl.data.dataset import MAX_PIXELS
from edgetl.data.header import read_header
from edgetl.data.histograms import box_counts, category_counts, mask_counts
from edgetl.data.leaks import grouped
from edgetl.features.frozen import images_sha256
from edgetl.features.store import cached
from edgetl.training.light import DARK, DARKEST
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.progress import Progress

VERSION = 1
"""Part of the cache's key; to be raised when `_look` gives other values."""
LIGHTS = ("dark", "dusk", "day", "bright")
LIGHT_LEVELS = (DARKEST, DARK, 120.0)
"""Mean grey levels up to which a frame is dark, dusk and day."""
SMALL_PX = 16.0
"""Boxes of less height in the network's input are small."""
SMALL_SHARE, EMPTY_SHARE, BRIGHT_SHARE = 1 / 4, 1 / 16, 1 / 8
"""Of the chosen frames: those with a small object, those without any, and those brighter than most days. With an even
share of bright frames the INT8 detector of BDD100K's day was a sixth less exact at night and no more so by day."""
STRETCH_WEIGHT = 0.5
"""Frames lie apart in their split where nothing else asks for others: less is known of a stretch than of a class."""
MASK_SHARE = 0.001
"""From this share of a mask's pixels on, a frame has the class."""

Members = NDArray[np.bool_]
Shown = Literal["each", "how many", "no"]


@dataclass(frozen=True, slots=True)
class Kind:
    """Strata of one kind, which are to share the frames evenly.

    members: (N, S) bool, which frames have which of the S strata. share: of all chosen frames, for the whole kind.
    weight: how much a stratum counts; rare_first: one of few frames up to twice as much. shown: what a record says.
    """

    name: str
    strata: tuple[str, ...]
    members: Members = field(repr=False)
    share: float = 1.0
    weight: float = 1.0
    rare_first: bool = False
    shown: Shown = "each"


def kinds_of_strata(datasets: Sequence[Dataset], number: int, size_hw: tuple[int, int]) -> list[Kind]:
    """All kinds, over the samples of all datasets one after the other; of `number` stretches one frame each is wanted.

    size_hw: the network's input. Raises InputError for an image that can't be read.
    """
    samples = [(i, s) for i, d in enumerate(datasets) for s in d.samples]
    looks = [_looks(d) for d in datasets]
    levels = np.concatenate([level for level, _ in looks])
    lights = [LIGHTS[i] for i in np.searchsorted(LIGHT_LEVELS, levels)]
    several = [datasets[i].name if len(datasets) > 1 else "" for i, _ in samples]
    groups = [f"{i} {s.group}" if grouped(s) else "" for i, s in samples]
    stretches = [str(i * number // len(samples)) for i in range(len(samples))]
    return [
        _one_each("data", several),
        _one_each("light", lights, LIGHTS[:-1]),
        replace(_one_each("light", lights, LIGHTS[-1:]), share=BRIGHT_SHARE),
        _one_each("domain", [s.domain for _, s in samples]),
        _one_each("groups", groups, shown="how many"),
        _many_each("class", datasets, lambda d: d.classes, lambda d: box_counts(d) > 0, rare_first=True),
        _many_each("category", datasets, lambda d: d.categories, lambda d: category_counts(d) > 0),
        *_masks(datasets),
        *_objects(datasets, [size for _, size in looks], size_hw),
        replace(_one_each("stretches", stretches, shown="no"), weight=STRETCH_WEIGHT),
    ]


def _one_each(name: str, values: Sequence[str], strata: Sequence[str] = (), *, shown: Shown = "each") -> Kind:
    """A kind in which every frame has one stratum, or none where its value is empty."""
    named = tuple(strata) or tuple(sorted(set(values) - {""}))
    column = {s: i for i, s in enumerate(named)}
    indices = np.array([column.get(v, -1) for v in values], np.int64)
    return Kind(name, named, indices[:, None] == np.arange(len(named)), shown=shown)


def _many_each(
    name: str,
    datasets: Sequence[Dataset],
    names_of: Callable[[Dataset], tuple[str, ...]],
    members_of: Callable[[Dataset], Members],
    *,
    rare_first: bool = False,
) -> Kind:
    """A kind in which a frame may have several strata: equal names of two datasets are one stratum."""
    strata = tuple(dict.fromkeys(n for d in datasets for n in names_of(d)))
    members = np.zeros((sum(len(d) for d in datasets), len(strata)), np.bool_)
    start = 0
    for dataset in datasets:
        if names := names_of(dataset):
            members[start : start + len(dataset), [strata.index(n) for n in names]] = members_of(dataset)
        start += len(dataset)
    return Kind(name, strata, members, rare_first=rare_first)


def _masks(datasets: Sequence[Dataset]) -> list[Kind]:
    """A kind for each name of a layer of masks."""

    def index_of(dataset: Dataset, name: str) -> int | None:
        return next((i for i, layer in enumerate(dataset.layers) if layer.name == name), None)

    def names_in(name: str) -> Callable[[Dataset], tuple[str, ...]]:
        return lambda d: () if (i := index_of(d, name)) is None else d.layers[i].classes

    def members_in(name: str) -> Callable[[Dataset], Members]:
        return lambda d: _mask_members(d, index_of(d, name) or 0)

    names = dict.fromkeys(layer.name for d in datasets for layer in d.layers)
    return [_many_each(f"mask {n}", datasets, names_in(n), members_in(n)) for n in names]


def _mask_members(dataset: Dataset, index: int) -> Members:
    pixels = mask_counts(dataset, index).per_class(dataset.layers[index])
    return np.asarray(pixels > MASK_SHARE * pixels.sum(axis=1, keepdims=True))


def _objects(datasets: Sequence[Dataset], sizes: Sequence[NDArray[np.int64]], size_hw: tuple[int, int]) -> list[Kind]:
    """Frames with small objects, and of datasets that have boxes those without any; nothing where there are none."""
    small: list[bool] = []
    empty: list[bool] = []
    for dataset, shapes in zip(datasets, sizes, strict=True):
        labelled = any(len(s.labels) for s in dataset.samples)
        for sample, (height, width) in zip(dataset.samples, shapes, strict=True):
            empty.append(labelled and not len(sample.labels))
            small.append(_has_small(sample, (int(height), int(width)), size_hw))
    columns = (("small", small, SMALL_SHARE), ("none", empty, EMPTY_SHARE))
    if not any(len(s.labels) for d in datasets for s in d.samples):
        return []
    return [Kind("objects", (name,), np.array(values)[:, None], share) for name, values, share in columns]


def _has_small(sample: Sample, source_hw: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    boxes = sample.boxes[~sample.ignore]
    heights = (boxes[:, 3] - boxes[:, 1]) * source_hw[0] * geometry(source_hw, size_hw).scale
    return bool((heights < SMALL_PX).any())


def _looks(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(N,) mean grey level and (N, 2) height and width in pixels of every image, from the cache where it has them."""
    key = {"kind": "light", "version": VERSION, "images": images_sha256(dataset)}
    arrays = cached(key, lambda: _look_at_all(dataset))
    return arrays["levels"].astype(np.float64), arrays["sizes_hw"].astype(np.int64)


def _look_at_all(dataset: Dataset) -> dict[str, NDArray[np.generic]]:
    found = []
    with Progress(f"light {dataset.name}", len(dataset), unit="images", enabled=len(dataset) > 200) as progress:
        pool = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8))
        try:
            for look in pool.map(_look, [s.image for s in dataset.samples]):
                found.append(look)
                progress.step()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return {
        "levels": np.array([level for level, _ in found], np.float64),
        "sizes_hw": np.array([size for _, size in found], np.int64).reshape(-1, 2),
    }


def _look(path: Path) -> tuple[float, tuple[int, int]]:
    """Mean grey level and (height, width). A JPEG is decoded at an eighth of its size, in a quarter of the time."""
    import cv2

    header = read_header(path)
    width, height = header.shown_wh
    image = None
    if width * height <= MAX_PIXELS:
        flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    if image is None:
        image = read_image(path)  # says what is wrong with the file
    return float(image.mean()), (height, width)
