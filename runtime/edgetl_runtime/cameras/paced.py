"""A file played at its own rate, as if it were a live camera."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.result import Frame


class PacedCamera:
    """Gives each frame of another source when it is due, and stamps it then.

    A frame counts as captured at the moment that a live camera would have delivered it. Where the source
    itself is too slow the schedule moves back, so that no burst follows.
    """

    live = True

    def __init__(self, source: Camera) -> None:
        self._source = source
        self.camera_id, self.fps = source.camera_id, source.fps
        self.notes = source.notes
        self._closed = threading.Event()
        self._start_s: float | None = None

    @property
    def failed(self) -> int:
        """Frames that could not be decoded."""
        return self._source.failed

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._source.size_hw

    @property
    def frame_count(self) -> int | None:
        """How many frames the file states."""
        return self._source.frame_count

    def read(self) -> Frame | None:
        """The next frame, when it is due."""
        frame = self._source.read()
        if frame is None:
            return None
        now = time.monotonic()
        offset_s = frame.frame_id / self.fps
        if self._start_s is None or self._start_s + offset_s < now:
            self._start_s = now - offset_s
        self._closed.wait(self._start_s + offset_s - now)
        return dataclasses.replace(frame, t_capture_ns=time.monotonic_ns())

    def interrupt(self) -> None:
        """A `read` that waits for its frame's time gives it at once; any thread may call this."""
        self._closed.set()

    def close(self) -> None:
        """Close the file."""
        self._closed.set()
        self._source.close()
