"""Drawn pictures that differ like photographs do, and datasets of them in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, Sample


def scene(seed: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    """A picture of coloured rectangles on a slope of light, (height, width, 3) uint8, different for every seed."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.linspace(160, 90, height)[:, None, None], width, axis=1).repeat(3, axis=2)
    for _ in range(14):
        x, y = rng.integers(0, width - 10), rng.integers(0, height - 10)
        w, h = rng.integers(8, width // 2), rng.integers(8, height // 2)
        image[y : y + h, x : x + w] = rng.integers(20, 200, 3)
    return cv2.GaussianBlur(image.astype(np.uint8), (0, 0), 1.0)


def save(path: Path, image: NDArray[np.generic], quality: int = 95) -> Path:
    """Write the picture and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), image, options)
    return path


def boxed(
    image: Path,
    boxes: Sequence[Sequence[float]] = (),
    labels: Sequence[int] = (),
    *,
    group: str = "",
    ignore: Sequence[bool] = (),
) -> Sample:
    """A sample with boxes."""
    return Sample(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore or [False] * len(labels), np.bool_),
        group or image.stem,
    )


def dataset(samples: Sequence[Sample], name: str = "data", classes: Sequence[str] = ("car", "person")) -> Dataset:
    """A dataset of boxes."""
    return Dataset(name, tuple(classes), tuple(samples))
