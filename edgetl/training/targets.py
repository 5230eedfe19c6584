"""Training targets of the detector: Gaussian centres, and which cells learn which box.

Shapes follow TTFNet (arXiv:1909.00700): an ellipse of 0.54 of the box around its centre, every cell of it
learns the box, weighted by the Gaussian and by the logarithm of the box's area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.models.detector import STRIDE

SPREAD = 0.54
"""Share of the box that its centre region covers."""


@dataclass(frozen=True, slots=True)
class Targets:
    """heat: (C, H, W) float32 in 0..1. box: (4, H, W) float32 x1, y1, x2, y2 in network pixels.

    weight: (H, W) float32, zero where no box is learnt. quiet: (H, W) float32, zero over ignored objects.
    """

    heat: NDArray[np.float32]
    box: NDArray[np.float32]
    weight: NDArray[np.float32]
    quiet: NDArray[np.float32]
    objects: int


def make_targets(
    boxes_px: NDArray[np.float32],
    labels: NDArray[np.int64],
    ignore: NDArray[np.bool_],
    *,
    classes: int,
    size_hw: tuple[int, int],
) -> Targets:
    """Targets for boxes (N, 4) in network pixels; smaller boxes win the cells that they share."""
    height, width = size_hw[0] // STRIDE, size_hw[1] // STRIDE
    heat = np.zeros((classes, height, width), np.float32)
    box = np.zeros((4, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    quiet = np.ones((height, width), np.float32)
    area = (boxes_px[:, 2] - boxes_px[:, 0]) * (boxes_px[:, 3] - boxes_px[:, 1])
    objects = 0
    for i in np.argsort(-area):
        x1, y1, x2, y2 = (float(v) / STRIDE for v in boxes_px[i])
        if ignore[i]:
            quiet[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 0
            continue
        column = min(int((x1 + x2) / 2), width - 1)
        row = min(int((y1 + y2) / 2), height - 1)
        kernel = _gaussian((x2 - x1), (y2 - y1))
        rows, columns, patch = _place(kernel, row, column, height, width)
        np.maximum(heat[labels[i], rows, columns], patch, out=heat[labels[i], rows, columns])
        inside = patch > 0.1
        share = patch * (np.log(max(float(area[i]) / STRIDE**2, 1.0)) + 1.0) / max(float(patch[inside].sum()), 1e-6)
        weight[rows, columns] = np.where(inside, share, weight[rows, columns])
        box[:, rows, columns] = np.where(inside, boxes_px[i][:, None, None], box[:, rows, columns])
        quiet[rows, columns] = np.maximum(quiet[rows, columns], inside)
        objects += 1
    return Targets(heat, box, weight, quiet, objects)


def _gaussian(width: float, height: float) -> NDArray[np.float32]:
    """An elliptic Gaussian with its centre cell at one, for a box of this many cells."""
    radius_x, radius_y = int(width / 2 * SPREAD), int(height / 2 * SPREAD)
    x = np.arange(-radius_x, radius_x + 1, dtype=np.float32)
    y = np.arange(-radius_y, radius_y + 1, dtype=np.float32)
    sigma_x, sigma_y = (2 * radius_x + 1) / 6, (2 * radius_y + 1) / 6
    kernel: NDArray[np.float32] = np.exp(-(x[None] ** 2) / (2 * sigma_x**2) - y[:, None] ** 2 / (2 * sigma_y**2))
    return kernel


def _place(
    kernel: NDArray[np.float32], row: int, column: int, height: int, width: int
) -> tuple[slice, slice, NDArray[np.float32]]:
    """Where the kernel falls on the map, and the part of it that does."""
    radius_y, radius_x = kernel.shape[0] // 2, kernel.shape[1] // 2
    top, left = max(row - radius_y, 0), max(column - radius_x, 0)
    bottom, right = min(row + radius_y + 1, height), min(column + radius_x + 1, width)
    patch = kernel[top - row + radius_y : bottom - row + radius_y, left - column + radius_x : right - column + radius_x]
    return slice(top, bottom), slice(left, right), patch
