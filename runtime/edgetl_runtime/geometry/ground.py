"""Where boxes stand: the middle of the lower edge, its ray, the ground z = 0 of base_link, and how sure that is.

The ground is taken as a plane. A place P on it, seen by a camera h above the ground, moves in first order, with X and Y
from the camera's foot, X the way that the camera looks by its yaw, Y to the left of that:

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
NEARER_SHARE = 0.1
"""A box that reaches less further down may be the same object's."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Boxes of one frame as seen from the camera, float64, NaN where a place is not known.

    places_m: (2, N), x and y in base_link. covariances_m2: (2, 2, N). distance_m, distance_var: (N,) from the camera's
    foot. slope: (N,) of the ray to the place below the horizontal, height over distance. extent: (N,) how much of that
    the box takes up; slope_std: (N,) deviation of one edge, in the same unit. corners: (2, N), of the rays to the lower
    left and right corners Y over X.
    """

    places_m: F64
    covariances_m2: F64
    distance_m: F64
    distance_var: F64
    slope: F64
    extent: F64
    slope_std: F64
    corners: F64


class Ground:
    """The plane under a calibrated camera."""

    def __init__(self, calibration: Calibration) -> None:
        m = calibration.mounting
        self.mounting, self.lens = m, Lens(calibration)
        self.height_m = m.position_m[2]
        self.foot_m = np.array([[m.position_m[0]], [m.position_m[1]]])
        self._turn_stds = np.deg2rad([m.pitch_std_deg, m.roll_std_deg, m.yaw_std_deg]).tolist()
        yaw = np.deg2rad(m.yaw_deg)
        self._ahead = (float(np.cos(yaw)), float(np.sin(yaw)))
        self._others = any(self._turn_stds[1:]) or m.height_std_m > 0

    def sight(self, boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int], edge_std: F64) -> Sight:
        """Where boxes (N, 4) of a frame of this size stand, by the middles of their lower edges.

        edge_std: (N,) one deviation of their edges in pixels, see `edges`. Cut off or hidden lower edges are not looked
        for here.
        """
        left, top, right, bottom = boxes_xyxy.astype(np.float64).T
        h = self.height_m
        with np.errstate(all="ignore"):
            rays = self._rays(left, top, right, bottom, size_hw)
            t = h / np.where(rays[2, 0] < 0, -rays[2, 0], np.nan)
            ground = rays[:2, 0] * t
            moved = (rays[:, 1:3] - rays[:, :1]) * t
            errors = np.empty((2, 6 if self._others else 3, len(t)))
            np.add(moved[:2], ground[:, None] * (moved[2] / h), out=errors[:, :2])
            errors[:, :2] *= edge_std
            errors[:, 0] *= np.sqrt(0.5)  # the middle of two edges
            self._turned(ground, errors)
            covariances: F64 = np.einsum("akn,bkn->abn", errors, errors)
            distance = np.sqrt(np.einsum("an,an->n", ground, ground))
            along = np.einsum("an,akn->kn", ground, errors) / distance
            distance_var = np.einsum("kn,kn->n", along, along)
            slope = h / distance
            above = rays[2, 3] / np.hypot(rays[0, 3], rays[1, 3])
            slope_std = np.abs(along[1]) * slope / distance
            cos, sin = self._ahead
            ahead = cos * rays[0, 4:] + sin * rays[1, 4:]
            corners = np.where(ahead > 0, (cos * rays[1, 4:] - sin * rays[0, 4:]) / ahead, np.nan)
            sure = distance_var < MOST_RELATIVE_STD**2 * distance * distance
        if not sure.all():
            for part in (ground, covariances, distance, distance_var):
                part[..., ~sure] = np.nan
        return Sight(
            ground + self.foot_m, covariances, distance, distance_var, slope, slope + above, slope_std, corners
        )

    def turned_to_axis(self, places_m: F64) -> tuple[F64, F64]:
        """(N,) each: X and Y of places (2, N) of base_link."""
        (x, y), (cos, sin) = places_m - self.foot_m, self._ahead
        return cos * x + sin * y, cos * y - sin * x

    def turned_from_axis(self, places_m: F64) -> F64:
        """The inverse: (2, N) in base_link of X and Y (2, N)."""
        (x, y), (cos, sin) = places_m, self._ahead
        turned: F64 = np.stack([cos * x - sin * y, sin * x + cos * y]) + self.foot_m
        return turned

    def spread_from_axis(self, var_x: F64, var_y: F64) -> F64:
        """(2, 2, N) in base_link of variances (N,) along X and Y."""
        cos, sin = self._ahead
        spread = np.empty((2, 2, len(var_x)))
        spread[0, 0], spread[1, 1] = cos * cos * var_x + sin * sin * var_y, sin * sin * var_x + cos * cos * var_y
        spread[0, 1] = spread[1, 0] = cos * sin * (var_x - var_y)
        return spread

    def _rays(self, left: F64, top: F64, right: F64, bottom: F64, size_hw: tuple[int, int]) -> F64:
        """(3, 6, N) rays of the lower edge's middle, of a pixel to the right of it, of one above it, of the top, and of
        the lower corners, left and right.

        One above, not below: inside the picture, where the lens is defined.
        """
        n = len(left)
        points = np.empty((2, 6, n))
        points[0], points[1] = (left + right) * 0.5, bottom
        points[0, 1] += 1
        points[1, 2] -= 1
        points[1, 3] = top
        points[0, 4], points[0, 5] = left, right
        flat = points.reshape(2, 6 * n)
        return self.lens.rays(flat[0], flat[1], size_hw).reshape(3, 6, n)

    def _turned(self, ground: F64, errors: F64) -> None:
        """How far places lie off by one deviation of pitch, roll, yaw and height, into errors (2, 2:, N)."""
        h, (pitch, roll, yaw), (cos, sin) = self.height_m, self._turn_stds, self._ahead
        np.multiply(ground, (cos * ground[0] + sin * ground[1]) * (pitch / h), out=errors[:, 2])
        errors[0, 2] += h * pitch * cos
        errors[1, 2] += h * pitch * sin
        if self._others:
            np.multiply(ground, (cos * ground[1] - sin * ground[0]) * (roll / h), out=errors[:, 3])
            errors[0, 3] -= h * roll * sin
            errors[1, 3] += h * roll * cos
            errors[0, 4], errors[1, 4] = -yaw * ground[1], yaw * ground[0]
            errors[:, 5] = ground * (self.mounting.height_std_m / h)


def touches_ground(boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) whether the lower edge of each box (N, 4) shows ground: neither cut off by the picture nor hidden.

    A box hides another's lower edge where it reaches further down by NEARER_SHARE of the other's height, begins above
    it and covers HIDDEN_SHARE of it.
    """
    left, top, right, bottom = boxes_xyxy.T
    whole: NDArray[np.bool_] = bottom < size_hw[0] - EDGE_PX
    hides = bottom + NEARER_SHARE * (bottom - top) < bottom[:, None]  # row: which hides, column: which is hidden
    if not hides.any():
        return whole
    hides &= top[:, None] < bottom
    hides &= np.minimum(right[:, None], right) - np.maximum(left[:, None], left) >= HIDDEN_SHARE * (right - left)
    whole &= ~hides.any(axis=0)
    return whole
