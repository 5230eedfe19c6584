"""The sink that sends objects and state on a CAN bus, at a fixed pace of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from edgetl_runtime.can.cycle import Cycles
from edgetl_runtime.can.dbc import FIRST_ID, MAX_SLOTS, is_extended
from edgetl_runtime.can.lane import CanLane
from edgetl_runtime.can.link import Link
from edgetl_runtime.errors import InputError
from edgetl_runtime.result import Detections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.can.link import Bus
    from edgetl_runtime.health import Event, Health
    from edgetl_runtime.result import Frame, Result

CYCLE_MS = 50.0
MAX_AGE_MS = 500.0
_LEAST_CYCLE_MS, _MOST_CYCLE_MS = 5.0, 1000.0
_END_S = 2.0


def check_cycle(cycle_ms: float) -> None:
    """Raise InputError for a cycle that is too short or too long."""
    if not _LEAST_CYCLE_MS <= cycle_ms <= _MOST_CYCLE_MS:
        raise InputError(f"a CAN cycle is from {_LEAST_CYCLE_MS:g} to {_MOST_CYCLE_MS:g} ms, found {cycle_ms:g}")


class CanSender:
    """Sends the state and up to `slots` objects in every cycle, in a thread of its own, also where no results come.

    The loop's thread only leaves references to the newest results here, with `show`. lanes: whose objects are sent, see
    `Cycles`. open_bus: gives a python-can bus, see `edgetl_runtime.can.link`. max_age_ms: how long after capture
    objects are sent as valid, unless their deadline comes first. say: is told in one line what a person should know,
    from another thread. clock_ns: CLOCK. paced: whether a thread sends; without it `step` does.

    Raises InputError for a cycle, identifiers or a number of slots that can't be, MissingPackage, and what `open_bus`
    raises the first time.
    """

    stop = False

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        lanes: Sequence[CanLane],
        *,
        bundle_sha256: str,
        cycle_ms: float = CYCLE_MS,
        base_id: int = FIRST_ID,
        slots: int = MAX_SLOTS,
        max_age_ms: float = MAX_AGE_MS,
        say: Callable[[str], None] = lambda text: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        paced: bool = True,
    ) -> None:
        check_cycle(cycle_ms)
        if not max_age_ms > 0:
            raise InputError(f"objects must be valid for more than 0 ms, found {max_age_ms:g}")
        self._cycles = Cycles(lanes, bundle_sha256=bundle_sha256, base_id=base_id, slots=slots, max_age_ms=max_age_ms)
        self._lanes = tuple(lanes)
        self._say, self._clock_ns = say, clock_ns
        self._extended = is_extended(base_id)
        self._cycle_ns = round(cycle_ms * 1e6)
        self._newest: tuple[Result | None, ...] = (None,) * len(self._lanes)
        self._told = False
        self._closing = threading.Event()
        self._link = Link(open_bus, say=say, clock_ns=clock_ns)
        self._thread = threading.Thread(target=self._work, name="can sender", daemon=True) if paced else None
        if self._thread is not None:
            self._thread.start()

    @property
    def sent(self) -> int:
        """Cycles that went out whole."""
        return self._link.sent

    @property
    def failed(self) -> int:
        """Cycles that did not."""
        return self._link.failed

    @property
    def notes(self) -> list[str]:
        """What is not as it was asked for."""
        if not self.failed:
            return []
        return [f"CAN: {self.failed} of {self.sent + self.failed} cycles were not sent: {self._link.problem}"]

    def show(self, newest: Sequence[Result | None]) -> None:
        """Send these results' objects from the next cycle on, all of them at once. newest: of each lane."""
        self._newest = tuple(newest)

    def step(self) -> bool:
        """Send one cycle now; whether all of it went out."""
        now_ns = self._clock_ns()
        newest = self._newest
        if not self._told:
            self._tell_places(newest)
        return self._send(newest, now_ns)

    def _send(self, newest: Sequence[Result | None], now_ns: int, *, ended: bool = False) -> bool:
        frames = self._cycles.frames(newest, now_ns, ended=ended)
        return self._link.send(frames, now_ns + self._cycle_ns // 2, extended=self._extended)

    def _tell_places(self, newest: Sequence[Result | None]) -> None:
        for lane, result in zip(self._lanes, newest, strict=True):
            output = None if result is None else result.outputs.get(lane.head)
            self._told = self._told or result is not None
            if isinstance(output, Detections) and output.places is None:
                self._say(
                    "no calibrated camera: distances, offsets and speeds are sent as not available, "
                    "objects in the order of their boxes' lower edges"
                )
                return

    def _work(self) -> None:
        next_ns, told = time.monotonic_ns(), ""
        while True:
            try:
                self.step()
                told = ""
            except Exception as error:  # the status of the next cycle must come; without it receivers time out
                text = f"no frames in this cycle: {type(error).__name__}: {error}"
                if text != told:  # not in each of the cycles that it lasts
                    self._say(text)
                told = text
            next_ns += self._cycle_ns
            now_ns = time.monotonic_ns()
            next_ns = max(next_ns, now_ns)  # where it was held up, don't catch up
            if self._closing.wait((next_ns - now_ns) / 1e9):
                return

    def close(self) -> None:
        """Send one last cycle that says so, and let go of the bus; twice is fine."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_END_S)
            if self._thread.is_alive():  # a driver that hangs is left to the process's end
                return
        self._send(self._newest, self._clock_ns(), ended=True)
        self._link.close()


class CanSink(CanSender):
    """A Sink: a CanSender of one camera and one bundle.

    head: the name of the head whose boxes are sent. health: the loop's own, asked in every cycle; give the same one to
    `edgetl_runtime.run`. All else as of CanSender.
    """

    needs_picture = False

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        head: str,
        health: Health,
        *,
        bundle_sha256: str,
        cycle_ms: float = CYCLE_MS,
        base_id: int = FIRST_ID,
        slots: int = MAX_SLOTS,
        max_age_ms: float = MAX_AGE_MS,
        say: Callable[[str], None] = lambda text: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        paced: bool = True,
    ) -> None:
        super().__init__(
            open_bus,
            [CanLane(head, lambda: health.state)],
            bundle_sha256=bundle_sha256,
            cycle_ms=cycle_ms,
            base_id=base_id,
            slots=slots,
            max_age_ms=max_age_ms,
            say=say,
            clock_ns=clock_ns,
            paced=paced,
        )

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Send this result's objects from the next cycle on."""
        self.show((result,))

    def event(self, event: Event) -> None:
        """The state is read from `health` in every cycle."""
