"""Frames as JPEG for whoever has subscribed, packed in a thread of their own, at a bounded rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.pictures import PictureThread, jpeg
from edgetl_runtime.recording.foxglove import jpeg_message

if TYPE_CHECKING:
    from edgetl_runtime.foxglove.topics import Channel
    from edgetl_runtime.result import Frame

PICTURES_PER_S = 15.0


class Pictures:
    """Packs a camera's frames and puts them into `channel`, in a thread of their own; closing takes the topic back.

    The loop calls `offer`, which never waits. Pictures keep their size, which boxes are drawn in. offset_ns: as of
    FoxgloveLane.
    """

    def __init__(self, channel: Channel, *, offset_ns: int, per_s: float) -> None:
        self._channel, self._offset_ns = channel, offset_ns
        self._closed = False
        self._thread = PictureThread(self._deliver, per_s=per_s, name="foxglove")

    def offer(self, frame: Frame) -> None:
        """Take the newest frame where somebody looks and a picture is due."""
        if not self._closed and self._channel.has_sinks():
            self._thread.offer(frame)

    def close(self) -> None:
        """End the thread; twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._thread.close()
        self._channel.close()

    def _deliver(self, frame: Frame) -> None:
        packed = jpeg(frame.image)
        captured, now = (max(t + self._offset_ns, 0) for t in (frame.t_capture_ns, time.monotonic_ns()))
        self._channel.log(jpeg_message(packed, captured, f"{frame.camera_id}_optical_frame"), log_time=now)
