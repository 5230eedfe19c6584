"""Intersection over union of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError


def confusion(truth: NDArray[np.uint8], found: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(C, C) counts of pixels: row is the true class, column the found one. Both masks (H, W) uint8.

    Pixels whose truth is no class (VOID) don't count. Raises InputError where the sizes differ.
    """
    if truth.shape != found.shape:
        raise InputError(
            f"a mask of {truth.shape[1]}x{truth.shape[0]} pixels belongs to an image of "
            f"{found.shape[1]}x{found.shape[0]}",
            remedy="give masks of their images' size",
        )
    known = truth < classes
    pairs = truth[known].astype(np.int64) * classes + found[known].clip(max=classes - 1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def mean_iou(counts: NDArray[np.int64]) -> tuple[float, list[float], float]:
    """Mean IoU over the classes that occur in truth or found, IoU by class (NaN where none), pixel accuracy."""
    hit = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        ious = np.where(union > 0, hit / union, np.nan)
    total = counts.sum()
    if not total:
        return float("nan"), ious.tolist(), float("nan")
    return float(np.nanmean(ious)), ious.tolist(), float(hit.sum() / total)
