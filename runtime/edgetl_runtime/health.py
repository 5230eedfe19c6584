"""How far results can be trusted now: the conditions that hold, the state that they add up to, what happened when."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

State = Literal["ok", "degraded", "stale", "fault"]
"""From best to worst. degraded: results are current, but less sure than usual. stale: there are none that are current.
fault: a part does not work."""

Condition = Literal[
    "stalled",
    "absent",
    "disconnected",
    "frozen",
    "dark",
    "duplicate",
    "disordered",
    "clock",
    "resized",
    "engine",
    "not_finite",
    "late",
    "shifted",
    "moved",
    "uncalibrated",
    "ladder",
    "stopped",
]
"""stalled: no frame for too long. absent: the camera was not there at the start and has not come yet. disconnected: it
is gone and being reopened. frozen: frames come, the picture does not change. dark: black, or the lens is covered.
duplicate, disordered: a frame that was there before, or older than the one before. clock: the camera's stamps jumped.
resized: frames changed their size. engine: the engine failed. not_finite: the network gave NaN or infinity. late: older
at publish than the deadline. shifted: another domain than the training's. moved: the camera looks elsewhere than its
calibration says. uncalibrated: frames have another shape than the calibration is for, so that boxes have no places.
ladder: a step of the degradation ladder is in force; stopped: its last one, the safe stop."""

MEANS: Mapping[Condition, State] = {
    "stalled": "stale",
    "absent": "fault",
    "disconnected": "fault",
    "frozen": "stale",
    "dark": "degraded",
    "duplicate": "degraded",
    "disordered": "degraded",
    "clock": "degraded",
    "resized": "degraded",
    "engine": "fault",
    "not_finite": "fault",
    "late": "stale",
    "shifted": "degraded",
    "moved": "degraded",
    "uncalibrated": "fault",
    "ladder": "degraded",
    "stopped": "fault",
}
"""The state that each condition brings about while it holds."""

GONE: tuple[Condition, ...] = ("absent", "disconnected")
"""There is no camera, and it is being opened again."""

HOLD_NS = 1_000_000_000
"""A condition of one moment holds so long, so that nobody who looks once a second misses it."""

_KEPT_EVENTS = 256
_ORDER = get_args(State)


def worst(states: Iterable[State]) -> State:
    """The worst of them; "ok" where there is none."""
    return max(states, key=_ORDER.index, default="ok")


@dataclass(frozen=True, slots=True)
class Event:
    """A condition began or ended. t_ns on CLOCK; state: the whole's after it; detail: one line for people."""

    t_ns: int
    camera_id: str
    condition: Condition
    began: bool
    state: State
    detail: str

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Status:
    """All that holds at one moment. since_ns: when the state became what it is; conditions: each with its detail;
    counts: how often each began since the start."""

    state: State
    since_ns: int
    conditions: dict[Condition, str]
    counts: dict[Condition, int]

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def together(healths: Iterable[tuple[str, Health]]) -> Status:
    """All that holds in any of them, each detail with the name of where it holds ("": none); counts are added up."""
    found: list[Status] = []
    conditions: dict[Condition, str] = {}
    counts: Counter[Condition] = Counter()
    for where, health in healths:
        found.append(status := health.status())
        counts.update(status.counts)
        for condition, detail in status.conditions.items():
            told = f"{where}: {detail}" if where else detail
            conditions[condition] = f"{conditions[condition]}; {told}" if condition in conditions else told
    return Status(
        state=worst(s.state for s in found),
        since_ns=max((s.since_ns for s in found), default=0),
        conditions=conditions,
        counts=dict(counts),
    )


class Health:
    """Conditions of one camera's loop. Any thread may set or read them; memory is bounded.

    camera_id may be set later, before events are read.

    A condition is set while it lasts and cleared when it ends, or `flash`ed where it is of one moment.
    """

    def __init__(self, camera_id: str = "") -> None:
        self.camera_id = camera_id
        self._lock = threading.Lock()
        self._holding: dict[Condition, str] = {}
        self._until_ns: dict[Condition, int] = {}
        self._counts: Counter[Condition] = Counter()
        self._since_ns = time.monotonic_ns()
        self._recent: deque[Event] = deque(maxlen=_KEPT_EVENTS)
        self._undelivered: deque[Event] = deque(maxlen=_KEPT_EVENTS)

    @property
    def state(self) -> State:
        """The worst of what the conditions bring about."""
        with self._lock:
            return self._worst()

    def holds(self, condition: Condition) -> bool:
        """Whether this condition holds now."""
        return condition in self._holding

    def gone(self) -> str | None:
        """Why there is no camera now; None where it is there."""
        holding = self._holding
        return next((detail for c in GONE if (detail := holding.get(c)) is not None), None)

    def set(self, condition: Condition, detail: str) -> None:
        """The condition holds until it is cleared. Setting it again changes nothing but a flash's end."""
        with self._lock:
            self._until_ns.pop(condition, None)
            self._begin(condition, detail)

    def flash(self, condition: Condition, detail: str) -> None:
        """The condition was there for a moment: it is counted each time and holds for HOLD_NS."""
        with self._lock:
            if condition in self._holding:
                self._counts[condition] += 1
                if condition not in self._until_ns:
                    return
            self._until_ns[condition] = time.monotonic_ns() + HOLD_NS
            self._begin(condition, detail)

    def clear(self, condition: Condition) -> None:
        """The condition ended; fine where it did not hold."""
        if condition not in self._holding:  # asked for every frame: no lock for the usual case
            return
        with self._lock:
            self._until_ns.pop(condition, None)
            self._end(condition)

    def tick(self) -> list[Event]:
        """Let flashes end, and hand out events that were not handed out before, oldest first."""
        if not self._until_ns and not self._undelivered:
            return []
        with self._lock:
            now_ns = time.monotonic_ns()
            for condition in [c for c, until in self._until_ns.items() if until <= now_ns]:
                del self._until_ns[condition]
                self._end(condition)
            events = list(self._undelivered)
            self._undelivered.clear()
            return events

    def status(self) -> Status:
        """A copy of all that holds."""
        with self._lock:
            return Status(self._worst(), self._since_ns, dict(self._holding), dict(self._counts))

    def recent(self) -> list[Event]:
        """The last events, oldest first, 256 at the most."""
        with self._lock:
            return list(self._recent)

    def _worst(self) -> State:
        return worst(MEANS[c] for c in self._holding) if self._holding else "ok"

    def _begin(self, condition: Condition, detail: str) -> None:
        if condition in self._holding:
            return
        before = self._worst()
        self._counts[condition] += 1
        self._holding[condition] = detail
        self._happened(condition, True, before, detail)

    def _end(self, condition: Condition) -> None:
        if condition not in self._holding:
            return
        before = self._worst()
        detail = self._holding.pop(condition)
        self._happened(condition, False, before, detail)

    def _happened(self, condition: Condition, began: bool, before: State, detail: str) -> None:
        now_ns, state = time.monotonic_ns(), self._worst()
        if state != before:
            self._since_ns = now_ns
        event = Event(now_ns, self.camera_id, condition, began, state, detail)
        self._recent.append(event)
        self._undelivered.append(event)
