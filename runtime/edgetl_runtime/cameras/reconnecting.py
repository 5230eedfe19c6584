"""A live camera that is opened again when it fails."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from edgetl_runtime.errors import CameraError, NoSuchKind

if TYPE_CHECKING:
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.health import Condition, Health
    from edgetl_runtime.result import Frame

FIRST_S = 0.1
# One vehicle's tries are no load for a camera, and a longer pause would be blindness after it is back.
MOST_S = 1.5
GIVE_UP_S = 60.0


class ReconnectingCamera:
    """Gives the frames of whatever `open_camera` opens, and opens it again when it fails or ends.

    open_camera is given an event that is set when this camera is closed, so that it may end early; it raises
    CameraError where it fails. The first opening happens here and its error is the caller's, a wrong address is no
    lost connection; with `absent`, which is the camera_id then, it is one,
    unless the camera can't be named so or be asked for this (NoSuchKind): size_hw is (0, 0) and fps 0 until the camera
    is there. Later `read` waits, with pauses drawn from 0 to a limit that doubles from first_s to most_s
    ("full jitter": cameras that were lost together don't come back together), and raises CameraError after give_up_s
    without a frame; 0 never gives up. Any error counts as a failed camera then. It never makes up a frame.

    While the camera is gone `health` is "disconnected", with the reason; "absent" until its first frame where it was
    not there at first, which is no reconnect either: `notes` say after how long it came. Frame ids go on rising: at
    least one number is left out at each reconnect, since what was lost can't be counted. The old camera is closed
    before the next is opened. rng, clock and wait (seconds to whether closed meanwhile) are for tests.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        open_camera: Callable[[threading.Event], Camera],
        *,
        health: Health | None = None,
        give_up_s: float = GIVE_UP_S,
        absent: str | None = None,
        first_s: float = FIRST_S,
        most_s: float = MOST_S,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        if not (0 < first_s <= most_s) or give_up_s < 0:
            raise CameraError(
                f"expected 0 < first_s <= most_s and give_up_s >= 0, found {first_s:g}, {most_s:g} and {give_up_s:g}"
            )
        self._open, self._health = open_camera, health
        self._give_up_s, self._first_s, self._most_s = give_up_s, first_s, most_s
        self._rng, self._clock = rng or random.Random(), clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._lock = threading.Lock()
        self.reconnects = 0
        self._gone_s = 0.0
        self._lost_at: float | None = None
        self._lost_as: Condition = "disconnected"
        self._tries = 0
        self._failed_before = 0
        self._offset, self._last_id = 0, -1
        self._camera: Camera | None = None
        try:
            self._camera = self._open(self._closed)
        except CameraError as error:
            if absent is None or isinstance(error, NoSuchKind):
                raise
            self.camera_id, self.fps, self._size_hw, self.notes = absent, 0.0, (0, 0), list[str]()
            self._lost(str(error), "absent")
        else:
            self.camera_id, self.fps, self._size_hw = self._camera.camera_id, self._camera.fps, self._camera.size_hw
            self.notes = self._camera.notes  # which may grow while it is read

    @property
    def failed(self) -> int:
        """Frames that arrived but could not be decoded, of all connections."""
        with self._lock:  # else it would fall where the camera is let go of at this moment
            return self._failed_before + (self._camera.failed if self._camera is not None else 0)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the camera that was opened last."""
        return self._size_hw

    def read(self) -> Frame | None:
        """The next frame, None once closed. Raises CameraError after give_up_s without one."""
        while not self._closed.is_set():
            camera = self._camera
            try:
                if camera is None:
                    camera = self._reopen()
                    if camera is None:
                        return None
                frame = camera.read()
                reason = f"{self.camera_id} ended"
            except CameraError as error:
                frame, reason = None, str(error)
            except Exception as error:  # whatever a driver or a library raises: it is a camera that failed
                frame, reason = None, f"{self.camera_id} failed ({type(error).__name__}: {error})"
            if self._closed.is_set():
                return None
            if frame is not None:
                return self._numbered(frame)
            self._lost(reason)
        return None

    def _reopen(self) -> Camera | None:
        """Pause, then open; None where it was closed meanwhile."""
        limit_s = min(self._most_s, self._first_s * 2 ** min(self._tries, 30))
        self._tries += 1
        if self._wait(self._rng.uniform(0.0, limit_s)) or self._closed.is_set():
            return None
        camera = self._open(self._closed)
        with self._lock:
            if self._closed.is_set():
                camera.close()
                return None
            self._camera = camera
        self._offset = self._last_id + 2
        self._size_hw = camera.size_hw
        self.fps = self.fps or camera.fps
        for note in camera.notes:
            if note not in self.notes:
                self.notes.append(note)
        return camera

    def _lost(self, reason: str, condition: Condition = "disconnected") -> None:
        """Close what failed and say so. Raises CameraError where it has been gone for too long."""
        now = self._clock()
        if self._lost_at is None:
            self._lost_at, self._lost_as = now, condition
            if self._health is not None:
                self._health.set(condition, reason)
        self._let_go()
        gone_s = now - self._lost_at
        if self._give_up_s and gone_s >= self._give_up_s:
            raise CameraError(
                f"{self.camera_id} has been gone for {gone_s:.0f} s and {self._tries} tries: {reason}",
                remedy="" if ";" in reason else "check its cable and its power",
            )

    def _numbered(self, frame: Frame) -> Frame:
        if self._lost_at is not None:
            self._returned(frame)
        frame_id = frame.frame_id + self._offset
        self._last_id = frame_id
        return dataclasses.replace(frame, frame_id=frame_id) if self._offset else frame

    def _returned(self, frame: Frame) -> None:
        gone_s = self._clock() - (self._lost_at or 0.0)
        self._lost_at, self._tries = None, 0
        self._size_hw = (frame.image.shape[0], frame.image.shape[1])
        if self._lost_as == "absent":
            self.notes.append(f"{self.camera_id}: was not there at the start, came after {gone_s:.1f} s")
        else:
            self.reconnects += 1
            self._gone_s += gone_s
            told = f"{self.camera_id}: reconnected "
            self.notes[:] = [n for n in self.notes if not n.startswith(told)]
            times = "once" if self.reconnects == 1 else f"{self.reconnects} times"
            self.notes.append(f"{told}{times}, {self._gone_s:.1f} s without a frame")
        if self._health is not None:
            self._health.clear(self._lost_as)

    def _let_go(self) -> None:
        with self._lock:
            camera, self._camera = self._camera, None
            if camera is not None:
                self._failed_before += camera.failed
        if camera is not None:
            with suppress(Exception):  # it failed already, and the next one is to be opened
                camera.close()

    def interrupt(self) -> None:
        """End a `read` that waits, also for the next try; any thread may call this."""
        from edgetl_runtime.cameras import interrupt

        self._closed.set()
        with self._lock:
            interrupt(self._camera)

    def close(self) -> None:
        """Close the camera for good; a pause between tries ends at once."""
        self.interrupt()
        self._let_go()
