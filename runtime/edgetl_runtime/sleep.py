"""Suspend to RAM: CLOCK stands still meanwhile, and a picture from before it looks as fresh as it was then."""

from __future__ import annotations

import time

LEAST_NS = 100_000_000
"""What counts as sleep; two clocks that are read one after the other are apart by less."""

_TOGETHER_NS, _TRIES = 5_000_000, 5


class Sleep:
    """Knows whether the machine slept after a picture was taken. One thread only; costs a microsecond a picture."""

    def __init__(self) -> None:
        self._slept_ns = slept_ns()
        self._woke_ns, self._lasted_ns = -1, 0

    def since(self, t_capture_ns: int, now_ns: int) -> int:
        """For how many ns more than CLOCK says; both times are on it.

        A picture that came before the sleep was noticed may be of before it, and counts as that.
        """
        slept = slept_ns()
        if slept is not None and self._slept_ns is not None and slept - self._slept_ns > LEAST_NS:
            self._woke_ns, self._lasted_ns = now_ns, slept - self._slept_ns
        self._slept_ns = self._slept_ns if slept is None else slept
        return self._lasted_ns if t_capture_ns <= self._woke_ns else 0


def slept_ns() -> int | None:
    """How long this machine has slept since it was started: CLOCK_BOOTTIME goes on where CLOCK_MONOTONIC stands still.

    None where no such clock is, or the two can't be read at nearly the same time. Source: clock_gettime(2) of Linux.
    """
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return None
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        whole = time.clock_gettime_ns(clock)
        after = time.monotonic_ns()
        if after - before < _TOGETHER_NS:
            return whole - after
    return None
