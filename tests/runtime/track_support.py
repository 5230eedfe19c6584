"""Frames of moving boxes for the tests of tracking."""

from __future__ import annotations

import numpy as np

from edgetl_runtime.result import Detections
from edgetl_runtime.track import Tracker

FPS = 30
THRESHOLDS = (0.5, 0.5, 0.5)
SIZE_HW = (360, 640)
Row = tuple[float, float, float, float, float, int]
"""Centre x, centre y, width, height, score, class."""


def found_of(*rows: Row) -> Detections:
    """These boxes, in this order."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    corners = np.concatenate([table[:, :2] - table[:, 2:4] / 2, table[:, :2] + table[:, 2:4] / 2], 1)
    return Detections(corners.astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def step(tracker: Tracker, frame: float, *rows: Row, size_hw: tuple[int, int] = SIZE_HW) -> Detections:
    """One update; `frame` counts at FPS and may leave some out."""
    return tracker.update(found_of(*rows), t_ns=round(frame / FPS * 1e9), size_hw=size_hw)


def ids(found: Detections) -> list[int]:
    """The numbers of all boxes."""
    assert found.track_ids is not None
    listed: list[int] = found.track_ids.tolist()
    return listed
