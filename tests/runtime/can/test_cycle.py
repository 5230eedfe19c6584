"""What one cycle says, at logical times."""

from __future__ import annotations

import dataclasses

import pytest
from can_support import Wire, detections_of, result_of, write

from edgetl_runtime import sleep
from edgetl_runtime.can.e2e import COUNTS
from edgetl_runtime.errors import InputError
from edgetl_runtime.health import MEANS, Condition
from edgetl_runtime.result import Scores

BLIND = {c: s for c, s in MEANS.items() if s in ("stale", "fault")}


def test_objects_are_sent_with_place_kind_and_age() -> None:
    wire = Wire()
    wire.show([(40.0, 1.0), (12.3, -2.0)])
    wire.deliver(wire.cycle())
    view = wire.receiver.view()
    assert (view.state, view.missing, view.placed, view.left_out, view.bundle_hash) == ("ok", (), True, 0, 0xABCDEF)
    assert view.result_age_ms == 50 and view.current
    near, far = view.objects
    assert (near.index, near.kind, near.label, near.track_id, near.age_ms) == (0, 1, "pedestrian", 101, 50)
    assert (near.x_m, near.y_m, near.deviation_m) == pytest.approx((12.3, -2.0, 0.5), abs=0.026)
    assert near.confidence == pytest.approx(0.51) and near.closing_speed_mps == 0
    assert (far.index, far.kind, far.x_m) == (1, 0, pytest.approx(40.0))


def test_every_cycle_has_the_same_frames_with_one_counter() -> None:
    wire = Wire()
    counters = []
    for count in (0, 3, 8, 11):
        wire.show([(10.0 + i, 0.0) for i in range(count)])
        frames = wire.cycle()
        assert [can_id for can_id, _ in frames] == list(range(0x6A0, 0x6A0 + 17))
        assert len({data[1] & 0x0F for _, data in frames}) == 1
        counters.append(frames[0][1][1] & 0x0F)
        wire.deliver(frames)
        view = wire.receiver.view()
        assert [o.index for o in view.objects] == list(range(min(count, 8)))
        assert view.left_out == max(count - 8, 0)
    assert counters == [0, 1, 2, 3]
    for expected in range(4, 2 * COUNTS):
        assert wire.cycle()[0][1][1] & 0x0F == expected % COUNTS


def test_fewer_slots_and_long_identifiers() -> None:
    wire = Wire(slots=2, base_id=0x18FF0000)
    wire.show([(10.0 + i, 0.0) for i in range(12)])
    frames = wire.cycle()
    assert [can_id for can_id, _ in frames] == [0x18FF0000 + i for i in range(5)]
    wire.deliver(frames)
    view = wire.receiver.view()
    assert len(view.objects) == 2 and view.left_out == 7  # ten, held at the limit


