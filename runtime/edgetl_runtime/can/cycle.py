"""The frames of one cycle: from the newest results, the loop's health and the time, whatever the loop does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from edgetl_runtime.can.dbc import STATUS, check_base, codec, frame_names, kind_name, place_name
from edgetl_runtime.can.e2e import COUNTS, data_id_of, protected
from edgetl_runtime.can.objects import TRACK_IDS, object_values, urgency_order
from edgetl_runtime.can.together import Seen, Together, subset, together
from edgetl_runtime.health import worst
from edgetl_runtime.result import Detections
from edgetl_runtime.sleep import Sleep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.can.dbc import Value
    from edgetl_runtime.can.lane import CanLane
    from edgetl_runtime.health import State
    from edgetl_runtime.result import Result

CanState = Literal["ok", "degraded", "stale", "fault", "ended"]
"""The loop's state, in the order of its numbers; ended: the sender was switched off."""
STATES: tuple[CanState, ...] = get_args(CanState)
EMPTY, VALID, INVALID = 0, 1, 2
"""Of an object's frames. Empty: nothing more was seen. Invalid: it is not known whether there is an object."""
CURRENT: tuple[CanState, ...] = ("ok", "degraded")
"""The states in which objects are sent as valid."""
MOST_COMPARED = 32
"""Of several lanes so many objects of each, the most urgent, are compared with the others'; no more could be sent, and
LeftOut says "seven or more" all the same."""


@dataclass(frozen=True, slots=True)
class CanFrame:
    """One frame of 8 bytes."""

    can_id: int
    data: bytes


_Wanted: TypeAlias = "list[tuple[int, CanLane, Result | None]]"


