"""The pinhole camera, and the frames it works in.

World: x right, y forward, z up at heading 0, metres; the ground is z = 0. Headings are in radians, clockwise
seen from above. Ego frame: the same axes, with the camera above the origin and y along the ego heading.
Image: u right, v down, pixels; pixel (0, 0) has its centre at (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

NEAR_M = 0.35
"""Nothing nearer than this along the optical axis is drawn."""


@dataclass(frozen=True)
class Pose:
    """Where the ego camera stands: x, y in metres, heading in radians."""

    x_m: float
    y_m: float
    heading_rad: float

    def to_ego(self, x: F64, y: F64) -> tuple[F64, F64]:
        """World positions in the ego frame (right, forward)."""
        dx, dy = x - self.x_m, y - self.y_m
        c, s = self._turn
        return dx * c - dy * s, dx * s + dy * c

    def point_to_ego(self, x: float, y: float) -> tuple[float, float]:
        """One world position in the ego frame (right, forward)."""
        dx, dy = x - self.x_m, y - self.y_m
        c, s = self._turn
        return dx * c - dy * s, dx * s + dy * c

    @cached_property
    def _turn(self) -> tuple[float, float]:
        return math.cos(self.heading_rad), math.sin(self.heading_rad)


@dataclass(frozen=True)
class Camera:
    """Intrinsics and mounting: square pixels, centred principal point, no roll, no distortion.

    pitch_rad is positive when the camera looks down.
    """

    size_hw: tuple[int, int]
    focal_px: float
    height_m: float
    pitch_rad: float

    @property
    def cx(self) -> float:
        """Principal point, horizontal, in pixels."""
        return self.size_hw[1] / 2

    @property
    def cy(self) -> float:
        """Principal point, vertical, in pixels."""
        return self.size_hw[0] / 2

    @cached_property
    def matrix(self) -> F64:
        """K, (3, 3) float64."""
        f = self.focal_px
        return np.array([[f, 0.0, self.cx], [0.0, f, self.cy], [0.0, 0.0, 1.0]])

    @property
    def horizon_px(self) -> float:
        """The image row of the horizon."""
        return self.cy - self.focal_px * float(np.tan(self.pitch_rad))

    def to_camera(self, points: F64) -> F64:
        """Ego points (N, 3) as camera coordinates (N, 3): right, down, forward."""
        turn, shift = self._turn
        return points @ turn + shift

    def ground_to_camera(self, xy: F64) -> F64:
        """Ego points on the ground (N, 2) as camera coordinates (N, 3)."""
        turn, shift = self._turn
        return xy @ turn[:2] + shift

    @cached_property
    def _turn(self) -> tuple[F64, F64]:
        c, s = float(np.cos(self.pitch_rad)), float(np.sin(self.pitch_rad))
        turn = np.array([[1.0, 0.0, 0.0], [0.0, -s, c], [0.0, -c, -s]])
        return turn, np.array([0.0, c, s]) * self.height_m

    def project(self, points: F64) -> tuple[F64, F64]:
        """Ego points (N, 3) to pixels (N, 2) and depth along the axis (N,); depth below NEAR_M is held there."""
        cam = self.to_camera(points)
        return self.to_pixels(cam), cam[:, 2]

    def to_pixels(self, cam: F64) -> F64:
        """Camera coordinates (N, 3) to pixels (N, 2)."""
        scale = self.focal_px / np.maximum(cam[:, 2], NEAR_M)
        return cam[:, :2] * scale[:, None] + (self.cx, self.cy)

    def ground_forward(self, rows_px: F64) -> F64:
        """Distance forward (ego y, metres) of the ground seen in these image rows; inf above the horizon."""
        m = (rows_px - self.cy) / self.focal_px
        c, s = np.cos(self.pitch_rad), np.sin(self.pitch_rad)
        below = m * c + s
        return np.where(below > 1e-9, self.height_m * (c - m * s) / np.maximum(below, 1e-9), np.inf)

    def pixels_per_metre(self, depth_m: float) -> float:
        """Image scale at this depth."""
        return self.focal_px / max(depth_m, NEAR_M)


def clip_near(cam: F64) -> F64:
    """A polygon (N, 3) in camera coordinates cut at NEAR_M; may come back with fewer than 3 points."""
    inside = cam[:, 2] >= NEAR_M
    if inside.all():
        return cam
    out = []
    for i in range(len(cam)):
        a, b = cam[i - 1], cam[i]
        if inside[i - 1] != inside[i]:
            t = (NEAR_M - a[2]) / (b[2] - a[2])
            out.append(a + t * (b - a))
        if inside[i]:
            out.append(b)
    return np.array(out) if out else np.zeros((0, 3))
