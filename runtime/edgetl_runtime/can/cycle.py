"""The frames of one cycle: from the newest result, the loop's health and the time, whatever the loop does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from edgetl_runtime.can.dbc import STATUS, check_base, codec, frame_names, kind_name, place_name
from edgetl_runtime.can.e2e import COUNTS, data_id_of, protected
from edgetl_runtime.can.objects import object_values, urgency_order
from edgetl_runtime.health import worst
from edgetl_runtime.result import Detections

if TYPE_CHECKING:
    from edgetl_runtime.can.dbc import Value
    from edgetl_runtime.health import Health, State
    from edgetl_runtime.result import Result

CanState = Literal["ok", "degraded", "stale", "fault", "ended"]
"""The loop's state, in the order of its numbers; ended: the sender was switched off."""
STATES: tuple[CanState, ...] = get_args(CanState)
EMPTY, VALID, INVALID = 0, 1, 2
"""Of an object's frames. Empty: nothing more was seen. Invalid: it is not known whether there is an object."""
CURRENT: tuple[CanState, ...] = ("ok", "degraded")
"""The states in which objects are sent as valid."""


@dataclass(frozen=True, slots=True)
class CanFrame:
    """One frame of 8 bytes."""

    can_id: int
    data: bytes


class Cycles:
    """Makes the frames of one cycle after the other; the counter moves on with each.

    Every cycle has the same frames, so that a receiver misses any that is lost: slots without an object are sent as
    empty, and all as invalid while there is no current result. A result is current until its deadline, at the most for
    max_age_ms after capture, and while `health` is ok or degraded. head: the one whose boxes are sent.
    Raises InputError for identifiers that don't exist; MissingPackage without cantools.
    """

    def __init__(
        self, head: str, health: Health, *, bundle_sha256: str, base_id: int, slots: int, max_age_ms: float
    ) -> None:
        check_base(base_id, slots)
        self._codec = codec()
        self._head, self._health = head, health
        self._hash = int(bundle_sha256[:6], 16)
        self._ids = {name: base_id + i for i, name in enumerate(frame_names(slots))}
        self._slots, self._max_age_ns = slots, round(max_age_ms * 1e6)
        self._counter = COUNTS - 1
        self._seen: Result | None = None
        self._objects: list[dict[str, Value]] = []
        self._blank = {state: self._blank_slots(state) for state in (EMPTY, INVALID)}

    def state(self, newest: Result | None, now_ns: int) -> State:
        """How far the newest result can be trusted now."""
        health = self._health.state
        return health if newest is not None and self._is_current(newest, now_ns) else worst((health, "stale"))

    def _is_current(self, result: Result, now_ns: int) -> bool:
        until_ns = result.t_capture_ns + self._max_age_ns
        if result.valid_until_ns is not None:
            until_ns = min(until_ns, result.valid_until_ns)
        return result.state == "fresh" and now_ns <= until_ns

    def frames(self, newest: Result | None, now_ns: int, *, ended: bool = False) -> list[CanFrame]:
        """The next cycle, the status first. now_ns: on CLOCK; ended: say that it is the last one."""
        self._counter = (self._counter + 1) % COUNTS
        state: CanState = "ended" if ended else self.state(newest, now_ns)
        found = self._found(newest)
        age_ms = None if newest is None else max(now_ns - newest.t_capture_ns, 0) / 1e6
        current = state in CURRENT and found is not None
        sent = self._objects_of(newest, found) if current and found is not None else []
        status: dict[str, Value] = {
            "State": STATES.index(state),
            "ResultAge": age_ms,
            "BundleHash": self._hash,
            "ObjectCount": len(sent),
            "Placed": int(found is not None and found.places is not None),
            "LeftOut": len(found) - len(sent) if current and found is not None else 0,
        }
        bodies = [self._codec.encode(STATUS, status)]
        for slot, values in enumerate(sent):
            bodies += self._slot(slot, values | {"Index": slot, "Validity": VALID, "Age": age_ms})
        bodies += self._blank[EMPTY if current else INVALID][2 * len(sent) :]
        return [
            CanFrame(can_id, protected(body, data_id_of(can_id), self._counter))
            for can_id, body in zip(self._ids.values(), bodies, strict=True)
        ]

    def _found(self, result: Result | None) -> Detections | None:
        output = None if result is None else result.outputs.get(self._head)
        return output if isinstance(output, Detections) else None

    def _objects_of(self, result: Result | None, found: Detections) -> list[dict[str, Value]]:
        """The signals of each object that is sent, the most urgent first; ordered once for each result."""
        if result is not self._seen:
            self._objects = [object_values(found, i) for i in urgency_order(found)[: self._slots].tolist()]
            self._seen = result
        return self._objects

    def _slot(self, slot: int, values: dict[str, Value]) -> list[bytes]:
        return [self._codec.encode(name(slot), values) for name in (place_name, kind_name)]

    def _blank_slots(self, validity: int) -> list[bytes]:
        slots = (self._slot(i, {"Index": i, "Validity": validity}) for i in range(self._slots))
        return [body for pair in slots for body in pair]
