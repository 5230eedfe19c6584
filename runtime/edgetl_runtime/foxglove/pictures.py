"""Frames as JPEG for whoever has subscribed, packed in a thread of its own, at a bounded rate."""

from __future__ import annotations

import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from edgetl_runtime.imports import cv2 as _cv2
from edgetl_runtime.recording.foxglove import jpeg_message

if TYPE_CHECKING:
    from edgetl_runtime.foxglove.topics import Channel
    from edgetl_runtime.result import Frame

PICTURES_PER_S = 15.0
_QUALITY = 80
_END_S = 0.9


class Pictures:
    """Packs a camera's frames and puts them into `channel`, in the thread of this object; closing takes the topic back.

    The loop calls `offer`, which never waits: it hands over a reference, where somebody looks, a picture is due and the
    one before is done. Pictures keep their size, which boxes are drawn in. offset_ns: as of FoxgloveLane.
    """

    def __init__(self, channel: Channel, *, offset_ns: int, per_s: float) -> None:
        self._cv2 = _cv2()
        self._channel, self._offset_ns = channel, offset_ns
        self._interval_s, self._taken_s = 1 / per_s, float("-inf")
        self._offered: SimpleQueue[Frame | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="foxglove pictures", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame) -> None:
        """Take the newest frame where somebody looks."""
        now_s = time.monotonic()
        due = now_s - self._taken_s >= self._interval_s
        if due and not self._closed and self._offered.empty() and self._channel.has_sinks():
            self._taken_s = now_s
            self._offered.put(frame)

    def close(self) -> None:
        """End the thread; twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._offered.put(None)
        self._thread.join(_END_S)
        self._channel.close()

    def _work(self) -> None:
        while (frame := self._offered.get()) is not None:
            try:
                _, data = self._cv2.imencode(".jpg", frame.image, [self._cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                self._deliver(frame, bytes(data))
            except Exception as error:  # a picture that fails must not end those that follow, nor pass unseen
                sys.stderr.write(f"edgetl foxglove: no picture: {type(error).__name__}: {error}\n")
            finally:
                del frame  # the buffer goes back to the camera's pool

    def _deliver(self, frame: Frame, jpeg: bytes) -> None:
        captured, now = (max(t + self._offset_ns, 0) for t in (frame.t_capture_ns, time.monotonic_ns()))
        self._channel.log(jpeg_message(jpeg, captured, f"{frame.camera_id}_optical_frame"), log_time=now)
