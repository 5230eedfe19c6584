"""When a camera's next frame is due, so that nobody waits for one that will not come in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl_runtime.result import Frame

_SHARE = 0.1  # of each new interval in the average
_LONGEST_NS = 10_000_000_000


class Rhythm:
    """The interval between a camera's frames, from their stamps and numbers; fps: what it states, 0: unknown."""

    def __init__(self, fps: float) -> None:
        self._interval_ns = 1e9 / fps if fps > 0 else 0.0
        self._id = self._stamp_ns = -1

    def seen(self, frame: Frame) -> None:
        """A frame was taken; frames between it and the one before count as well."""
        frames, ns = frame.frame_id - self._id, frame.t_capture_ns - self._stamp_ns
        if self._id >= 0 and frames > 0 and 0 < ns <= _LONGEST_NS * frames:
            known = self._interval_ns
            self._interval_ns = known + _SHARE * (ns / frames - known) if known else ns / frames
        self._id, self._stamp_ns = frame.frame_id, frame.t_capture_ns

    def due_between(self, now_ns: int, until_ns: int) -> bool:
        """Whether a frame may come until then: it is due, and not overdue by more than half an interval.

        Both on CLOCK. True where nothing is known yet.
        """
        if self._id < 0 or not self._interval_ns:
            return True
        due_ns = self._stamp_ns + self._interval_ns
        return now_ns - self._interval_ns / 2 <= due_ns <= until_ns
