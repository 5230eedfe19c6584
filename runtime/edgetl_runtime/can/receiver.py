"""The other end of the bus: checks every frame, puts cycles together, and says what is missing."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from edgetl_runtime.can.cycle import CURRENT, STATES, VALID, CanState
from edgetl_runtime.can.dbc import FIRST_ID, MAX_SLOTS, STATUS, check_base, codec, frame_names, kind_name, place_name
from edgetl_runtime.can.e2e import COUNTS, data_id_of, is_whole
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgetl_runtime.can.dbc import Value

MOST_CYCLES_LOST = 2
"""In a row. A counter that moved on further is not trusted until nothing was accepted for the whole timeout."""

Fault = Literal["corrupt", "repeated", "disordered", "lost"]
"""Of frames. corrupt: the check sum is wrong, or the frame came under another identifier. repeated: it was there
before. disordered: of a cycle before the newest one, or too far from it. lost: it never came."""


@dataclass(frozen=True, slots=True)
class CanObject:
    """One object of one cycle. None where the sender does not know.

    kind: index into the bundle's labels; label: its name where the receiver knows them. confidence: 0 to 1. x_m ahead,
    y_m to the left in base_link, age_ms ago. deviation_m: standard deviation of the less certain of both.
    """

    index: int
    kind: int | None
    label: str | None
    confidence: float | None
    track_id: int | None
    x_m: float | None
    y_m: float | None
    closing_speed_mps: float | None
    deviation_m: float | None
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class CanView:
    """What one cycle says.

    state: the sender's, or "lost": no status came in this cycle, or nothing in time. objects: those that are valid and
    whole; none where the state is neither ok nor degraded. missing: names of frames that did not come whole.
    result_age_ms: of the newest result when the cycle was sent. left_out: objects seen and not sent. placed: whether
    positions come from a calibrated camera. t_ns: when it was received, on the receiver's clock.
    """

    state: CanState | Literal["lost"]
    objects: tuple[CanObject, ...] = ()
    missing: tuple[str, ...] = ()
    counter: int | None = None
    result_age_ms: int | None = None
    bundle_hash: int | None = None
    left_out: int = 0
    placed: bool = False
    t_ns: int = 0

    @property
    def current(self) -> bool:
        """Whether objects may be acted on; that none is listed then means that none was seen, unless it is missing."""
        return self.state in CURRENT


class Message(Protocol):
    """What is used of python-can's Message."""

    arbitration_id: int
    data: bytearray
    is_error_frame: bool
    is_remote_frame: bool


