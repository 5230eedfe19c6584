"""One camera in a rig: its frames, when the next is due, its letterboxes and its counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.capture import Nothing
from edgetl_runtime.errors import CameraError
from edgetl_runtime.feed import Feed
from edgetl_runtime.rig.rhythm import Rhythm
from edgetl_runtime.rig.round import Absent

if TYPE_CHECKING:
    import threading

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.capture import Taken
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.health import Health
    from edgetl_runtime.repair import Patience
    from edgetl_runtime.rig.sharing import Letterboxes


class Seat:
    """A camera whose frames become rounds: captured = processed + dropped + failed.

    processed: frames that at least one bundle gave a result for. failed: those that could not be decoded, or that no
    bundle gave a result for. ended: there will be no further frame; lost: the error that ended it.
    """

    def __init__(
        self,
        name: str,
        camera: Camera,
        health: Health,
        patience: Patience,
        letterboxes: Letterboxes,
        changed: threading.Condition,
        calibration: Calibration | None = None,
    ) -> None:
        self.name, self.letterboxes = name, letterboxes
        self.feed = Feed(camera, health, patience, name=name, changed=changed, calibration=calibration)
        self.processed = 0
        self.ended = False
        self.lost: CameraError | None = None
        self._unused = self._failed = 0
        self._rhythm = Rhythm(camera.fps)

    @property
    def dropped(self) -> int:
        """Frames that newer ones replaced, that must not be used, or that the loop's end left unused."""
        return self.feed.capture.dropped + self._unused

    @property
    def failed(self) -> int:
        """Frames that gave nothing."""
        return self.feed.camera.failed + self._failed

    def ready(self) -> bool:
        """Whether a frame is there, or the end."""
        return not self.ended and self.feed.capture.ready

    def awaited(self, until_s: float) -> bool:
        """Whether waiting until then (time.monotonic) may bring a frame. A file always gives its next one."""
        if self.ended or self.feed.capture.ready:
            return False
        health = self.feed.health
        if health.holds("stalled") or health.gone() is not None:
            return False
        return not self.feed.live or self._rhythm.due_between(time.monotonic_ns(), int(until_s * 1e9))

    def take(self) -> Taken | None:
        """The newest frame, if there is one; until it is `used` it counts as dropped.

        The error that ends a live camera is kept in `lost`, that of a file is raised.
        """
        try:
            taken = self.feed.capture.get(0)
        except Nothing:
            return None
        except CameraError as error:
            if not self.feed.live:
                raise
            self.lost, self.ended = error, True
            self.feed.health.set("disconnected", error.message)  # for good
            return None
        if taken is None:
            self.ended = True
            return None
        self._unused += 1
        self.feed.heard()
        self._rhythm.seen(taken.frame)
        return taken

    def used(self, *, results: bool) -> None:
        """The frame that was taken gave results, or nothing but failures."""
        self._unused -= 1
        self.processed += results
        self._failed += not results

    def absent(self) -> Absent:
        """Why there is no frame now."""
        state = self.feed.health.state
        if self.lost is not None:
            return Absent("fault", f"lost: {self.lost.message}")
        if self.ended:
            return Absent(state, "ended")
        conditions = self.feed.health.status().conditions
        told = "; ".join(f"{name}: {detail}" for name, detail in conditions.items())
        return Absent(state, told or "no new frame yet")
