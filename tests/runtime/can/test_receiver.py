"""A bus that loses, delays, spoils, repeats and reorders frames, and a receiver that finds each."""

from __future__ import annotations

import random
import time

import can
import pytest
from can_support import CYCLE_NS, LABELS, Clock, Wire
from hypothesis import given
from hypothesis import strategies as st

from edgetl_runtime.can.dbc import STATUS, frame_names
from edgetl_runtime.can.e2e import COUNTS
from edgetl_runtime.can.receiver import CanReceiver
from edgetl_runtime.errors import InputError

NAMES = frame_names(8)
OBJECTS = [(10.0 + i, 0.5 * i) for i in range(8)]


def running() -> Wire:
    """After one whole cycle with eight objects."""
    wire = Wire()
    wire.show(OBJECTS)
    wire.deliver(wire.cycle())
    assert len(wire.receiver.view().objects) == 8 and not wire.receiver.faults
    return wire


@pytest.mark.parametrize("position", range(17))
def test_a_lost_frame_is_named_and_its_object_is_left_out(position: int) -> None:
    wire = running()
    frames = wire.cycle()
    del frames[position]
    wire.deliver(frames)
    wire.deliver(wire.cycle()[:1])  # the next cycle begins: the one before stays as it is
    view = wire.receiver.view()
    assert view.missing == (NAMES[position],) and wire.receiver.faults == {"lost": 1}
    if position == 0:
        assert view.state == "lost" and not view.objects
    else:
        gone = (position - 1) // 2
        assert view.state == "ok" and [o.index for o in view.objects] == [i for i in range(8) if i != gone]


def test_lost_cycles_are_counted() -> None:
    wire = running()
    wire.cycle()
    wire.cycle()
    wire.deliver(wire.cycle())
    assert wire.receiver.view().current and wire.receiver.faults == {"lost": 34}


def test_a_bus_that_falls_silent_times_out() -> None:
    wire = running()
    wire.clock.pass_ms(150)
    assert wire.receiver.view().current
    wire.clock.pass_ms(1)
    view = wire.receiver.view()
    assert view.state == "lost" and view.missing == NAMES and not view.objects and not view.current


def test_a_cycle_that_stays_incomplete_is_as_old_as_its_frames() -> None:
    wire = running()
    wire.deliver(wire.cycle()[:-1])
    for _ in range(2):
        wire.cycle()
    wire.deliver(wire.cycle()[:1])  # 150 ms later: it says that the one before stays as it is
    assert wire.receiver.view().current
    wire.clock.pass_ms(1)
    assert wire.receiver.view().state == "lost"


@pytest.mark.parametrize("silent", range(3, 2 * COUNTS))
def test_after_silence_any_counter_is_taken(silent: int) -> None:
    wire = running()
    for _ in range(silent):
        wire.cycle()
    wire.show(OBJECTS)
    wire.deliver(wire.cycle())
    assert wire.receiver.view().current and not wire.receiver.view().missing
    assert not wire.receiver.faults["disordered"]


