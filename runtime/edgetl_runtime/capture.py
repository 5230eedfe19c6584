"""The capture thread: the newest frame of a live source, or every frame of a file."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Literal

from edgetl_runtime.errors import CameraError

if TYPE_CHECKING:
    from types import TracebackType

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.result import Frame

Policy = Literal["newest", "every"]

EVERY_DEPTH = 2
STALL_S = 5.0
_JOIN_S = 12.0  # longer than V4L2's own wait for a frame in OpenCV, 10 s


class Capture:
    """Reads a camera in a thread of its own and hands frames to one consumer.

    newest: one slot; a frame that is not taken in time is replaced and counted in `dropped`, so the consumer
    never lags. every: a queue of two; the reader waits and nothing is dropped. An error of the camera
    reaches the consumer after the frames before it. Use as a context manager; leaving closes the camera.
    """

    def __init__(self, camera: Camera, *, policy: Policy | None = None, stall_s: float = STALL_S) -> None:
        self.camera = camera
        self.policy: Policy = policy or ("newest" if camera.live else "every")
        self.captured = 0
        self.dropped = 0
        self._dropped_before = 0
        self._stall_s = stall_s if camera.live else None
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
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

    def get(self) -> tuple[Frame, int] | None:
        """Wait for a frame; returns it and how many were dropped since the last one, or None at the end.

        Raises what the camera raised, and CameraError where a live camera gives nothing for `stall_s`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._frames or self._ended or self._stopping, self._stall_s):
                raise CameraError(
                    f"{self.camera.camera_id} gave no frame for {self._stall_s:g} s",
                    remedy="check its cable and its power",
                )
            if self._stopping:
                return None
            if self._frames:
                frame, dropped = self._frames.popleft(), self._dropped_before
                self._dropped_before = 0
                self._changed.notify_all()
                return frame, dropped
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        """End the thread, then close the camera. Frames that nobody took are no longer counted as captured."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
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
        with self._changed:
            if self.policy == "every":
                self._changed.wait_for(lambda: len(self._frames) < EVERY_DEPTH or self._stopping)
            elif self._frames:
                self._frames.clear()
                self.dropped += 1
                self._dropped_before += 1
            if self._stopping:
                return
            self._frames.append(frame)
            self.captured += 1
            self._changed.notify_all()
