"""Augmentation for driving: one affine resampling (zoom, shift, mirror), then light as a camera sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Sample, read_image

SIDED_WORDS = ("sign", "left", "right", "arrow")
"""Classes that mean something else in a mirror; a crop that shows one is not mirrored."""
MIN_VISIBLE = 0.4
"""An object with a smaller share of its area left in the crop is ignored."""
MIN_SIDE_PX = 3.0


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Ranges of the augmentation; zoom is relative to the scale at which the network sees the frame."""

    zoom: tuple[float, float] = (0.75, 1.6)
    mirror: float = 0.5
    aim: float = 0.6
    brightness: float = 0.3
    contrast: float = 0.3
    blur: float = 0.1
    noise: float = 0.2
    pad_value: int = 114


@dataclass(frozen=True, slots=True)
class View:
    """An image (H, W, 3) uint8 BGR with boxes (N, 4) in its pixels, labels (N,) and ignore (N,).

    category: of the whole image, -1 for none. masks: (H, W) uint8 for each of the dataset's layers, VOID where
    the image has none.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    category: int = -1
    masks: tuple[NDArray[np.uint8], ...] = ()


def sided_classes(classes: tuple[str, ...]) -> frozenset[int]:
    """Indices of the classes that must not be mirrored."""
    return frozenset(i for i, name in enumerate(classes) if any(w in name.lower() for w in SIDED_WORDS))


def augmented_view(
    sample: Sample,
    *,
    crop_hw: tuple[int, int],
    network_hw: tuple[int, int],
    sided: frozenset[int],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> View:
    """A random crop of the sample at `crop_hw`, at about the scale of a letterbox to `network_hw`."""
    import cv2

    image = read_image(sample.image)
    height, width = image.shape[:2]
    base = min(network_hw[0] / height, network_hw[1] / width)
    scale = base * float(np.exp(rng.uniform(*np.log(config.zoom))))
    boxes = sample.boxes * np.array([width, height, width, height], np.float32) * scale
    left = _offset(rng, boxes[:, [0, 2]], scale * width, crop_hw[1], config.aim)
    top = _offset(rng, boxes[:, [1, 3]], scale * height, crop_hw[0], config.aim)
    boxes = boxes - np.array([left, top, left, top], np.float32)
    matrix = np.array([[scale, 0, -left], [0, scale, -top]], np.float64)
    mirror = rng.random() < config.mirror and not _shows(boxes, sample.labels, sided, crop_hw)
    if mirror:
        matrix[0] = [-scale, 0, crop_hw[1] - 1 + left]
        boxes = np.stack([crop_hw[1] - boxes[:, 2], boxes[:, 1], crop_hw[1] - boxes[:, 0], boxes[:, 3]], axis=1)
    pad = (config.pad_value,) * 3
    warped = cv2.warpAffine(
        image,
        matrix,
        (crop_hw[1], crop_hw[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=pad,
    )
    clipped, keep, cut = _clip(boxes, crop_hw)
    lit = _light(np.asarray(warped, np.uint8), config, rng)
    return View(lit, clipped[keep], sample.labels[keep], (sample.ignore | cut)[keep])


def _offset(rng: np.random.Generator, spans: NDArray[np.float32], extent: float, crop: int, aim: float) -> float:
    """Where the crop begins along one axis; with chance `aim` so that one object's centre lies inside."""
    if extent <= crop:
        return float(rng.uniform(extent - crop, 0))
    low, high = 0.0, extent - crop
    pick, chance = rng.random(), rng.random()
    if len(spans) and chance < aim:
        centre = float(spans[int(pick * len(spans))].mean())
        low, high = max(low, centre - 0.9 * crop), min(high, centre - 0.1 * crop)
        low, high = min(low, high), max(low, high)
    return float(rng.uniform(low, high))


def _shows(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], sided: frozenset[int], crop_hw: tuple[int, int]
) -> bool:
    """Whether a sided object large enough to be read stands in the crop."""
    inside = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < crop_hw[1]) & (boxes[:, 1] < crop_hw[0])
    large = (boxes[:, 3] - boxes[:, 1]) > 24
    return bool(np.isin(labels[inside & large], list(sided)).any())


def _clip(
    boxes: NDArray[np.float32], crop_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Boxes cut to the crop, which of them are left, and which of those are too little to learn from."""
    limit = np.array([crop_hw[1], crop_hw[0], crop_hw[1], crop_hw[0]], np.float32)
    clipped = np.minimum(boxes.clip(min=0), limit)
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(axis=1) / np.maximum(whole.prod(axis=1), 1e-6)
    keep = (sides > 0.5).all(axis=1)
    return clipped, keep, (visible < MIN_VISIBLE) | (sides < MIN_SIDE_PX).any(axis=1)


def _light(image: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and colour balance in one table look-up; now and then blur or noise."""
    import cv2

    levels = np.arange(256, dtype=np.float32)
    gain = 1 + rng.uniform(-config.contrast, config.contrast)
    shift = rng.uniform(-config.brightness, config.brightness) * 80
    balance = 1 + rng.uniform(-0.08, 0.08, size=3)
    table = np.stack([((levels - 114) * gain + 114 + shift) * b for b in balance], axis=1)
    image = np.asarray(cv2.LUT(image, table.clip(0, 255).astype(np.uint8).reshape(1, 256, 3)), np.uint8)
    if rng.random() < config.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2))), np.uint8)
    if rng.random() < config.noise:
        grain = rng.integers(-12, 13, size=image.shape, dtype=np.int16)
        image = (image + grain).clip(0, 255).astype(np.uint8)
    return image