class Cycles:
    """Makes the frames of one cycle after the other; the counter moves on with each.

    Every cycle has the same frames, so that a receiver misses any that is lost: slots without an object are sent as
    empty, and all as invalid while there are no current results. A result is current until its deadline, at the most
    for max_age_ms after capture, and while its lane's state is ok or degraded. Of several lanes the state is the worst
    and the result's age the greatest; lanes that are not wanted now don't count, and their objects are not sent.
    Raises InputError for identifiers that don't exist; MissingPackage without cantools.
    """

    def __init__(
        self, lanes: Sequence[CanLane], *, bundle_sha256: str, base_id: int, slots: int, max_age_ms: float
    ) -> None:
        check_base(base_id, slots)
        self._codec = codec()
        self._lanes = tuple(lanes)
        self._hash = int(bundle_sha256[:6], 16)
        self._ids = {name: base_id + i for i, name in enumerate(frame_names(slots))}
        self._slots, self._max_age_ns = slots, round(max_age_ms * 1e6)
        self._counter = COUNTS - 1
        self._sleep = Sleep()
        self._seen: tuple[Result | None, ...] = ()
        self._objects: Together | None = None
        self._first: list[int] = []
        self._blank = {state: self._blank_slots(state) for state in (EMPTY, INVALID)}

    def _state(self, wanted: _Wanted, now_ns: int) -> State:
        """How far the newest results can be trusted now."""
        return worst(self._state_of(lane, result, now_ns) for _, lane, result in wanted)

    def _state_of(self, lane: CanLane, result: Result | None, now_ns: int) -> State:
        state = lane.state()
        return state if result is not None and self._is_current(result, now_ns) else worst((state, "stale"))

    def _wanted(self, newest: Sequence[Result | None]) -> _Wanted:
        """The lanes that count now; all where none is wanted: their results become too old."""
        lanes = [(i, lane, newest[i]) for i, lane in enumerate(self._lanes)]
        return [each for each in lanes if each[1].kept()] or lanes

    def _is_current(self, result: Result, now_ns: int) -> bool:
        until_ns = result.t_capture_ns + self._max_age_ns
        if result.valid_until_ns is not None:
            until_ns = min(until_ns, result.valid_until_ns)
        asleep_ns = self._sleep.since(result.t_capture_ns, now_ns)  # it woke up before there is a newer result
        return result.state == "fresh" and now_ns + asleep_ns <= until_ns

    def frames(self, newest: Sequence[Result | None], now_ns: int, *, ended: bool = False) -> list[CanFrame]:
        """The next cycle, the status first. newest: of each lane. now_ns: on CLOCK; ended: it is the last one."""
        self._counter = (self._counter + 1) % COUNTS
        wanted = self._wanted(newest)
        state: CanState = "ended" if ended else self._state(wanted, now_ns)
        ages_ms = [_age_ms(result, now_ns) for _, _, result in wanted]
        self._look(wanted)
        seen = self._objects
        current = state in CURRENT and seen is not None
        sent = self._first if current else []
        status: dict[str, Value] = {
            "State": STATES.index(state),
            "ResultAge": _oldest(ages_ms),
            "BundleHash": self._hash,
            "ObjectCount": len(sent),
            "Placed": int(seen is not None and seen.found.places is not None),
            "LeftOut": len(seen.found) - len(sent) if current and seen is not None else 0,
        }
        bodies = [self._codec.encode(STATUS, status)]
        for slot, index in enumerate(sent):
            assert seen is not None
            values = object_values(seen.found, index) | {"Age": ages_ms[int(seen.source[index])]}
            bodies += self._slot(slot, values | {"Index": slot, "Validity": VALID})
        bodies += self._blank[EMPTY if current else INVALID][2 * len(sent) :]
        return [
            CanFrame(can_id, protected(body, data_id_of(can_id), self._counter))
            for can_id, body in zip(self._ids.values(), bodies, strict=True)
        ]

    def _look(self, wanted: _Wanted) -> None:
        """The objects of these results, once for each set of them; None where one of them says nothing of objects."""
        results = tuple(result for _, _, result in wanted)
        if len(results) == len(self._seen) and all(a is b for a, b in zip(results, self._seen, strict=True)):
            return
        seen = [self._seen_in(*each) for each in wanted]
        known = [s for s in seen if s is not None]
        objects = together(known) if len(known) == len(seen) else None
        self._first = [] if objects is None else urgency_order(objects.found)[: self._slots].tolist()
        self._objects, self._seen = objects, results

    def _seen_in(self, number: int, lane: CanLane, result: Result | None) -> Seen | None:
        """A lane's boxes, with labels and track numbers that mean the same for all lanes."""
        found = None if result is None else result.outputs.get(lane.head)
        if result is None or not isinstance(found, Detections):
            return None
        if len(self._lanes) > 1 and len(found) > MOST_COMPARED:
            found = subset(found, urgency_order(found)[:MOST_COMPARED])
        if lane.classes is not None:
            found = dataclasses.replace(found, classes=lane.classes[found.classes])
        if found.track_ids is not None:
            lanes = len(self._lanes)
            unique = found.track_ids % (TRACK_IDS // lanes) * lanes + number
            found = dataclasses.replace(found, track_ids=np.where(found.track_ids < 0, -1, unique))
        return Seen(lane.camera, result.frame_id, found)

    def _slot(self, slot: int, values: dict[str, Value]) -> list[bytes]:
        return [self._codec.encode(name(slot), values) for name in (place_name, kind_name)]

    def _blank_slots(self, validity: int) -> list[bytes]:
        slots = (self._slot(i, {"Index": i, "Validity": validity}) for i in range(self._slots))
        return [body for pair in slots for body in pair]


def _age_ms(result: Result | None, now_ns: int) -> float | None:
    return None if result is None else max(now_ns - result.t_capture_ns, 0) / 1e6


def _oldest(ages_ms: Sequence[float | None]) -> float | None:
    """The greatest; None where one is not known."""
    known = [age for age in ages_ms if age is not None]
    return max(known) if known and len(known) == len(ages_ms) else None
