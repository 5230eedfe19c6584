"""How fast tracked objects come nearer: an extended Kalman filter of each object's distance, its rate and its height.

Two things are measured in every frame. The distance to the place on the ground, which errors of pitch and of the lower
edge falsify; and how much of the slope the box takes up, which is the object's height over its distance whatever that
height is. The second gives no distance, but its growth gives the time to collision (Lee, Perception 1976), and a camera
that nods does not change it. So the height is a state, as a logarithm, and is learnt while the object is seen. Both are
linear in time for an object that comes nearer at a steady speed, which shares of a size are not.

Errors last: the pitch is off for longer than a frame, and a detector's box errs alike in several. A measurement that
comes sooner than its errors change counts for the less, so that more frames a second don't make things surer.

Columns are (WIDTH, N) float64: distance, rate, log height, then their covariance row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.geometry.ground import Sight

    F64 = NDArray[np.float64]

DISTANCE, RATE, HEIGHT = range(3)
COVARIANCE = slice(3, 12)
_DD, _DR, _RD, _RR, _HH = (3 + 3 * row + column for row, column in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2)))
_SEEN, _HITS = 12, 13
WIDTH = 14
_LEAST_M = 0.3


def _motion() -> tuple[F64, F64, F64]:
    """(12, 12) each: what dt^0, dt and dt^2 bring to the mean F x and to the covariance F P F' row by row."""
    stay, move = np.eye(3), np.zeros((3, 3))
    move[DISTANCE, RATE] = 1
    both = np.zeros((3, 12, 12))
    both[0], both[1, :3, :3] = np.eye(12), move
    both[1, 3:, 3:] = np.kron(move, stay) + np.kron(stay, move)
    both[2, 3:, 3:] = np.kron(move, move)
    return both[0], both[1], both[2]


_STAY, _MOVE, _MOVE_BOTH = _motion()


@dataclass(frozen=True, slots=True)
class ApproachSettings:
    """How speeds are found; chosen on rendered drives, see tests/bench/bench_geometry.py. Times are in seconds.

    sure_mps is from drives of the seeds 100 to 105 with a detector's boxes: with 2.5 m/s 15 % of the speeds were given
    and 83 % of their errors were within the stated 90 %, with 3 m/s 38 % and 93 %. A lower limit keeps mostly those
    that are less sure than they seem.

    first_mps: deviation of what a new object's rate may be. change: how much a rate changes, deviation in m/s after one
    second. drift: of the log height, likewise. ground_s, extent_s: how long errors of the place and of the extent last.
    surprise: a measurement so many deviations off counts less. use_ground, use_extent: for comparison, one alone.

    sure_hits: frames with a measurement until a speed is given. sure_mps, sure_share: and until its deviation is below
    the first, or below this share of the speed. closing: a time is given from so many deviations of the rate on.
    least_mps: and from this speed on. coast_s: how long without a measurement. memory_s, most: what is kept.
    """

    first_mps: float = 15.0
    change: float = 4.0
    drift: float = 0.02
    ground_s: float = 0.5
    extent_s: float = 0.5
    surprise: float = 3.0
    use_ground: bool = True
    use_extent: bool = True
    sure_hits: int = 4
    sure_mps: float = 3.0
    sure_share: float = 0.33
    closing: float = 3.0
    least_mps: float = 0.3
    coast_s: float = 0.5
    memory_s: float = 2.0
    most: int = 256


@dataclass(frozen=True, slots=True)
class Closing:
    """(N,) float64 each, NaN where they are not sure: closing speed, its deviation, time to collision, its deviation.

    For a distance d, a closing speed v and the time t = d / v, to first order:

        var(t) = t^2 (var(d) / d^2 + var(v) / v^2 - 2 cov(d, v) / (d v))

    This does not hold near v = 0, where t is unbounded and its errors have no variance; a time is given only where v is
    ApproachSettings.closing of its deviations above 0. There, at 3, the true time is still more often far above the
    stated one than far below: 1 / v is skewed.
    """

    speed_mps: F64
    std_mps: F64
    time_s: F64
    time_std_s: F64


