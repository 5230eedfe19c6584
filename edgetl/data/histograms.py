"""How much of what every sample holds: the columns by which splits are balanced and classes are counted."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset, MaskLayer, read_mask
from edgetl.features.store import cached
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress

VERSION = 1
VALUES = 256
RAW = MaskLayer("raw", tuple(str(value) for value in range(VALUES)))
"""A layer whose classes are the pixel values themselves."""


@dataclass(frozen=True, slots=True)
class MaskCounts:
    """One row for every sample, of one layer.

    pixels: (N, 256) int64, how many pixels have each value. size_hw: (N, 2) int32, 0 where there is no mask, -1 where
    it can't be read.
    """

    pixels: NDArray[np.int64]
    size_hw: NDArray[np.int32]

    def per_class(self, layer: MaskLayer) -> NDArray[np.int64]:
        """(N, C) pixels of each class of the layer."""
        table = layer.table()
        return np.stack([self.pixels[:, table == c].sum(axis=1) for c in range(len(layer.classes))], axis=1)


def mask_counts(dataset: Dataset, layer_index: int) -> MaskCounts:
    """Count the pixel values of every mask of a layer; read from the cache where it has them."""
    files = [s.masks[layer_index] for s in dataset.samples]
    key = {"kind": "mask counts", "version": VERSION, "files": _files_sha256(files)}
    arrays = cached(key, lambda: _count_all(files, f"{dataset.layers[layer_index].name} {dataset.name}"))
    return MaskCounts(arrays["pixels"].astype(np.int64), arrays["size_hw"].astype(np.int32))


def box_counts(dataset: Dataset) -> NDArray[np.int64]:
    """(N, C) boxes of each class that aren't ignored."""
    rows = [np.bincount(s.labels[~s.ignore], minlength=len(dataset.classes)) for s in dataset.samples]
    return np.array(rows, np.int64).reshape(len(rows), len(dataset.classes))


def category_counts(dataset: Dataset) -> NDArray[np.int64]:
    """(N, C) 1 at each image's category; a row of zeros where it has none."""
    categories = np.array([s.category for s in dataset.samples], np.int64)
    return np.asarray(categories[:, None] == np.arange(len(dataset.categories)), dtype=np.int64)


def _count_all(files: list[Path | None], title: str) -> dict[str, NDArray[np.generic]]:
    rows, sizes = [], []
    with Progress(title, len(files), unit="masks") as progress:
        pool = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8))
        try:
            for row, size in pool.map(_count, files):
                rows.append(row)
                sizes.append(size)
                progress.step()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return {
        "pixels": np.array(rows, np.int64).reshape(-1, VALUES),
        "size_hw": np.array(sizes, np.int32).reshape(-1, 2),
    }


def _count(file: Path | None) -> tuple[NDArray[np.int64], tuple[int, int]]:
    if file is None:
        return np.zeros(VALUES, np.int64), (0, 0)
    try:
        mask = read_mask(file, RAW)
    except InputError:
        return np.zeros(VALUES, np.int64), (-1, -1)
    return np.bincount(mask.reshape(-1), minlength=VALUES), (mask.shape[0], mask.shape[1])


def _files_sha256(files: list[Path | None]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            status = file.stat() if file else None
        except OSError:
            status = None
        state = f"{status.st_size}:{status.st_mtime_ns}" if status else "missing"
        digest.update(f"{file.resolve() if file else ''}:{state}".encode())
    return digest.hexdigest()
