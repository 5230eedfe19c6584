"""From CLOCK_MONOTONIC, on which frames are stamped, to the system clock, which ROS 2 stamps are of, and back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgetl_runtime.once import once

AGAIN_NS = 1_000_000_000
STEP_NS = 1_000_000
"""Measurements that differ by less than this say the same."""
_TRIES = 5

Clock = Callable[[], int]


@once
def process_clock() -> EpochClock:
    """The one of this process: a stamp that a camera converted comes out of the sink to the nanosecond."""
    return EpochClock()


class EpochClock:
    """The distance between both clocks, measured when this is made and again once a second while it is asked.

    A measurement reads the monotonic clock before and after the system clock, five times, and takes the closest pair:
    it is right within half of that pair's distance, some microseconds where the machine is not overloaded. Both clocks
    are slewed alike (by NTP), so the distance is a constant until somebody steps the system clock. A measurement that
    may lie within STEP_NS of the one in use is therefore noise and changes nothing: stamps rise exactly as the
    monotonic clock does. One that is further away is a step, which is followed at once, back too, as the stamps of
    every other ROS node are; `steps` counts them.

    Any thread may ask. monotonic, system: nanoseconds, for tests.
    """

    def __init__(self, *, monotonic: Clock = time.monotonic_ns, system: Clock = time.time_ns) -> None:
        self._monotonic, self._system = monotonic, system
        self._lock = threading.Lock()
        self.steps = 0
        self._offset_ns, _ = self._measured()
        self._next_ns = monotonic() + AGAIN_NS

    def epoch_ns(self, monotonic_ns: int) -> int:
        """The system clock's time, nanoseconds since 1970, at this moment of CLOCK_MONOTONIC."""
        return monotonic_ns + self._offset()

    def monotonic_ns(self, epoch_ns: int) -> int:
        """The moment of CLOCK_MONOTONIC at which the system clock showed this, or will show it."""
        return epoch_ns - self._offset()

    def _offset(self) -> int:
        if self._monotonic() >= self._next_ns and self._lock.acquire(blocking=False):
            try:
                measured, error_ns = self._measured()
                if abs(measured - self._offset_ns) - error_ns >= STEP_NS:
                    self._offset_ns = measured
                    self.steps += 1
                self._next_ns = self._monotonic() + AGAIN_NS
            finally:
                self._lock.release()
        return self._offset_ns

    def _measured(self) -> tuple[int, int]:
        """The distance, and by how much it may be wrong."""
        closest: tuple[int, int] | None = None
        for _ in range(_TRIES):
            before = self._monotonic()
            system = self._system()
            after = self._monotonic()
            found = (after - before, system - (before + after) // 2)
            closest = found if closest is None else min(closest, found)
        assert closest is not None
        return closest[1], closest[0] // 2
