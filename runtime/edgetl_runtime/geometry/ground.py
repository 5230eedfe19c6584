"""Where boxes stand: the middle of the lower edge, its ray, the ground z = 0 of base_link, and how sure that is.

The ground is taken as a plane. A place P on it, seen by a camera h above the ground, moves in first order, with X and Y
from the camera's foot:

    by an error of pitch (about y)   -(h + X^2 / h),  -X Y / h
    of roll (about x)                X Y / h,         h + Y^2 / h
    of yaw (about z)                 -Y,              X
    of the height h                  X / h,           Y / h
    of the pixel                     t (d' - d d'z / dz)   for a ray d, its change d' and P = C + t d

The covariance adds up what each brings, times its variance; errors are taken as independent. Far away, where sqrt of
the variance of the distance reaches MOST_RELATIVE_STD of it, first order is no longer true, and the place is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.geometry.lens import Lens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.geometry.calibration import Calibration

    F64 = NDArray[np.float64]

MOST_RELATIVE_STD = 0.4
"""A place whose distance is less sure than this share of it is not given."""
EDGE_PX = 1.5
"""A box that ends so near the picture's lower edge is cut off by it."""
HIDDEN_SHARE = 0.7
"""A lower edge of which a nearer box covers so much shows no ground."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Boxes of one frame as seen from the camera, (N,) float64 each, NaN where a place is.

    x_m, y_m: the place in base_link, var_xx, var_xy, var_yy its covariance. distance_m, distance_var: from the camera's
    foot. slope: of the ray to the place below the horizontal, height over distance. extent: how much of that the box
    takes up; slope_std: deviation of one edge, in the same unit.
    """

    x_m: F64
    y_m: F64
    var_xx: F64
    var_xy: F64
    var_yy: F64
    distance_m: F64
    distance_var: F64
    slope: F64
    extent: F64
    slope_std: F64


class Ground:
    """The plane under a calibrated camera."""

    def __init__(self, calibration: Calibration) -> None:
        m = calibration.mounting
        self.mounting, self.lens = m, Lens(calibration)
        self.height_m = m.position_m[2]
        self._x, self._y = m.position_m[:2]
        self._pitch_var, self._roll_var, self._yaw_var = (
            np.deg2rad(v) ** 2 for v in (m.pitch_std_deg, m.roll_std_deg, m.yaw_std_deg)
        )
        self._height_var = (m.height_std_m / self.height_m) ** 2
        self._edge_var, self._edge_share_var = m.box_edge_std_px**2, m.box_edge_std_share**2

    def sight(self, boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> Sight:
        """Where boxes (N, 4) of a frame of this size stand. Cut off or hidden lower edges are not looked for here."""
        boxes = boxes_xyxy.astype(np.float64)
        n, h = len(boxes), self.height_m
        middle, tall = (boxes[:, 0] + boxes[:, 2]) * 0.5, boxes[:, 3] - boxes[:, 1]
        across, down = np.empty(4 * n), np.empty(4 * n)
        across.reshape(4, n)[:] = middle
        across[n : 2 * n] += 1
        down.reshape(4, n)[:3] = boxes[:, 3]
        down[2 * n : 3 * n] -= 1  # upwards: inside the picture wherever the lens is defined
        down[3 * n :] = boxes[:, 1]
        rays = self.lens.rays(across, down, size_hw).reshape(4, n, 3)
        ray = rays[0]
        with np.errstate(all="ignore"):
            below = np.where(ray[:, 2] < 0, -ray[:, 2], np.nan)
            t = h / below
            x, y = t * ray[:, 0], t * ray[:, 1]
            edge_var = self._edge_var + self._edge_share_var * tall * tall
            moved = (rays[1:3] - ray) * t[:, None]  # by a pixel to the right, and by one upwards
            moved_z = moved[:, :, 2] / h
            right_x, up_x = moved[:, :, 0] + x * moved_z
            right_y, up_y = moved[:, :, 1] + y * moved_z
            across_var = 0.5 * edge_var  # of the middle of two edges
            pitch_x, cross, roll_y = h + x * x / h, x * y / h, h + y * y / h
            pitch, roll, yaw, scale = self._pitch_var, self._roll_var, self._yaw_var, self._height_var
            xx = pitch * pitch_x * pitch_x + roll * cross * cross + yaw * y * y + scale * x * x
            xy = pitch * pitch_x * cross + roll * cross * roll_y + (scale - yaw) * x * y
            yy = pitch * cross * cross + roll * roll_y * roll_y + yaw * x * x + scale * y * y
            xx += across_var * right_x * right_x + edge_var * up_x * up_x
            xy += across_var * right_x * right_y + edge_var * up_x * up_y
            yy += across_var * right_y * right_y + edge_var * up_y * up_y
            squared = x * x + y * y
            distance = np.sqrt(squared)
            distance_var = (x * x * xx + 2 * x * y * xy + y * y * yy) / squared
            unsure = ~(distance_var < MOST_RELATIVE_STD**2 * squared)
            top = rays[3]
            slope = h / distance
            extent = slope + top[:, 2] / np.hypot(top[:, 0], top[:, 1])
            slope_std = np.sqrt(edge_var) * slope / distance * np.abs(x * up_x + y * up_y) / distance
        if unsure.any():
            for part in (x, y, xx, xy, yy, distance, distance_var):
                part[unsure] = np.nan
        return Sight(x + self._x, y + self._y, xx, xy, yy, distance, distance_var, slope, extent, slope_std)


def touches_ground(boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) whether the lower edge of each box (N, 4) shows ground: neither cut off by the picture nor hidden.

    A box hides another's lower edge where it reaches further down, begins above it and covers HIDDEN_SHARE of it.
    """
    left, top, right, bottom = boxes_xyxy.T
    whole: NDArray[np.bool_] = bottom < size_hw[0] - EDGE_PX
    if len(boxes_xyxy) > 1:
        covered = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
        hides = covered >= (HIDDEN_SHARE * (right - left))[:, None]
        hides &= (bottom[:, None] < bottom) & (top < bottom[:, None])
        whole &= ~hides.any(axis=1)
    return whole
