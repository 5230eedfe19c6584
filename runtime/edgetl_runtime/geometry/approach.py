"""How fast tracked objects come nearer: an extended Kalman filter of each object's distance, its rate and its height.

Two things are measured in every frame. The distance to the place on the ground, which errors of pitch and of the lower
edge falsify; and how much of the slope the box takes up, which is the object's height over its distance whatever that
height is. The second gives no distance, but its growth gives the time to collision (Lee, Perception 1976), and a camera
that nods does not change it. So the height is a state, as a logarithm, and is learnt while the object is seen. Both are
linear in time for an object that comes nearer at a steady speed, which shares of a size are not.

Rows are (N, WIDTH) float64: distance, rate, log height, then their covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.geometry.ground import Sight

    F64 = NDArray[np.float64]

DISTANCE, RATE, HEIGHT, DD, DR, DH, RR, RH, HH = range(9)
_SEEN, _HITS = 9, 10
WIDTH = 11
_LEAST_M = 0.3


@dataclass(frozen=True, slots=True)
class ApproachSettings:
    """How speeds are found. Times are in seconds of the frames' clock.

    first_mps: deviation of what a new object's rate may be. change: how much a rate changes, deviation in m/s after one
    second. drift: of the log height, likewise. extent_share: an edge's deviation counts so often in the extent, since
    a detector's boxes err alike for some frames. surprise: a measurement so many deviations off counts less.

    sure_hits: frames with a measurement until a speed is given. sure_mps, sure_share: and until its deviation is below
    the first, or below this share of the speed. closing: a time is given from so many deviations of speed on. least_mps:
    and from this speed on. coast_s: how long without a measurement. memory_s, most: what is kept.
    """

    first_mps: float = 15.0
    change: float = 2.0
    drift: float = 0.03
    extent_share: float = 1.0
    surprise: float = 3.0
    sure_hits: int = 4
    sure_mps: float = 1.0
    sure_share: float = 0.2
    closing: float = 2.0
    least_mps: float = 0.3
    coast_s: float = 0.5
    memory_s: float = 2.0
    most: int = 256


class Approach:
    """The objects of one head of one camera. One thread only."""

    def __init__(self, settings: ApproachSettings | None = None) -> None:
        self.settings = settings or ApproachSettings()
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rows: F64 = np.zeros((0, WIDTH))
        self._zero_ns = self._last_ns = 0

    def __len__(self) -> int:
        """Objects that are kept."""
        return len(self._ids)

    def update(self, ids: NDArray[np.int64], sight: Sight, good: NDArray[np.bool_], *, t_ns: int) -> tuple[F64, F64]:
        """Closing speed and time to collision of each box, (N,) float64, NaN where they are not sure.

        ids: (N,) numbers of the boxes' objects, below zero for none. good: (N,) whether the box can be measured. t_ns:
        when the frame was captured; where that lies before the last one or after all memory, all is forgotten.
        """
        now_s = self._advance(t_ns)
        usable = good & np.isfinite(sight.distance_m) & (sight.extent > 0)
        known, at = self._find(ids)
        self._correct(at[known & usable], sight, np.flatnonzero(known & usable), now_s)
        speeds, times = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        self._tell(at[known], np.flatnonzero(known), now_s, speeds, times)
        new = np.flatnonzero(~known & usable & (ids >= 0))
        if len(new):
            self._begin(ids[new], sight, new, now_s)
        self._forget(now_s)
        return speeds, times

    def _advance(self, t_ns: int) -> float:
        settings, rows = self.settings, self._rows
        dt_s = (t_ns - self._last_ns) / 1e9
        self._last_ns = t_ns
        if not 0 <= dt_s <= settings.memory_s:
            self._ids, self._rows, self._zero_ns = self._ids[:0], rows[:0], t_ns
        elif len(rows):
            noise = settings.change**2
            rows[:, DISTANCE] += rows[:, RATE] * dt_s
            np.maximum(rows[:, DISTANCE], _LEAST_M, out=rows[:, DISTANCE])
            rows[:, DD] += dt_s * (2 * rows[:, DR] + dt_s * (rows[:, RR] + noise * (dt_s / 3)))
            rows[:, DR] += dt_s * (rows[:, RR] + noise * (dt_s / 2))
            rows[:, DH] += dt_s * rows[:, RH]
            rows[:, RR] += dt_s * noise
            rows[:, HH] += dt_s * settings.drift**2
        return (t_ns - self._zero_ns) / 1e9

    def _find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Whether each number is kept, and in which row; numbers are kept in their order."""
        if not len(self._ids):
            return np.zeros(len(ids), bool), np.zeros(len(ids), np.intp)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return self._ids[at] == ids, at

    def _correct(self, at: NDArray[np.intp], sight: Sight, boxes: NDArray[np.intp], now_s: float) -> None:
        """Take both measurements into account, one after the other."""
        if not len(at):
            return
        p = self._rows[at].T
        distance = p[DISTANCE]
        off = sight.distance_m[boxes] - distance
        self._gain(p, (p[DD], p[DR], p[DH]), p[DD], off, sight.distance_var[boxes])
        # log(1 / extent) is log distance - log height.
        np.maximum(p[DISTANCE], _LEAST_M, out=p[DISTANCE])
        inverse = 1 / p[DISTANCE]
        extent = sight.extent[boxes]
        off = p[HEIGHT] - np.log(p[DISTANCE] * extent)
        share = self.settings.extent_share * sight.slope_std[boxes] / extent
        column = (inverse * p[DD] - p[DH], inverse * p[DR] - p[RH], inverse * p[DH] - p[HH])
        self._gain(p, column, inverse * column[0] - column[2], off, 2 * share * share)
        np.maximum(p[DISTANCE], _LEAST_M, out=p[DISTANCE])
        p[_SEEN] = now_s
        p[_HITS] += 1
        self._rows[at] = p.T

    def _gain(self, p: F64, column: tuple[F64, F64, F64], spread: F64, off: F64, noise: F64) -> None:
        """One scalar measurement: column is covariance times its gradient, spread the gradient's own variance."""
        whole = spread + noise
        far = off * off / (whole * self.settings.surprise**2)
        np.maximum(far, 1.0, out=far)
        whole += noise * (far - 1)
        d, r, h = column
        gain_d, gain_r, gain_h = d / whole, r / whole, h / whole
        p[DISTANCE] += gain_d * off
        p[RATE] += gain_r * off
        p[HEIGHT] += gain_h * off
        p[DH] -= gain_d * h
        p[RH] -= gain_r * h
        p[HH] -= gain_h * h
        p[DR] -= gain_d * r
        p[RR] -= gain_r * r
        p[DD] -= gain_d * d

    def _begin(self, ids: NDArray[np.int64], sight: Sight, boxes: NDArray[np.intp], now_s: float) -> None:
        """Objects that are seen for the first time: at rest, as far as is known."""
        distance, variance, extent = sight.distance_m[boxes], sight.distance_var[boxes], sight.extent[boxes]
        share = self.settings.extent_share * sight.slope_std[boxes] / extent
        rows = np.zeros((len(ids), WIDTH))
        rows[:, DISTANCE], rows[:, HEIGHT] = distance, np.log(distance * extent)
        rows[:, DD], rows[:, RR] = variance, self.settings.first_mps**2
        rows[:, DH] = variance / distance
        rows[:, HH] = variance / distance**2 + 2 * share * share
        rows[:, _SEEN], rows[:, _HITS] = now_s, 1
        ids, rows = np.concatenate([self._ids, ids]), np.concatenate([self._rows, rows])
        order = np.argsort(ids, kind="stable")
        self._ids, self._rows = ids[order], rows[order]

    def _tell(self, at: NDArray[np.intp], boxes: NDArray[np.intp], now_s: float, speeds: F64, times: F64) -> None:
        """Write what is sure into `speeds` and `times`."""
        if not len(at):
            return
        settings, rows = self.settings, self._rows[at]
        closing, deviation = -rows[:, RATE], np.sqrt(rows[:, RR])
        sure = deviation < np.maximum(settings.sure_mps, settings.sure_share * np.abs(closing))
        sure &= (rows[:, _HITS] >= settings.sure_hits) & (now_s - rows[:, _SEEN] <= settings.coast_s)
        speeds[boxes] = np.where(sure, closing, np.nan)
        nearer = sure & (closing > np.maximum(settings.least_mps, settings.closing * deviation))
        times[boxes] = np.where(nearer, rows[:, DISTANCE] / np.where(nearer, closing, 1), np.nan)

    def _forget(self, now_s: float) -> None:
        keep = now_s - self._rows[:, _SEEN] <= self.settings.memory_s
        if not keep.all():
            self._ids, self._rows = self._ids[keep], self._rows[keep]
        if len(self._ids) > self.settings.most:
            last = np.sort(np.argsort(self._rows[:, _SEEN], kind="stable")[-self.settings.most :])
            self._ids, self._rows = self._ids[last], self._rows[last]
