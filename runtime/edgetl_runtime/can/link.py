"""A bus that may be full, down or gone: sending never raises and never waits long."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from edgetl_runtime.imports import need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgetl_runtime.can.cycle import CanFrame

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""Before a bus that failed is opened again; doubled each time up to the longest."""
FAILED_CYCLES = 3
"""So many in a row and the bus is opened again."""
_PAUSE_S = 0.001
_GONE = frozenset({errno.ENETDOWN, errno.ENODEV, errno.ENXIO, errno.EBADF})


class Bus(Protocol):
    """What is used of python-can's BusABC."""

    def send(self, msg: Any, timeout: float | None = None) -> None:
        """Send one message, or raise."""

    def shutdown(self) -> None:
        """Let go of the bus."""


class Link:
    """Sends cycles on a bus that `open_bus` opens, and opens it again when it fails.

    One thread sends. sent, failed: cycles that went out whole, and those that did not. say: is told in one line when
    the bus fails and when it works again. clock_ns and sleep are time's own. Opening the first time may raise, whatever
    `open_bus` raises.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        *,
        say: Callable[[str], None] = lambda text: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._message = need("can", extra="vehicle").Message
        self._open, self._say, self._clock_ns, self._sleep = open_bus, say, clock_ns, sleep
        self.sent = self.failed = 0
        self.problem = ""
        """The last one, in words."""
        self._row, self._troubled = 0, False
        self._wait_s, self._retry_ns = FIRST_WAIT_S, 0
        self._bus: Bus | None = open_bus()

    def send(self, frames: Sequence[CanFrame], until_ns: int, *, extended: bool = False) -> bool:
        """Whether all frames went out; what a full buffer does not take is tried again until `until_ns`."""
        try:
            bus = self._ready()
            if bus is not None:
                for frame in frames:
                    message = self._message(arbitration_id=frame.can_id, data=frame.data, is_extended_id=extended)
                    self._put(bus, message, until_ns)
                self._worked()
                return True
        except Exception as error:  # drivers raise all kinds; the loop is worth more than its bus
            self._fail(error)
        self.failed += 1
        return False

    def _ready(self) -> Bus | None:
        """The bus; None while it is too early to open it again."""
        if self._bus is None and self._clock_ns() >= self._retry_ns:
            self._bus = self._open()
        return self._bus

    def _put(self, bus: Bus, message: object, until_ns: int) -> None:
        while True:
            try:
                bus.send(message, timeout=0)
                return
            except Exception as error:
                if _code(error) in _GONE or self._clock_ns() >= until_ns:
                    raise
            self._sleep(_PAUSE_S)

    def _worked(self) -> None:
        self.sent += 1
        self._row, self._wait_s = 0, FIRST_WAIT_S
        if self._troubled:
            self._troubled = False
            self._tell(f"the bus takes frames again, {self.failed} cycles were not sent")

    def _fail(self, error: Exception) -> None:
        self._row += 1
        self.problem = str(error) or type(error).__name__
        if not self._troubled:
            self._troubled = True
            self._tell(f"the bus takes no frames, trying on: {self.problem}")
        if self._bus is None or _code(error) in _GONE or self._row >= FAILED_CYCLES:
            self.close()
            self._row = 0
            self._retry_ns = self._clock_ns() + round(self._wait_s * 1e9)
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def _tell(self, text: str) -> None:
        with suppress(OSError, ValueError):  # nobody listens any more
            self._say(text)

    def close(self) -> None:
        """Let go of the bus; twice is fine."""
        bus, self._bus = self._bus, None
        if bus is not None:
            with suppress(Exception):  # it may be gone already
                bus.shutdown()


def _code(error: Exception) -> int | None:
    code = getattr(error, "error_code", None)
    return code if isinstance(code, int) else getattr(error, "errno", None)
