"""Whether the camera still looks where the calibration says, from the boxes alone.

An object of height H that stands on the ground of a camera at height h takes up a part g of the slope, and the slope of
the ray to its foot is (h / H) g: through nothing at the horizon, for one object at all distances. A camera that was
tilted by e sees all slopes e smaller, and their line misses the origin by that. So each track is a line, fitted with a
prior of its height by its label (a Bayesian linear regression with two unknowns, h / H and e): one that comes nearer
gives e by itself, one that stays where it is only as well as its height is known.

A track is looked at again when its size has changed by a step, so that errors which last for a while are not taken for
many measurements. What tracks say is brought together by a median weighted by how sure they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.geometry.ground import Sight

    F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HorizonSettings:
    """When a camera counts as moved. Times are in seconds of the frames' clock.

    limit_deg: from this tilt on, and then until it is below over_share of that. sure: so many deviations beyond it.
    hold_s: for so long. every_s: between looks. window_s: how long a track counts after it was looked at last. step:
    change of its size until it is looked at again. floor_deg: no track is surer than this, because roads are no planes
    and boxes end only about where objects do. least_px: of a box's height. least_tracks: before anything is said.
    prior_deg: deviation of the tilt before anything is seen. most: tracks that are kept.
    """

    limit_deg: float = 1.0
    over_share: float = 0.6
    sure: float = 2.0
    hold_s: float = 10.0
    every_s: float = 0.2
    window_s: float = 45.0
    step: float = 1.1
    floor_deg: float = 0.5
    least_px: float = 12.0
    least_tracks: int = 6
    prior_deg: float = 5.0
    most: int = 64


_ID, _LAST, _S_HH, _S_HE, _S_EE, _S_H, _S_E, _TIME = range(8)
_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Tilt:
    """How far the camera is tilted against its calibration, down being positive, and one deviation of that."""

    pitch_deg: float
    std_deg: float
    tracks: int


class Horizon:
    """Follows the tilt of one camera; memory is bounded. One thread only.

    heights_m: (L, 2) mean and deviation of how tall objects of each label are. camera_height_m: above the ground.
    tilt: as far as it is known, None before. moved: whether it is beyond the limit; places are not corrected by it.
    """

    def __init__(self, heights_m: F64, camera_height_m: float, settings: HorizonSettings | None = None) -> None:
        self.settings = settings or HorizonSettings()
        self.tilt: Tilt | None = None
        self.moved = False
        mean, deviation = heights_m.T
        self._ratio = camera_height_m / mean
        self._ratio_std = self._ratio * np.minimum(deviation / mean, 1.0)
        self._rows: F64 = np.zeros((0, _WIDTH))
        self._zero_ns = self._last_ns = 0
        self._beyond_since_s: float | None = None

    def update(
        self, ids: NDArray[np.int64], classes: NDArray[np.int64], sight: Sight, good: NDArray[np.bool_], *, t_ns: int
    ) -> None:
        """Look at the boxes of one frame; classes: (N,) labels; the rest as for Approach.update."""
        since_s = (t_ns - self._last_ns) / 1e9
        if 0 <= since_s < self.settings.every_s:
            return
        if since_s < 0:
            self._rows, self._zero_ns, self._beyond_since_s = self._rows[:0], t_ns, None
        self._last_ns = t_ns
        usable = np.flatnonzero(good & (ids >= 0) & (sight.extent > 0))
        changed = False
        now_s = (t_ns - self._zero_ns) / 1e9
        size = np.log(sight.extent[usable])
        step = np.log(self.settings.step)
        for box, number, log_size in zip(usable.tolist(), ids[usable].tolist(), size.tolist(), strict=True):
            at = np.flatnonzero(self._rows[:, _ID] == number)
            if len(at) and abs(self._rows[at[0], _LAST] - log_size) < step:
                continue
            row = self._rows[at[0]] if len(at) else self._begin(number, int(classes[box]))
            _add(row, float(sight.slope[box]), float(sight.extent[box]), float(sight.slope_std[box]))
            row[_LAST], row[_TIME] = log_size, now_s
            changed = True
        if changed:
            self._judge(now_s)

    def _begin(self, number: int, label: int) -> F64:
        rows = self._rows
        if len(rows) >= self.settings.most:
            rows = rows[np.sort(np.argsort(rows[:, _TIME], kind="stable")[1:])]
        row = np.zeros((1, _WIDTH))
        weight = 1 / self._ratio_std[label] ** 2
        row[0, _ID], row[0, _S_HH], row[0, _S_H] = number, weight, weight * self._ratio[label]
        row[0, _S_EE] = 1 / np.deg2rad(self.settings.prior_deg) ** 2
        self._rows = np.concatenate([rows, row])
        last: F64 = self._rows[-1]
        return last

    def _judge(self, now_s: float) -> None:
        settings, rows = self.settings, self._rows
        rows = rows[now_s - rows[:, _TIME] <= settings.window_s]
        whole = rows[:, _S_HH] * rows[:, _S_EE] - rows[:, _S_HE] ** 2
        tilts = np.rad2deg((rows[:, _S_HH] * rows[:, _S_E] - rows[:, _S_HE] * rows[:, _S_H]) / whole)
        deviations = np.rad2deg(np.sqrt(rows[:, _S_HH] / whole))
        told = deviations < settings.prior_deg / 2
        if told.sum() < settings.least_tracks:
            return
        weights = 1 / (deviations[told] ** 2 + settings.floor_deg**2)
        middle = _weighted_median(tilts[told], weights)
        std = 1.25 / float(np.sqrt(weights.sum()))  # of a median, 1.25 of a mean's
        self.tilt = Tilt(middle, std, int(told.sum()))
        sure = settings.sure * std
        if abs(middle) - sure <= settings.limit_deg:
            self._beyond_since_s = None
        elif self._beyond_since_s is None:
            self._beyond_since_s = now_s
        if self._beyond_since_s is not None and now_s - self._beyond_since_s >= settings.hold_s:
            self.moved = True
        elif abs(middle) < settings.over_share * settings.limit_deg:
            self.moved = False


def _add(row: F64, slope: float, extent: float, std: float) -> None:
    """One measurement: slope = ratio * extent - tilt, with the error of the lower edge in both."""
    ratio = row[_S_H] / row[_S_HH]
    weight = 1 / (std * std * ((1 - ratio) ** 2 + ratio**2))
    row[_S_HH] += weight * extent * extent
    row[_S_HE] -= weight * extent
    row[_S_EE] += weight
    row[_S_H] += weight * extent * slope
    row[_S_E] -= weight * slope


def _weighted_median(values: F64, weights: F64) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2)])