class CanReceiver:
    """Call it with every message of the bus, as python-can's Notifier does, and ask `view` when something is decided.

    base_id, slots, cycle_ms: the sender's. timeout_ms: nothing is current that was received longer ago; three cycles
    where None. labels: the bundle's. Not locked: one thread calls it. Raises InputError for identifiers and a timeout
    that can't be, MissingPackage without cantools.

    What a counter of 15 values can't tell: a whole cycle that was held back for exactly 15 cycles. And delay of all
    frames alike shows only in what waits for them: ages are the sender's.
    """

    def __init__(
        self,
        *,
        base_id: int = FIRST_ID,
        slots: int = MAX_SLOTS,
        cycle_ms: float = 50.0,
        timeout_ms: float | None = None,
        labels: Sequence[str] = (),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        check_base(base_id, slots)
        timeout_ms = 3 * cycle_ms if timeout_ms is None else timeout_ms
        if not cycle_ms < timeout_ms <= 10 * cycle_ms:
            raise InputError(f"the timeout must be from 1 to 10 cycles of {cycle_ms:g} ms, found {timeout_ms:g} ms")
        self.faults: Counter[Fault] = Counter()
        self._codec, self._labels, self._clock_ns = codec(), tuple(labels), clock_ns
        self._names = frame_names(slots)
        self._by_id = {base_id + i: name for i, name in enumerate(self._names)}
        self._slots, self._timeout_ns = slots, round(timeout_ms * 1e6)
        self._counter: int | None = None
        self._frames: dict[str, dict[str, Value]] = {}
        self._accepted_ns = 0
        self._view: CanView | None = None

    def __call__(self, message: Message) -> None:
        """Take a message of the bus, whatever it is."""
        if not (message.is_error_frame or message.is_remote_frame):
            self.receive(message.arbitration_id, message.data)

    def view(self) -> CanView:
        """The newest that is known now; "lost" where that is too old."""
        now_ns = self._clock_ns()
        if self._view is None or now_ns - self._view.t_ns > self._timeout_ns:
            return CanView("lost", missing=self._names, t_ns=now_ns)
        return self._view

    def receive(self, can_id: int, data: bytes | bytearray) -> CanView | None:
        """Take one frame. The view where this frame made a new one: it was the last of its cycle, the first of the
        next while something was missing, or a status that ends trust at once."""
        name = self._by_id.get(can_id)
        if name is None:
            return None
        if not is_whole(data, data_id_of(can_id)):
            self.faults["corrupt"] += 1
            return None
        now_ns, counter = self._clock_ns(), data[1] & 0x0F
        if now_ns - self._accepted_ns > self._timeout_ns:
            self._counter, self._frames = None, {}
        made = None
        if counter != self._counter:
            if not self._moves_on(counter):
                self.faults["disordered"] += 1
                return None
            made = self._closed()
            self._counter, self._frames = counter, {}
        elif name in self._frames:
            self.faults["repeated"] += 1
            return None
        self._accepted_ns = now_ns
        self._frames[name] = self._codec.decode(name, data)
        if len(self._frames) == len(self._names):
            made = self._made(now_ns)
        elif name == STATUS and self._state() not in CURRENT:
            made = dataclasses.replace(self._made(now_ns), missing=())  # the rest may still come
        self._view = made or self._view
        return made

    def _moves_on(self, counter: int) -> bool:
        """Whether the counter is of a cycle that may follow the newest one; counts what was lost between them."""
        if self._counter is None:
            return True
        lost = (counter - self._counter) % COUNTS - 1
        if lost > MOST_CYCLES_LOST:
            return False
        if missing := (lost + 1) * len(self._names) - len(self._frames):
            self.faults["lost"] += missing
        return True

    def _closed(self) -> CanView | None:
        """The view of a cycle that stays incomplete, as old as the last of its frames."""
        return self._made(self._accepted_ns) if 0 < len(self._frames) < len(self._names) else None

    def _state(self) -> CanState | Literal["lost"]:
        number = self._frames.get(STATUS, {}).get("State")
        return "lost" if number is None else STATES[int(number)]

    def _made(self, now_ns: int) -> CanView:
        status, state = self._frames.get(STATUS, {}), self._state()
        return CanView(
            state,
            objects=tuple(o for o in map(self._object, range(self._slots)) if o) if state in CURRENT else (),
            missing=tuple(name for name in self._names if name not in self._frames),
            counter=self._counter,
            result_age_ms=_whole(status.get("ResultAge")),
            bundle_hash=_whole(status.get("BundleHash")),
            left_out=_whole(status.get("LeftOut")) or 0,
            placed=bool(status.get("Placed")),
            t_ns=now_ns,
        )

    def _object(self, slot: int) -> CanObject | None:
        place, kind = self._frames.get(place_name(slot)), self._frames.get(kind_name(slot))
        if place is None or kind is None or not place["Validity"] == kind["Validity"] == VALID:
            return None
        number, confidence = _whole(kind["Class"]), kind["Confidence"]
        return CanObject(
            index=slot,
            kind=number,
            label=self._labels[number] if number is not None and number < len(self._labels) else None,
            confidence=None if confidence is None else confidence / 100,
            track_id=_whole(kind["TrackId"]),
            x_m=place["DistanceX"],
            y_m=place["LateralY"],
            closing_speed_mps=place["ClosingSpeed"],
            deviation_m=place["Deviation"],
            age_ms=_whole(kind["Age"]),
        )


def _whole(value: Value) -> int | None:
    return None if value is None else int(value)
