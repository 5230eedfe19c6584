"""Cameras with known calibrations, and the boxes that they see of objects with known places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.geometry.calibration import Calibration, Mounting
from edgetl_runtime.geometry.edges import EdgeErrors
from edgetl_runtime.geometry.ground import Ground, Sight
from edgetl_runtime.geometry.lens import Lens
from edgetl_runtime.result import Detections

SIZE_HW = (720, 1280)
MODELS: dict[str, tuple[str, tuple[float, ...]]] = {
    "none": ("plumb_bob", (0.0, 0.0, 0.0, 0.0, 0.0)),
    "plumb_bob": ("plumb_bob", (-0.32, 0.12, 0.001, -0.0008, -0.02)),
    "rational": ("rational_polynomial", (0.6, -0.2, 0.0005, 0.0004, 0.01, 0.9, -0.1, 0.02)),
    "equidistant": ("equidistant", (0.04, -0.01, 0.003, -0.0005)),
}


def mounting(**changes: Any) -> Mounting:
    """A camera behind the windscreen, with edges that are as sure whatever a box's label and score."""
    values: dict[str, Any] = {"position_m": (1.2, 0.1, 1.5), "pitch_deg": 2.0}
    values |= {"box_edge_std_px": 2.0, "box_edge_std_share": 0.03}
    return Mounting(**(values | changes))


def calibration(model: str = "none", **changes: Any) -> Calibration:
    """A camera of 1280x720; changes: of the mounting."""
    name, coefficients = MODELS[model]
    focal = 600.0 if name == "equidistant" else 1000.0
    return Calibration(
        camera_name="front",
        size_hw=SIZE_HW,
        matrix=(focal, 0.0, 630.0, 0.0, focal * 1.01, 350.0, 0.0, 0.0, 1.0),
        model=name,  # type: ignore[arg-type]
        coefficients=coefficients,
        mounting=mounting(**changes),
    )


def seen(camera: Calibration, points: NDArray[np.float64], size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.float64]:
    """(N, 2) continuous pixels of points (N, 3) in base_link."""
    return Lens(camera).pixels((points - np.array(camera.mounting.position_m)).T, size_hw)


def boxes_of(
    camera: Calibration, places: NDArray[np.float64], height_m: float, size_hw: tuple[int, int] = SIZE_HW
) -> NDArray[np.float32]:
    """(N, 4) boxes of upright things of this height and half as wide, whose feet are at places (N, 2)."""
    feet = np.concatenate([places, np.zeros((len(places), 1))], axis=1)
    low = seen(camera, feet, size_hw)
    high = seen(camera, feet + (0.0, 0.0, height_m), size_hw)
    half = (low[:, 1] - high[:, 1]) / 4
    return np.stack([low[:, 0] - half, high[:, 1], low[:, 0] + half, low[:, 1]], axis=1).astype(np.float32)


def found(boxes: NDArray[np.float32], ids: list[int] | None = None, classes: list[int] | None = None) -> Detections:
    """Boxes as a detector gives them, with the numbers of their tracks."""
    n = len(boxes)
    labels = np.array(classes or [0] * n, np.int64)
    if ids is None:
        return Detections(boxes, np.ones(n, np.float32), labels)
    numbers = np.array(ids, np.int64).reshape(n)
    return Detections(
        boxes, np.ones(n, np.float32), labels, numbers, np.ones(n, np.float32), np.zeros((n, 2), np.float32)
    )


def sighted(ground: Ground, boxes: NDArray[np.float32], size_hw: tuple[int, int] = SIZE_HW) -> Sight:
    """What a camera sees of boxes of no particular label."""
    of_any = np.zeros(len(boxes), np.int64)
    stds = EdgeErrors(("thing",), ground.mounting, None).stds_px(
        boxes, np.ones(len(boxes), np.float32), of_any, size_hw
    )
    return ground.sight(boxes, size_hw, stds)