class Approach:
    """The objects of one head of one camera. One thread only.

    heights_m: (L, 2) mean and deviation of how tall objects of each label are.
    """

    def __init__(self, heights_m: F64, settings: ApproachSettings | None = None) -> None:
        self.settings = settings or ApproachSettings()
        mean, deviation = heights_m.T
        self._log_height, self._log_height_var = np.log(mean), (deviation / mean) ** 2
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rows: F64 = np.zeros((WIDTH, 0))
        self._zero_ns = self._last_ns = 0

    def __len__(self) -> int:
        """Objects that are kept."""
        return len(self._ids)

    def update(
        self, ids: NDArray[np.int64], classes: NDArray[np.int64], sight: Sight, good: NDArray[np.bool_], *, t_ns: int
    ) -> Closing:
        """How the object of each box comes nearer.

        ids: (N,) numbers of the boxes' objects, below zero for none. classes: (N,) labels. good: (N,) whether the box
        can be measured. t_ns: when the frame was captured; where that lies before the last one or after all memory, all
        is forgotten.
        """
        now_s = self._advance(t_ns)
        usable = good & np.isfinite(sight.distance_m) & (sight.extent > 0)
        known, at = self._find(ids)
        measured = (known & usable).nonzero()[0]
        self._correct(at[measured], sight, measured, now_s)
        closing = self._told(at, known, now_s)
        new = (~known & usable & (ids >= 0)).nonzero()[0]
        if len(new):
            self._begin(ids[new], classes[new], sight, new, now_s)
        self._forget(now_s)
        return closing

    def _advance(self, t_ns: int) -> float:
        settings, rows = self.settings, self._rows
        dt_s = (t_ns - self._last_ns) / 1e9
        self._last_ns = t_ns
        if not 0 <= dt_s <= settings.memory_s:
            self._ids, self._rows, self._zero_ns = self._ids[:0], rows[:, :0], t_ns
        elif len(self._ids) and dt_s:
            noise = settings.change**2
            rows[:_SEEN] = (_STAY + dt_s * _MOVE + dt_s * dt_s * _MOVE_BOTH) @ rows[:_SEEN]
            rows[_DD] += noise * dt_s**3 / 3
            rows[_DR : _RD + 1 : _RD - _DR] += noise * dt_s**2 / 2
            rows[_RR] += noise * dt_s
            rows[_HH] += settings.drift**2 * dt_s
            np.maximum(rows[DISTANCE], _LEAST_M, out=rows[DISTANCE])
        return (t_ns - self._zero_ns) / 1e9

    def _find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Whether each number is kept, and in which row; numbers are kept in their order."""
        if not len(self._ids):
            return np.zeros(len(ids), bool), np.zeros(len(ids), np.intp)
        at = np.minimum(self._ids.searchsorted(ids), len(self._ids) - 1)
        return self._ids[at] == ids, at

    def _correct(self, at: NDArray[np.intp], sight: Sight, boxes: NDArray[np.intp], now_s: float) -> None:
        """Take both measurements into account, one after the other."""
        if not len(at):
            return
        settings, p = self.settings, self._rows[:, at]
        seen, variance, extent = sight.distance_m[boxes], sight.distance_var[boxes], sight.extent[boxes]
        since_s = np.maximum(now_s - p[_SEEN], 1e-3)
        spread = p[COVARIANCE].reshape(3, 3, -1)
        if settings.use_ground:
            noise = variance * np.maximum(settings.ground_s / since_s, 1)
            self._gain(p, spread[0].copy(), p[_DD].copy(), seen - p[DISTANCE], noise)
        if settings.use_extent:  # log(1 / extent) is log distance - log height
            inverse = 1 / p[DISTANCE]
            off = p[HEIGHT] - np.log(p[DISTANCE] * extent)
            share = sight.slope_std[boxes] / extent
            column = inverse * spread[0] - spread[2]
            noise = share * share * np.maximum(2 * settings.extent_s / since_s, 2)
            self._gain(p, column, inverse * column[0] - column[2], off, noise)
        p[_SEEN] = now_s
        p[_HITS] += 1
        self._rows[:, at] = p

    def _gain(self, p: F64, column: F64, spread: F64, off: F64, noise: F64) -> None:
        """One scalar measurement, into p. column: (3, N) covariance times its gradient; spread: the variance that the
        state brings to it; noise: the measurement's own.
        """
        whole = spread + noise
        far = off * off / (whole * self.settings.surprise**2)
        whole = spread + noise * np.maximum(far, 1)
        gains = column / whole
        p[:3] += gains * off
        p[COVARIANCE] -= (gains[:, None] * column).reshape(9, -1)
        np.maximum(p[DISTANCE], _LEAST_M, out=p[DISTANCE])

    def _begin(
        self, ids: NDArray[np.int64], classes: NDArray[np.int64], sight: Sight, boxes: NDArray[np.intp], now_s: float
    ) -> None:
        """Objects that are seen for the first time: at rest, as far as is known, and as tall as their label is."""
        distance, variance, extent = sight.distance_m[boxes], sight.distance_var[boxes], sight.extent[boxes]
        share = sight.slope_std[boxes] / extent
        rows = np.zeros((WIDTH, len(ids)))
        rows[DISTANCE], rows[HEIGHT] = distance, np.log(distance * extent)
        spread = rows[COVARIANCE].reshape(3, 3, -1)
        spread[0, 0], spread[1, 1] = variance, self.settings.first_mps**2
        spread[0, 2] = spread[2, 0] = variance / distance
        spread[2, 2] = variance / distance**2 + 2 * share * share
        off, noise = self._log_height[classes] - rows[HEIGHT], self._log_height_var[classes]
        self._gain(rows, spread[2].copy(), spread[2, 2].copy(), off, noise)
        rows[_SEEN], rows[_HITS] = now_s, 1
        ids, rows = np.concatenate([self._ids, ids]), np.concatenate([self._rows, rows], axis=1)
        order = ids.argsort(kind="stable")
        self._ids, self._rows = ids[order], rows[:, order]

    def _told(self, at: NDArray[np.intp], known: NDArray[np.bool_], now_s: float) -> Closing:
        """What is sure of each box's object."""
        if not len(self._ids):
            nan = np.full(len(at), np.nan)
            return Closing(nan, nan.copy(), nan.copy(), nan.copy())
        settings, rows = self.settings, self._rows[:, at]
        closing, rate_var = -rows[RATE], rows[_RR]
        squared = closing * closing
        # What is wrong with the distance as a whole, like the pitch, is wrong with the speed by the same share.
        std = np.sqrt(rate_var + squared * (rows[_DD] / rows[DISTANCE] ** 2))
        sure = known & (std < np.maximum(settings.sure_mps, settings.sure_share * np.abs(closing)))
        seen = (rows[_HITS] >= settings.sure_hits) & (now_s - rows[_SEEN] <= settings.coast_s)
        sure &= seen
        nearer = known & seen & (closing > settings.least_mps) & (squared > settings.closing**2 * rate_var)
        distance, speed = rows[DISTANCE], np.where(nearer, closing, 1)
        time = np.where(nearer, distance / speed, np.nan)
        share = rows[_DD] / distance**2 + rate_var / speed**2 + 2 * rows[_DR] / (distance * speed)
        return Closing(
            np.where(sure, closing, np.nan),
            np.where(sure, std, np.nan),
            time,
            time * np.sqrt(np.maximum(share, 0)),
        )

    def _forget(self, now_s: float) -> None:
        keep = now_s - self._rows[_SEEN] <= self.settings.memory_s
        if not keep.all():
            self._ids, self._rows = self._ids[keep], self._rows[:, keep]
        if len(self._ids) > self.settings.most:
            last = np.sort(self._rows[_SEEN].argsort(kind="stable")[-self.settings.most :])
            self._ids, self._rows = self._ids[last], self._rows[:, last]