@given(st.integers(0, 16), st.integers(0, 63))
def test_a_spoiled_frame_counts_as_missing(position: int, bit: int) -> None:
    wire = running()
    frames = wire.cycle()
    spoiled = bytearray(frames[position][1])
    spoiled[bit // 8] ^= 1 << bit % 8
    frames[position] = (frames[position][0], bytes(spoiled))
    wire.deliver(frames)
    wire.deliver(wire.cycle()[:1])
    assert wire.receiver.faults == {"corrupt": 1, "lost": 1}
    assert wire.receiver.view().missing == (NAMES[position],)


def test_a_frame_under_a_wrong_identifier_is_found() -> None:
    wire = running()
    frames = wire.cycle()
    wire.receiver.receive(frames[3][0], frames[1][1])
    assert wire.receiver.faults == {"corrupt": 1}


@pytest.mark.parametrize("position", range(17))
def test_a_repeated_frame_changes_nothing(position: int) -> None:
    wire = running()
    frames = wire.cycle()
    wire.deliver([*frames, frames[position]])
    view = wire.receiver.view()
    assert wire.receiver.faults == {"repeated": 1} and view.current and len(view.objects) == 8


def test_the_order_within_a_cycle_is_free() -> None:
    wire = running()
    for seed in range(5):
        frames = wire.cycle()
        random.Random(seed).shuffle(frames)
        wire.deliver(frames)
        assert len(wire.receiver.view().objects) == 8 and not wire.receiver.view().missing
    assert not wire.receiver.faults


def test_a_frame_that_comes_a_cycle_too_late_is_not_mixed_in() -> None:
    wire = running()
    early = wire.cycle()
    wire.deliver(early[:-1])
    wire.show([(99.0, 0.0)] * 8)
    late = wire.cycle()
    wire.deliver([*late[:5], early[-1], *late[5:]])
    assert wire.receiver.faults == {"lost": 1, "disordered": 1}
    assert [o.x_m for o in wire.receiver.view().objects] == pytest.approx([99.0] * 8)


def test_delay_shows_in_time_and_then_as_silence() -> None:
    wire = running()
    frames = wire.cycle()
    wire.clock.pass_ms(120)
    assert wire.receiver.view().state == "lost"
    wire.deliver(frames)  # what was on its way for so long has its age, and the receiver's clock counts from now
    assert wire.receiver.view().counter == frames[0][1][1] & 0x0F


def test_a_sender_that_was_started_again_is_taken_after_the_timeout() -> None:
    wire = running()
    for _ in range(6):
        wire.deliver(wire.cycle())
    again = Wire()
    again.receiver, again.clock.ns = wire.receiver, wire.clock.ns
    taken = []
    for _ in range(5):
        again.show(OBJECTS)
        again.deliver(again.cycle())
        wire.clock.ns = again.clock.ns
        taken.append(wire.receiver.view().current)
    assert taken[-1] and wire.receiver.faults["disordered"]
    assert wire.receiver.view().counter == 4


def test_a_status_that_ends_trust_is_told_before_its_cycle_is_whole() -> None:
    wire = running()
    wire.health.set("engine", "for a test")
    status, *_ = wire.cycle()
    view = wire.receiver.receive(*status)
    assert view is not None and view.state == "fault" and not wire.receiver.view().current
    assert not view.missing  # its other frames are on their way


def test_foreign_frames_are_passed_over() -> None:
    wire = running()
    assert wire.receiver.receive(0x123, bytes(8)) is None
    wire.receiver(can.Message(arbitration_id=0x6A0, is_error_frame=True))
    wire.receiver(can.Message(arbitration_id=0x6A0, is_remote_frame=True, dlc=8, is_extended_id=False))
    assert not wire.receiver.faults
    wire.receiver(can.Message(arbitration_id=0x6A0, data=b"short", is_extended_id=False))
    assert wire.receiver.faults == {"corrupt": 1}


@given(st.lists(st.sampled_from(["lose", "spoil", "repeat", "swap", "wait", "fine"]), max_size=40), st.randoms())
def test_whatever_happens_what_is_shown_was_sent_in_one_cycle(faults: list[str], rng: random.Random) -> None:
    wire = Wire()
    sent: dict[int, set[float]] = {}
    held: list[tuple[int, bytes]] = []
    for number, fault in enumerate(faults):
        x_m = float(number + 1)
        wire.show([(x_m, 0.0)] * 8)
        frames = wire.cycle()
        sent.setdefault(frames[0][1][1] & 0x0F, set()).add(x_m)  # a counter comes again after 15 cycles
        at = rng.randrange(17)
        if fault == "lose":
            del frames[at]
        elif fault == "spoil":
            can_id, data = frames[at]
            frames[at] = (can_id, data[:7] + bytes([data[7] ^ 0x5A]))
        elif fault == "repeat":
            frames.insert(rng.randrange(18), frames[at])
        elif fault == "wait":
            held, frames = frames, held
        elif fault == "swap":
            rng.shuffle(frames)
        wire.deliver(frames)
        view = wire.receiver.view()
        if view.objects and view.counter is not None:
            shown = {round(o.x_m or 0.0, 2) for o in view.objects}
            assert len(shown) == 1 and shown <= sent[view.counter]
        assert len(view.objects) + sum(name != STATUS for name in view.missing) >= (8 if view.current else 0)


def test_over_a_bus_of_python_can() -> None:
    channel = f"edgetl-{time.monotonic_ns()}"
    clock = Clock()
    wire = Wire()
    with can.Bus(interface="virtual", channel=channel) as out, can.Bus(interface="virtual", channel=channel) as into:
        wire.show(OBJECTS)
        receiver = CanReceiver(labels=LABELS, clock_ns=clock)
        for can_id, data in wire.cycle():
            out.send(can.Message(arbitration_id=can_id, data=data, is_extended_id=False))
        while (message := into.recv(0)) is not None:
            receiver(message)
    assert len(receiver.view().objects) == 8
    clock.ns += 3 * CYCLE_NS + 1
    assert receiver.view().state == "lost"


@pytest.mark.parametrize("timeout_ms", [50, 501, float("nan")])
def test_a_timeout_that_finds_nothing_is_refused(timeout_ms: float) -> None:
    with pytest.raises(InputError, match="from 1 to 10 cycles"):
        CanReceiver(timeout_ms=timeout_ms)
