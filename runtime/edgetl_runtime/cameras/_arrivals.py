"""When the frames of a network stream came, as against when FFmpeg hands them over."""

from __future__ import annotations

import time

CATCH_UP_S = 0.5
"""After opening, frames that FFmpeg had taken in meanwhile are passed over for so long at the most."""

_STEADY_S = 0.005


class CatchUp:
    """Tells the frames that were waiting when a stream was opened from those that come as they are taken.

    FFmpeg reads a stream's beginning to learn what it is, and hands that out afterwards as fast as it is asked; stamped
    then, old frames would look new. They must be decoded all the same: the ones that follow build on them. The first
    frame always counts as old, further ones while they come in less than half of the time that lay between them.
    """

    def __init__(self, opened_s: float) -> None:
        self._until_s = opened_s + CATCH_UP_S
        self._last: tuple[float, float] | None = None
        self._done = False

    def is_old(self, now_s: float, position_ms: float) -> bool:
        """Whether the frame that was grabbed now, at this position of the stream, had been waiting."""
        if self._done:
            return False
        last, self._last = self._last, (now_s, position_ms)
        if last is not None:
            apart_s = (position_ms - last[1]) / 1e3
            least_s = apart_s / 2 if 0 < apart_s < 1 else _STEADY_S  # some streams state no usable times
            self._done = now_s - last[0] >= least_s
        self._done = self._done or now_s > self._until_s
        return not self._done


class Arrivals:
    """When the frames of a stream came, as well as that can be known from when FFmpeg handed them over.

    To be made when the stream was just opened. held_back: each frame is handed over when the next one begins.
    """

    def __init__(self, *, held_back: bool) -> None:
        self._catch_up = CatchUp(time.monotonic())
        self._held_back = held_back
        self._before_ns: int | None = None

    def came_ns(self, now_ns: int, position_ms: float) -> int | None:
        """When the frame that was handed over now came; None where that can't be known, see CatchUp.

        One that was held back until the next one began had come when the one before was handed over.
        """
        if self._catch_up.is_old(now_ns / 1e9, position_ms):
            return None
        before_ns, self._before_ns = self._before_ns, now_ns
        return before_ns if self._held_back else now_ns
