"""The capture thread: the newest frame of a live source, or every frame of a file."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgetl_runtime.cameras import interrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.result import Frame

Policy = Literal["newest", "every"]

EVERY_DEPTH = 2
_JOIN_S = 12.0  # longer than V4L2's own wait for a frame in OpenCV, 10 s


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame, and how many were dropped since the one taken before."""

    frame: Frame
    dropped_before: int


class Nothing(Exception):
    """No frame came within the time that the consumer was ready to wait."""


class Capture:
    """Reads a camera in a thread of its own and hands frames to one consumer.

    newest: one slot; a frame that is not taken in time is replaced and counted in `dropped`, so the consumer
    never lags. every: a queue of two; the reader waits and nothing is dropped. It goes on when the consumer says
    `read_on`, or asks for the next frame. An error of the camera reaches the consumer after the frames before it.
    lost: gaps in the frames' ids, which the camera itself lost. Use as a context manager; leaving closes the camera.

    inspect: sees every frame in the reader's thread, with the time on CLOCK when it was there, and gives it back as it
    is to be used, or None where it must not be: then it counts as dropped, and never replaces another.
    changed: notified when a frame is there or the end is, for whoever waits for several captures with one condition.
    """

    def __init__(
        self,
        camera: Camera,
        *,
        policy: Policy | None = None,
        inspect: Callable[[Frame, int], Frame | None] | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        self.camera = camera
        self._inspect = inspect
        self.policy: Policy = policy or ("newest" if camera.live else "every")
        self.captured = 0
        self.dropped = 0
        self.lost = 0
        self._dropped_before = 0
        self._last_id: int | None = None
        self._frames: deque[Frame] = deque()
        self._changed = changed or threading.Condition()
        self._may_read_on = False
        self._stopping = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"capture {camera.camera_id}", daemon=True)

    def __enter__(self) -> Capture:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether `get` would give a frame, the end or an error at once."""
        return bool(self._frames) or self._ended or self._stopping

    def get(self, timeout_s: float | None = None) -> Taken | None:
        """Wait for a frame; None at the end. Raises what the camera raised, and Nothing after timeout_s."""
        self.read_on()
        with self._changed:
            if not self._changed.wait_for(lambda: self.ready, timeout_s):
                raise Nothing
            if self._stopping:
                return None
            if self._frames:
                taken = Taken(self._frames.popleft(), self._dropped_before)
                self._dropped_before = 0
                self._may_read_on = self.policy == "every"
                return taken
            if self._error is not None:
                raise self._error
            return None

    def read_on(self) -> None:
        """Let the reader of a file go on, if it waits for the room of the frame that was taken.

        Woken by `get`, it would decode the next frame on the core of the consumer, which has yet to read this one. The
        reader of a live source waits for nobody.
        """
        if self._may_read_on:
            with self._changed:
                self._may_read_on = False
                self._changed.notify_all()

    def stop(self) -> None:
        """End the thread, then close the camera. Frames that nobody took are no longer counted as captured."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        interrupt(self.camera)
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        with self._changed:
            self.captured -= len(self._frames)
            self._frames.clear()
        if not self._thread.is_alive():  # a device that is stuck in its driver is left to the process's end
            self.camera.close()

    def _work(self) -> None:
        try:
            while not self._stopping:
                frame = self.camera.read()
                if frame is None:
                    break
                self._offer(frame)
                del frame  # its buffer is free again as soon as the consumer lets go
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _offer(self, frame: Frame) -> None:
        used = self._inspect(frame, time.monotonic_ns()) if self._inspect else frame
        with self._changed:
            if self._last_id is not None:
                self.lost += max(frame.frame_id - self._last_id - 1, 0)
            self._last_id = frame.frame_id
            if self.policy == "every":
                self._changed.wait_for(lambda: len(self._frames) < EVERY_DEPTH or self._stopping)
            elif self._frames and used is not None:
                self._frames.clear()
                self._drop()
            if self._stopping:
                return
            self.captured += 1
            if used is None:
                self._drop()
                return
            self._frames.append(used)
            self._changed.notify_all()

    def _drop(self) -> None:
        self.dropped += 1
        self._dropped_before += 1
