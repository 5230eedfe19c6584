"""The host's whole preprocessing: scale to fit, centred, padded, in uint8 BGR; and its way back for boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.spec import Preprocess


@dataclass(frozen=True)
class Geometry:
    """Where a source image lies inside the network's input.

    source_hw, size_hw: source image and network input in pixels. new_hw: the scaled image inside the input,
    its first pixel at (pad_top, pad_left). scale: the nominal factor; boxes use the exact ratio of each axis,
    new_hw / source_hw, because new_hw is rounded to whole pixels. Coordinates are continuous: 0 is the left
    edge of the first pixel, the width is the right edge of the last.
    """

    source_hw: tuple[int, int]
    size_hw: tuple[int, int]
    scale: float
    pad_top: int
    pad_left: int
    new_hw: tuple[int, int]

    def to_network(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) from source to network pixels, clipped to the scaled image; a new array."""
        return self._map(boxes_xyxy, forward=True)

    def to_source(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) from network to source pixels, clipped to the source image; a new array."""
        return self._map(boxes_xyxy, forward=False)

    def _map(self, boxes_xyxy: NDArray[np.float32], *, forward: bool) -> NDArray[np.float32]:
        ratio, pad, network, source = self._mapping
        mapped = boxes_xyxy.astype(np.float64)
        if forward:
            mapped *= ratio
            mapped += pad
            low, high = pad, network
        else:
            mapped -= pad
            mapped /= ratio
            low, high = _ZERO, source
        np.maximum(mapped, low, out=mapped)
        np.minimum(mapped, high, out=mapped)
        return mapped.astype(np.float32)

    @cached_property
    def _mapping(self) -> tuple[NDArray[np.float64], ...]:
        """(4,) each, of x, y, x, y: ratio, padding, and the far corner in network and in source pixels."""
        (h, w), (new_h, new_w) = self.source_hw, self.new_hw
        ratio = np.array([new_w / w, new_h / h] * 2, np.float64)
        pad = np.array([self.pad_left, self.pad_top] * 2, np.float64)
        return ratio, pad, pad + np.array([new_w, new_h] * 2, np.float64), np.array([w, h] * 2, np.float64)


_ZERO = np.zeros(4)


def geometry(source_hw: tuple[int, int], size_hw: tuple[int, int]) -> Geometry:
    """The letterbox of a source size in a network size. Raises ValueError for a size below one pixel."""
    (h, w), (size_h, size_w) = source_hw, size_hw
    if min(h, w, size_h, size_w) < 1:
        raise ValueError(f"letterbox needs sizes of at least 1x1 pixels, found {source_hw} into {size_hw}")
    scale = min(size_h / h, size_w / w)
    new_h = min(max(int(h * scale + 0.5), 1), size_h)
    new_w = min(max(int(w * scale + 0.5), 1), size_w)
    return Geometry(
        source_hw=(h, w),
        size_hw=(size_h, size_w),
        scale=scale,
        pad_top=(size_h - new_h) // 2,
        pad_left=(size_w - new_w) // 2,
        new_hw=(new_h, new_w),
    )


class Letterbox:
    """Resizes straight into one preallocated network input; nothing frame-sized is allocated per call.

    `tensor` is (1, H, W, 3) uint8 BGR, owned by this object and overwritten by the next call. Pixels are
    bilinear with half-pixel centres (OpenCV's INTER_LINEAR), the same as `reference_letterbox` to a grey
    level or two.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.size_hw = preprocess.size_hw
        self.pad_value = preprocess.pad_value
        self.tensor: NDArray[np.uint8] = np.full((1, *self.size_hw, 3), self.pad_value, np.uint8)
        self.geometry: Geometry | None = None
        self._view = self.tensor[0]
        self._cv2 = _cv2()

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Geometry]:
        """Letterbox one (H, W, 3) uint8 BGR image; returns `tensor` and the geometry for its boxes."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"letterbox needs (H, W, 3) uint8 BGR, found {image.shape} {image.dtype}")
        place = self.geometry
        if place is None or place.source_hw != image.shape[:2]:
            place = self._prepare((image.shape[0], image.shape[1]))
        if place.new_hw == place.source_hw:
            np.copyto(self._view, image)
        else:
            new_h, new_w = place.new_hw
            self._cv2.resize(image, (new_w, new_h), dst=self._view, interpolation=self._cv2.INTER_LINEAR)
        return self.tensor, place

    def _prepare(self, source_hw: tuple[int, int]) -> Geometry:
        place = geometry(source_hw, self.size_hw)
        self.tensor.fill(self.pad_value)
        top, left = place.pad_top, place.pad_left
        self._view = self.tensor[0, top : top + place.new_hw[0], left : left + place.new_hw[1]]
        self.geometry = place
        return place


def reference_letterbox(image: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """The same letterbox in plain numpy, slow: the definition that `Letterbox` is tested against.

    image: (H, W, 3) uint8 BGR. Returns a new (1, H, W, 3) uint8 array at `preprocess.size_hw`.
    """
    place = geometry((image.shape[0], image.shape[1]), preprocess.size_hw)
    rows = _taps(place.source_hw[0], place.new_hw[0])
    columns = _taps(place.source_hw[1], place.new_hw[1])
    pixels = image.astype(np.float64)
    tall = pixels[rows[0]] * (1 - rows[2])[:, None, None] + pixels[rows[1]] * rows[2][:, None, None]
    left, right, weight = columns
    scaled = tall[:, left] * (1 - weight)[None, :, None] + tall[:, right] * weight[None, :, None]
    out = np.full((1, *preprocess.size_hw, 3), preprocess.pad_value, np.uint8)
    bottom, end = place.pad_top + place.new_hw[0], place.pad_left + place.new_hw[1]
    out[0, place.pad_top : bottom, place.pad_left : end] = np.clip(np.rint(scaled), 0, 255)
    return out


def _taps(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """First and second source index and the second's weight, for each target pixel along one axis."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, source - 1), position - first
