"""One camera in use: its capture thread, the checks of its frames, and how long it has been silent."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from edgetl_runtime.capture import Capture
from edgetl_runtime.errors import CameraError
from edgetl_runtime.geometry.calibration import check_size
from edgetl_runtime.watch import FrameWatch

if TYPE_CHECKING:
    import threading

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.health import Health
    from edgetl_runtime.repair import Patience
    from edgetl_runtime.result import Frame


class Feed:
    """A camera's frames as they may be used; what is wrong with them is a condition of `health`.

    name: what frames carry as camera_id, the camera's own where None. changed: notified at each frame, for whoever
    waits for several cameras at once. calibration: what the frames' places come from, if they have any.

    Frames of a live camera are checked (see FrameWatch). Of a file the first one is, against the calibration:
    `capture.get` raises InputError where it does not fit.
    """

    def __init__(
        self,
        camera: Camera,
        health: Health,
        patience: Patience,
        *,
        name: str | None = None,
        changed: threading.Condition | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.camera, self.health, self.live = camera, health, camera.live
        self.name = camera.camera_id if name is None else name
        health.camera_id = self.name
        self._patience = patience
        self._watch, self._unchecked = None, calibration
        if camera.live:
            self._watch = FrameWatch(health, frozen_s=patience.frozen_s, calibration=calibration)
        inspect = self._seen if self._watch is not None or name is not None or calibration is not None else None
        self.capture = Capture(camera, inspect=inspect, changed=changed)
        self._heard_s = time.monotonic()

    def start(self) -> None:
        """Begin to read; silence counts from here on."""
        self._heard_s = time.monotonic()
        self.capture.start()

    @property
    def captured(self) -> int:
        """Frames that arrived, those that could not be decoded among them."""
        return self.capture.captured + self.camera.failed

    def heard(self) -> None:
        """A frame was taken."""
        self._heard_s = time.monotonic()
        self.health.clear("stalled")

    def silent(self, *, gone_too: bool = False) -> CameraError | None:
        """No frame is there: that is a stall, after a while. What to raise where it has lasted too long.

        A camera that is being opened again has a patience of its own, unless `gone_too`: then it has this one.
        """
        silent_s, patience = time.monotonic() - self._heard_s, self._patience
        if not self.live or silent_s < patience.stall_s:
            return None
        self.health.set("stalled", f"no frame for {silent_s:.1f} s")
        gone = self.health.gone()
        if not patience.give_up_s or silent_s < patience.give_up_s or (gone and not gone_too):
            return None
        why = f": {gone}" if gone else ""
        return CameraError(
            f"{self.name} gave no frame for {patience.give_up_s:g} s{why}",
            remedy="" if ";" in why else "check its cable and its power",
        )

    def _seen(self, frame: Frame, arrived_ns: int) -> Frame | None:
        if frame.camera_id != self.name:
            frame = dataclasses.replace(frame, camera_id=self.name)
        if self._watch is not None:
            return self._watch.look(frame, arrived_ns)
        if self._unchecked is not None:
            check_size(self._unchecked, (frame.image.shape[0], frame.image.shape[1]))
            self._unchecked = None
        return frame
