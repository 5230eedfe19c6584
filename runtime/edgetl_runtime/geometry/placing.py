"""All of geometry for one camera's results: places, speeds, and whether the camera has moved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.geometry.approach import Approach
from edgetl_runtime.geometry.calibration import check_size, fits
from edgetl_runtime.geometry.ground import Ground, touches_ground
from edgetl_runtime.geometry.horizon import Horizon
from edgetl_runtime.geometry.kinds import heights, on_ground
from edgetl_runtime.result import Detections, Places
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.geometry.ground import Sight
    from edgetl_runtime.result import Frame, Output
    from edgetl_runtime.spec import Head


class Placing:
    """Gives boxes their places, for each head that gives boxes. One camera, one thread.

    Speeds, times and the check of the camera need tracked objects. A frame of another aspect ratio than the
    calibration's raises InputError where it is the first; later ones get places that are all NaN.
    """

    def __init__(self, calibration: Calibration, heads: Sequence[Head]) -> None:
        self.calibration = calibration
        ground = Ground(calibration)
        self._heads = {h.name: HeadPlacing(ground, h.labels) for h in heads if isinstance(h, DetectHead)}
        self._first = True

    def update(self, outputs: Mapping[str, Output], frame: Frame) -> dict[str, Output]:
        """The outputs of one frame, boxes with their places. The frame's time is that of tracking, see Tracking."""
        size_hw = (frame.image.shape[0], frame.image.shape[1])
        if self._first:
            check_size(self.calibration, size_hw)
            self._first = False
        t_ns = frame.t_capture_ns if frame.media_time_s is None else round(frame.media_time_s * 1e9)
        fit = fits(self.calibration, size_hw)
        placed = dict(outputs)
        for name, output in outputs.items():
            if isinstance(output, Detections):
                places = self._heads[name].places(output, size_hw, t_ns=t_ns) if fit else nowhere(len(output))
                placed[name] = dataclasses.replace(output, places=places)
        return placed

    def moved(self) -> str:
        """By how much the camera has moved, for people; "" where it has not, as far as is known."""
        for head in self._heads.values():
            tilt = head.horizon.tilt
            if head.horizon.moved and tilt is not None:
                way = "down" if tilt.pitch_deg > 0 else "up"
                return (
                    f"the camera looks {abs(tilt.pitch_deg):.1f} degrees further {way} than its calibration says "
                    f"(+-{2 * tilt.std_deg:.1f}, from {tilt.tracks} objects): distances are wrong, calibrate it again"
                )
        return ""


class HeadPlacing:
    """What is remembered of one head's objects."""

    def __init__(self, ground: Ground, labels: Sequence[str]) -> None:
        mounting = ground.mounting
        self.ground = ground
        self._stands = on_ground(labels, mounting.off_ground)
        self._all_stand = bool(self._stands.all())
        self.approach = Approach()
        self.horizon = Horizon(heights(labels, mounting.heights_m), ground.height_m)

    def places(self, found: Detections, size_hw: tuple[int, int], *, t_ns: int) -> Places:
        """Places of the boxes of one frame."""
        if not len(found) and found.track_ids is None:
            return nowhere(0)
        sight = self.ground.sight(found.boxes_xyxy, size_hw)
        good = touches_ground(found.boxes_xyxy, size_hw)
        if not self._all_stand:
            good &= self._stands[found.classes]
        places = _places(sight, good)
        if found.track_ids is None:
            return places
        speeds, times = self.approach.update(found.track_ids, sight, good, t_ns=t_ns)
        places.closing_speeds_mps[:], places.times_to_collision_s[:] = speeds, times
        tall = found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1] >= self.horizon.settings.least_px
        self.horizon.update(found.track_ids, found.classes, sight, good & tall, t_ns=t_ns)
        return places


def nowhere(count: int) -> Places:
    """Places of which nothing is known."""
    nan = np.float32(np.nan)
    return Places(
        np.full((count, 2), nan), np.full((count, 2, 2), nan), np.full(count, nan), np.full(count, nan)
    )


def _places(sight: Sight, good: NDArray[np.bool_]) -> Places:
    """What is seen as it is handed out, NaN where no ground is."""
    places = nowhere(len(good))
    at, spread = places.positions_m, places.covariances_m2
    at[:, 0], at[:, 1] = sight.x_m, sight.y_m
    spread[:, 0, 0], spread[:, 1, 1] = sight.var_xx, sight.var_yy
    spread[:, 0, 1] = spread[:, 1, 0] = sight.var_xy
    if not good.all():
        at[~good], spread[~good] = np.nan, np.nan
    return places
