"""All of geometry for one camera's results: places, speeds, and whether the camera has moved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.errors import UnfitBundle
from edgetl_runtime.geometry.approach import Approach
from edgetl_runtime.geometry.calibration import fits
from edgetl_runtime.geometry.edges import EdgeErrors
from edgetl_runtime.geometry.facing import Facing
from edgetl_runtime.geometry.ground import Ground, touches_ground
from edgetl_runtime.geometry.horizon import Horizon
from edgetl_runtime.geometry.kinds import heights, on_ground
from edgetl_runtime.result import Detections, Places
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.geometry.approach import Closing
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.geometry.ground import Sight
    from edgetl_runtime.result import Frame, Output
    from edgetl_runtime.spec import Head


class Placing:
    """Gives boxes their places, for each head that gives boxes. One camera, one thread.

    Speeds, times and the check of the camera need tracked objects. In a frame of another aspect ratio than the
    calibration's places are all NaN; Feed says so. Raises UnfitBundle where no head gives boxes. network_hw: size of
    the network's input, see EdgeErrors.
    """

    def __init__(
        self, calibration: Calibration, heads: Sequence[Head], *, network_hw: tuple[int, int] | None = None
    ) -> None:
        self.calibration = calibration
        ground = Ground(calibration)
        self._heads = {h.name: HeadPlacing(ground, h.labels, network_hw) for h in heads if isinstance(h, DetectHead)}
        if not self._heads:
            raise UnfitBundle(f"no head of this bundle gives boxes to place; there are {[h.name for h in heads]}")

    def update(self, outputs: Mapping[str, Output], frame: Frame) -> dict[str, Output]:
        """The outputs of one frame, boxes with their places. The frame's time is that of tracking, see Tracking."""
        size_hw = (frame.image.shape[0], frame.image.shape[1])
        t_ns = frame.t_capture_ns if frame.media_time_s is None else round(frame.media_time_s * 1e9)
        fit = fits(self.calibration.size_hw, size_hw)
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

    def __init__(self, ground: Ground, labels: Sequence[str], network_hw: tuple[int, int] | None = None) -> None:
        mounting = ground.mounting
        self.ground = ground
        self._edges, self._facing = EdgeErrors(labels, mounting, network_hw), Facing(labels, mounting.yaw_deg)
        self._stands = on_ground(labels, mounting.off_ground)
        self._all_stand = bool(self._stands.all())
        tall = heights(labels, mounting.heights_m)
        self.approach, self.horizon = Approach(tall), Horizon(tall, ground.height_m)

    def places(self, found: Detections, size_hw: tuple[int, int], *, t_ns: int) -> Places:
        """Places of the boxes of one frame."""
        if not len(found) and found.track_ids is None:
            return nowhere(0)
        edge_std = self._edges.stds_px(found.boxes_xyxy, found.scores, found.classes, size_hw)
        sight = self.ground.sight(found.boxes_xyxy, size_hw, edge_std)
        sight, cut = self._facing.faced(self.ground, sight, found.boxes_xyxy, found.classes, size_hw)
        good = touches_ground(found.boxes_xyxy, size_hw)
        if not self._all_stand:
            good &= self._stands[found.classes]
        if found.track_ids is None:
            return _places(sight, good, None)
        closing = self.approach.update(found.track_ids, found.classes, sight, good, t_ns=t_ns)
        tall = found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1] >= self.horizon.settings.least_px
        self.horizon.update(found.track_ids, found.classes, sight, good & tall & ~cut, t_ns=t_ns)
        return _places(sight, good, closing)


def nowhere(count: int) -> Places:
    """Places of which nothing is known."""
    shapes = ((count, 2), (count, 2, 2), *[(count,)] * 4)
    return Places(*(np.full(shape, np.nan, np.float32) for shape in shapes))


def _places(sight: Sight, good: NDArray[np.bool_], closing: Closing | None) -> Places:
    """What is seen as it is handed out, NaN where no ground is."""
    n = len(good)
    at, spread = np.empty((n, 2), np.float32), np.empty((n, 2, 2), np.float32)
    at[:] = sight.places_m.T
    spread[:] = sight.covariances_m2.transpose(2, 0, 1)
    if not good.all():
        at[~good], spread[~good] = np.nan, np.nan
    if closing is None:
        return Places(at, spread, *(np.full(n, np.nan, np.float32) for _ in range(4)))
    told = (closing.speed_mps, closing.time_s, closing.std_mps, closing.time_std_s)
    return Places(at, spread, *(values.astype(np.float32) for values in told))
