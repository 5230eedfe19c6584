"""From pixels to rays, for points instead of pictures.

The distortion models are those of ROS (sensor_msgs/distortion_models): plumb_bob (Brown 1966), rational_polynomial
(OpenCV's, docs.opencv.org, calib3d) and equidistant (Kannala and Brandt, PAMI 2006). Each is inverted by Newton's
method on all points at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.geometry.calibration import Calibration

    F64 = NDArray[np.float64]

CLOSE_PX = 0.01
"""A point is undistorted when distorting it again gives the pixel back to so many pixels of the calibrated size."""
MOST_STEPS = 20
_WIDEST_RAD = np.pi  # nothing is seen beyond, whatever the coefficients say


class Lens:
    """Rays of a calibrated camera, in base_link.

    Directions of rays are (3, N) float64 and of no particular length; NaN for pixels that no direction gives, or whose
    direction the search did not find to CLOSE_PX in MOST_STEPS steps.
    """

    def __init__(self, calibration: Calibration) -> None:
        mounting = calibration.mounting
        self.size_hw = calibration.size_hw
        if mounting.rectified:
            p = calibration.projection
            self._fx, self._fy, self._cx, self._cy = p[0], p[5], p[2], p[6]
            back = np.array(calibration.rectification).reshape(3, 3).T
            coefficients: tuple[float, ...] = (0.0,) * 4
        else:
            k = calibration.matrix
            self._fx, self._fy, self._cx, self._cy = k[0], k[4], k[2], k[5]
            back = np.eye(3)
            coefficients = calibration.coefficients
        self._fisheye = calibration.model == "equidistant" and not mounting.rectified
        self._plain = not any(coefficients) and not self._fisheye
        self._coefficients = np.zeros(8)
        self._coefficients[: len(coefficients)] = coefficients
        self._to_base = optical_in_base(mounting.roll_deg, mounting.pitch_deg, mounting.yaw_deg) @ back
        self._close = CLOSE_PX / max(self._fx, self._fy)

    def rays(self, x: F64, y: F64, size_hw: tuple[int, int]) -> F64:
        """Directions (3, N) in base_link of points of a frame of `size_hw`, which has the calibrated aspect ratio.

        x, y: (N,) each, continuous as boxes are: 0 is the left edge of the first pixel, the width the right edge of the
        last. They are first put into pixels of the calibrated size, so that its intrinsics hold as they are.
        """
        across, down = self.size_hw[1] / size_hw[1], self.size_hw[0] / size_hw[0]
        seen_x = (x * across - (0.5 + self._cx)) / self._fx
        seen_y = (y * down - (0.5 + self._cy)) / self._fy
        directions = np.ones((3, len(x)))
        if self._plain:
            directions[0], directions[1] = seen_x, seen_y
        elif self._fisheye:
            self._fisheye_directions(seen_x, seen_y, directions)
        else:
            directions[0], directions[1] = self._undistorted(seen_x, seen_y)
        turned: F64 = self._to_base @ directions
        return turned

    def pixels(self, directions: F64, size_hw: tuple[int, int]) -> F64:
        """The inverse of `rays`: (N, 2) continuous points of directions (3, N) in base_link; NaN behind the camera."""
        d = directions.T @ self._to_base
        if self._fisheye:
            away = np.hypot(d[:, 0], d[:, 1])
            angle = np.arctan2(away, d[:, 2])
            bent, _ = _fisheye_radius(angle, self._coefficients)
            factor = np.where(away > 0, bent / np.maximum(away, 1e-300), 1 / np.maximum(d[:, 2], 1e-300))
            x, y = d[:, 0] * factor, d[:, 1] * factor
        else:
            depth = np.where(d[:, 2] > 1e-9, d[:, 2], np.nan)
            x, y, _ = _brown(d[:, 0] / depth, d[:, 1] / depth, self._coefficients)
        u, v = x * self._fx + self._cx + 0.5, y * self._fy + self._cy + 0.5
        return np.stack([u * (size_hw[1] / self.size_hw[1]), v * (size_hw[0] / self.size_hw[0])], axis=1)

    def _undistorted(self, seen_x: F64, seen_y: F64) -> tuple[F64, F64]:
        x, y = seen_x.copy(), seen_y.copy()
        with np.errstate(all="ignore"):
            for step in range(MOST_STEPS + 1):
                bent_x, bent_y, (xx, xy, yy) = _brown(x, y, self._coefficients)
                off_x, off_y = seen_x - bent_x, seen_y - bent_y
                away = np.maximum(np.abs(off_x), np.abs(off_y))
                if step == MOST_STEPS or not (away > self._close).any():
                    break
                whole = xx * yy - xy * xy
                x += (yy * off_x - xy * off_y) / whole
                y += (xx * off_y - xy * off_x) / whole
            # Beyond the radius where the model turns back, its inverse is another branch: no direction gives the pixel.
            good = (away <= self._close) & (xx * yy - xy * xy > 0) & (xx + yy > 0)
        x[~good] = np.nan
        y[~good] = np.nan
        return x, y

    def _fisheye_directions(self, seen_x: F64, seen_y: F64, out: F64) -> None:
        radius = np.hypot(seen_x, seen_y)
        angle = np.minimum(radius, _WIDEST_RAD)
        with np.errstate(all="ignore"):
            for step in range(MOST_STEPS + 1):
                bent, slope = _fisheye_radius(angle, self._coefficients)
                off = radius - bent
                if step == MOST_STEPS or not (np.abs(off) > self._close).any():
                    break
                angle += off / slope
            good = (np.abs(off) <= self._close) & (slope > 0) & (angle >= 0) & (angle <= _WIDEST_RAD)
        angle[~good] = np.nan
        share = np.where(radius > 0, np.sin(angle) / np.maximum(radius, 1e-300), 1.0)
        out[0], out[1], out[2] = seen_x * share, seen_y * share, np.cos(angle)


def optical_in_base(roll_deg: float, pitch_deg: float, yaw_deg: float) -> F64:
    """(3, 3) rotation from the camera's optical frame to base_link, by REP-103's roll, pitch and yaw."""
    roll, pitch, yaw = np.deg2rad([roll_deg, pitch_deg, yaw_deg])
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    body_from_optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    turn: F64 = about_z @ about_y @ about_x @ body_from_optical
    return turn


def _brown(x: F64, y: F64, k: F64) -> tuple[F64, F64, tuple[F64, F64, F64]]:
    """Distorted x and y, and their derivatives by x and y: xx, xy (which is yx too), yy."""
    k1, k2, p1, p2, k3, k4, k5, k6 = k.tolist()
    xx, yy = x * x, y * y
    r2 = xx + yy
    above, above_slope = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), k1 + r2 * (2 * k2 + r2 * (3 * k3))
    if k4 or k5 or k6:
        below, below_slope = 1 + r2 * (k4 + r2 * (k5 + r2 * k6)), k4 + r2 * (2 * k5 + r2 * (3 * k6))
        radial = above / below
        slope = 2 * (above_slope - radial * below_slope) / below
    else:
        radial, slope = above, 2 * above_slope
    shear = 2 * (p1 * x + p2 * y)
    product = x * y
    bent_x = x * radial + 2 * p1 * product + p2 * (r2 + 2 * xx)
    bent_y = y * radial + p1 * (r2 + 2 * yy) + 2 * p2 * product
    by_xx = radial + xx * slope + 2 * p1 * y + 6 * p2 * x
    by_yy = radial + yy * slope + 6 * p1 * y + 2 * p2 * x
    return bent_x, bent_y, (by_xx, product * slope + shear, by_yy)


def _fisheye_radius(angle: F64, k: F64) -> tuple[F64, F64]:
    """The radius in the picture, over the focal length, of rays at this angle from the axis; and its derivative."""
    k1, k2, k3, k4 = k[:4].tolist()
    t2 = angle * angle
    radius = angle * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return radius, 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * (9 * k4))))