def test_what_was_seen_before_the_machine_slept_is_not_current(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = [0]
    monkeypatch.setattr(sleep, "slept_ns", lambda: slept[0])
    wire = Wire()
    wire.show([(10.0, 0.0)])
    wire.deliver(wire.cycle())
    assert wire.receiver.view().current
    slept[0] = 2_000_000_000
    for _ in range(2):
        wire.deliver(wire.cycle())
        view = wire.receiver.view()
        assert (view.state, view.objects) == ("stale", ())


@pytest.mark.parametrize("condition", sorted(BLIND))
def test_the_next_cycle_says_that_nothing_is_current(condition: Condition) -> None:
    wire = Wire()
    wire.show([(10.0, 0.0)])
    wire.deliver(wire.cycle())
    assert wire.receiver.view().current
    wire.health.set(condition, "for a test")
    frames = wire.cycle()
    assert {data[2] & 3 for _, data in frames[1:]} == {2}, "who reads objects alone sees it too"
    wire.deliver(frames)
    view = wire.receiver.view()
    assert view.state == BLIND[condition] and not view.current and view.objects == ()
    wire.health.clear(condition)
    wire.show([(9.0, 0.0)])
    wire.deliver(wire.cycle())
    assert wire.receiver.view().state == "ok" and len(wire.receiver.view().objects) == 1


def test_degraded_objects_are_sent_and_said_to_be_so() -> None:
    wire = Wire()
    wire.health.set("dark", "for a test")
    wire.show([(10.0, 0.0)])
    wire.deliver(wire.cycle())
    assert wire.receiver.view().state == "degraded" and len(wire.receiver.view().objects) == 1


def test_a_loop_that_hangs_is_stale_in_the_cycle_after_the_limit() -> None:
    wire = Wire(max_age_ms=200)
    wire.show([(10.0, 0.0)])
    states = []
    for _ in range(6):
        wire.deliver(wire.cycle())
        states.append((wire.receiver.view().state, wire.receiver.view().result_age_ms))
    assert states == [("ok", 50), ("ok", 100), ("ok", 150), ("ok", 200), ("stale", 250), ("stale", 300)]


def test_the_deadline_comes_first() -> None:
    wire = Wire(max_age_ms=200)
    wire.show([(10.0, 0.0)], valid_until_ns=wire.clock() + 75_000_000)
    wire.deliver(wire.cycle())
    assert wire.receiver.view().current
    wire.deliver(wire.cycle())
    assert wire.receiver.view().state == "stale"


def test_a_late_result_is_never_current() -> None:
    wire = Wire()
    wire.show([(10.0, 0.0)], state="late")
    wire.deliver(wire.cycle())
    assert wire.receiver.view().state == "stale"


def test_before_the_first_result_nothing_is_known() -> None:
    wire = Wire()
    frames = wire.cycle()
    wire.deliver(frames)
    view = wire.receiver.view()
    assert view.state == "stale" and view.result_age_ms is None and not view.objects
    assert {data[2] & 3 for _, data in frames[1:]} == {2}  # Invalid: not known to be empty
    wire.show([])
    frames = wire.cycle()
    wire.deliver(frames)
    assert wire.receiver.view().current and {data[2] & 3 for _, data in frames[1:]} == {0}


def test_without_places_distances_are_not_available() -> None:
    wire = Wire()
    found = dataclasses.replace(detections_of([(10.0, 0.0)]), places=None)
    write(wire.sink, result_of(found, wire.clock()))
    wire.deliver(wire.cycle())
    view = wire.receiver.view()
    only = view.objects[0]
    assert not view.placed and only.track_id == 100
    assert (only.x_m, only.y_m, only.closing_speed_mps, only.deviation_m) == (None,) * 4
    wire.cycle()
    assert [text for text in wire.said if "no calibrated camera" in text] == wire.said and len(wire.said) == 1


def test_the_last_cycle_says_so() -> None:
    wire = Wire()
    wire.show([(10.0, 0.0)])
    wire.deliver(wire.cycle())
    wire.bus.sent.clear()
    wire.sink.close()
    wire.sink.close()
    wire.deliver(wire.bus.sent)
    assert wire.receiver.view().state == "ended" and not wire.receiver.view().objects
    assert wire.bus.closed == 1 and len(wire.bus.sent) == 17


def test_another_kind_of_output_has_no_objects() -> None:
    import numpy as np

    wire = Wire()
    scores = Scores(np.array([1.0], np.float32), 0)
    write(wire.sink, dataclasses.replace(result_of(detections_of([]), wire.clock()), outputs={"objects": scores}))
    frames = wire.cycle()
    assert {data[2] & 3 for _, data in frames[1:]} == {2}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cycle_ms": 1}, "from 5 to 1000 ms, found 1"),
        ({"cycle_ms": float("nan")}, "from 5 to 1000"),
        ({"slots": 9}, "1 to 8 objects, found 9"),
        ({"max_age_ms": 0}, "more than 0 ms"),
        ({"base_id": 0x7F8}, "must leave room"),
    ],
)
def test_what_can_not_be_sent_is_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Wire(**options)
