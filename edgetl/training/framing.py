"""Where an augmented view looks: a cut of the frame, another mount of the camera, and boxes that follow.

Coordinates are continuous as in the runtime's letterbox: 0 is the left edge of the first pixel, the width the right
edge of the last. v2's perspective takes the same, from the output's pixels to the input's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from edgetl.data import VOID
from edgetl.training.light import HORIZON, Stage

MIN_VISIBLE = 0.4
"""An object with a smaller share of its area left in the view is ignored."""
MIN_SIDE_PX = 3.0

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]


class Cut(NamedTuple):
    """Along one axis: `length` source pixels from `start`, resized to `size`, after `before` pixels of padding."""

    start: int
    length: int
    size: int
    before: int


def random_cut(extent: int, scale: float, crop: int, centre: float | None, rng: np.random.Generator) -> Cut:
    """A cut of `crop` pixels at `scale` from `extent` source pixels, with `centre` well inside if there is one."""
    whole = max(round(extent * scale), 1)
    if whole <= crop:
        return Cut(0, extent, whole, int(rng.integers(0, crop - whole + 1)))
    length = min(max(round(crop / scale), 1), extent)
    low, high = 0, extent - length
    if centre is not None:
        low = min(max(int(np.ceil(centre - 0.9 * length)), 0), high)
        high = max(min(int(centre - 0.1 * length), high), low)
    return Cut(int(rng.integers(low, high + 1)), length, crop, 0)


def cut_out(pixels: Tensor, rows: Cut, columns: Cut, *, classes: bool = False) -> Tensor:
    """(C, rows.size, columns.size) of (C, H, W); the nearest pixel for masks of classes, else bilinear."""
    # The runtime's letterbox does not antialias: the network should learn from pixels like those it will get.
    cut: Tensor = v2.resized_crop(
        pixels,
        rows.start,
        columns.start,
        rows.length,
        columns.length,
        [rows.size, columns.size],
        interpolation=InterpolationMode.NEAREST_EXACT if classes else InterpolationMode.BILINEAR,
        antialias=False,
    )
    return cut


def cut_matrix(rows: Cut, columns: Cut) -> Matrix:
    """(3, 3): source pixels to pixels of the cut, without its padding."""
    x, y = columns.size / columns.length, rows.size / rows.length
    return np.array([[x, 0, -columns.start * x], [0, y, -rows.start * y], [0, 0, 1]], np.float64)


def frame_stage(source_hw: tuple[int, int], matrix: Matrix) -> Stage:
    """Where the source frame lies in the pixels of a cut."""
    height, width = source_hw
    return Stage(matrix[0, 2], matrix[1, 2], width * matrix[0, 0], height * matrix[1, 1])


def other_mount(size_hw: tuple[int, int], stage: Stage, *, pitch_deg: float, roll_deg: float, stretch: float) -> Matrix:
    """(3, 3) homography of a picture to what the camera would see at another pitch, roll and height.

    K R K^-1 for a lens of about 60 degrees, after a stretch of what lies off the horizon. The shift that comes with a
    pitch is taken out, as where the crop lies is random already; a zoom keeps the picture's corners covered.
    """
    height, width = size_hw
    middle, horizon = stage.left + stage.width / 2, stage.top + stage.height * HORIZON
    focal = 0.87 * stage.width
    (sin_p, cos_p), (sin_r, cos_r) = ((np.sin(a), np.cos(a)) for a in np.radians((pitch_deg, roll_deg)))
    pitch = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    roll = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    camera = np.array([[focal, 0, middle], [0, focal, horizon], [0, 0, 1]])
    squeeze = translation(0, horizon) @ np.diag([1, 1 + stretch, 1]) @ translation(0, -horizon)
    seen = camera @ roll @ pitch @ np.linalg.inv(camera) @ squeeze
    centre = np.array([width / 2, height / 2])
    came = seen @ np.array([*centre, 1])
    seen = translation(*(centre - came[:2] / came[2])) @ seen
    return covered(seen, size_hw)


def covered(matrix: Matrix, size_hw: tuple[int, int]) -> Matrix:
    """`matrix` with the least zoom (to 1 %) about the centre for which every pixel of the view shows the picture."""
    height, width = size_hw
    centre = np.array([width / 2, height / 2])
    back = np.linalg.inv(matrix)
    limit = np.array([width, height])
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64) - centre
    for zoom in np.arange(1.0, 1.6, 0.01):
        at = np.column_stack([corners / zoom + centre, np.ones(4)]) @ back.T
        at = at[:, :2] / at[:, 2:]
        if ((at >= -1e-6) & (at <= limit + 1e-6)).all():
            break
    return translation(*centre) @ np.diag([zoom, zoom, 1.0]) @ translation(*-centre) @ matrix


def moved(
    size_hw: tuple[int, int], *, turn_deg: float, shift_xy: tuple[float, float], zoom: tuple[float, float]
) -> Matrix:
    """(3, 3): turned about the centre, shifted by shares of the size, zoomed along x and y."""
    height, width = size_hw
    sin, cos = np.sin(np.radians(turn_deg)), np.cos(np.radians(turn_deg))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    there = translation(width * (0.5 + shift_xy[0]), height * (0.5 + shift_xy[1]))
    return np.asarray(there @ np.diag([*zoom, 1.0]) @ turn @ translation(-width / 2, -height / 2))


def translation(x: float, y: float) -> Matrix:
    """(3, 3) homography that moves by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def warped(pixels: Tensor, matrix: Matrix, *, classes: bool = False, margin: int = 0) -> Tensor:
    """(C, H, W) uint8 moved by `matrix`: an image, whose edge goes on for `margin` pixels, or a mask of classes."""
    if classes:
        nearest = InterpolationMode.NEAREST
        mask: Tensor = v2.perspective(
            pixels, None, None, interpolation=nearest, fill=float(VOID), coefficients=_coefficients(matrix)
        )
        return mask
    height, width = pixels.shape[1:]
    if margin:
        pixels = v2.pad(pixels, [margin] * 4, padding_mode="edge")
        matrix = translation(margin, margin) @ matrix @ translation(-margin, -margin)
    # No fill: the margin or the zoom in `covered` leaves nothing to fill, and filling takes twice the time.
    out: Tensor = v2.perspective(
        pixels, None, None, interpolation=InterpolationMode.BILINEAR, coefficients=_coefficients(matrix)
    )
    return out[:, margin : margin + height, margin : margin + width]


def _coefficients(matrix: Matrix) -> list[float]:
    back = np.linalg.inv(matrix)
    return [float(v) for v in (back / back[2, 2]).ravel()[:8]]


def boxes_through(matrix: Matrix, boxes: Floats) -> Floats:
    """(N, 4) boxes x1, y1, x2, y2 about the corners of `boxes` after the homography; not clipped."""
    if not len(boxes):
        return boxes
    corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2).astype(np.float64)
    if matrix[2, 0] == matrix[2, 1] == matrix[0, 1] == matrix[1, 0] == 0:
        corners = corners[:, ::3]
    mapped = corners @ matrix[:2, :2].T + matrix[:2, 2]
    mapped /= corners @ matrix[2, :2][:, None] + matrix[2, 2]
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1).astype(np.float32)


def clip_boxes(boxes: Floats, size_hw: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Boxes cut to the picture, which of them are left, and which are too little to learn from."""
    limit = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
    clipped = np.minimum(boxes.clip(min=0), limit)
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(axis=1) / np.maximum(whole.prod(axis=1), 1e-6)
    keep = (sides > 0.5).all(axis=1)
    return clipped, keep, (visible < MIN_VISIBLE) | (sides < MIN_SIDE_PX).any(axis=1)
