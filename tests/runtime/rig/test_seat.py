"""One camera in a rig: what is waited for, what is counted, and why it is absent."""

from __future__ import annotations

import threading
import time

import pytest
from rig_support import QUICK, RateCamera
from runtime_support import FakeCamera, scene, until

from edgetl_runtime.cameras import Camera
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health
from edgetl_runtime.rig.round import Absent
from edgetl_runtime.rig.seat import Seat
from edgetl_runtime.rig.sharing import Letterboxes


def seat_of(camera: Camera) -> Seat:
    return Seat("left", camera, Health(), QUICK, Letterboxes(), threading.Condition())


def test_frames_are_dropped_until_they_are_used() -> None:
    seat = seat_of(FakeCamera([scene(90, 160, i) for i in range(3)], live=False))
    seat.feed.start()
    for results in (True, False):
        until(seat.ready)
        taken = seat.take()
        assert taken is not None and taken.frame.camera_id == "left" and seat.dropped == 1
        seat.used(results=results)
        assert seat.dropped == 0
    until(seat.ready)
    assert seat.take() is not None
    until(seat.ready)
    assert seat.take() is None and seat.ended and not seat.ready()
    seat.feed.capture.stop()
    assert (seat.feed.captured, seat.processed, seat.failed, seat.dropped) == (3, 1, 1, 1)
    assert seat.absent() == Absent("ok", "ended")


def test_only_one_that_is_due_is_waited_for() -> None:
    seat = seat_of(RateCamera(0.5))
    in_10_ms, in_3_s = (lambda: time.monotonic() + 0.01), (lambda: time.monotonic() + 3)
    assert seat.awaited(in_10_ms()), "nothing is known yet"
    seat.feed.start()
    until(seat.ready)
    assert not seat.awaited(in_3_s()), "there is one already"
    assert seat.take() is not None and not seat.ready()
    assert not seat.awaited(in_10_ms()) and seat.awaited(in_3_s())
    for condition in ("stalled", "disconnected", "absent"):
        seat.feed.health.set(condition, "gone")  # type: ignore[arg-type]
        assert not seat.awaited(in_3_s())
        assert seat.absent().why == f"{condition}: gone"
        seat.feed.health.clear(condition)  # type: ignore[arg-type]
    assert seat.absent() == Absent("ok", "no new frame yet")
    seat.feed.capture.stop()


def test_the_error_of_a_live_camera_is_kept_and_that_of_a_file_raised() -> None:
    seat = seat_of(FakeCamera([scene(90, 160)], fail_at=0))
    seat.feed.start()
    until(seat.ready)
    assert seat.take() is None and seat.ended
    assert seat.absent() == Absent("fault", "lost: the cable is out") and seat.feed.health.holds("disconnected")
    seat.feed.capture.stop()
    seat = seat_of(FakeCamera([scene(90, 160)], fail_at=0, live=False))
    seat.feed.start()
    until(seat.ready)
    with pytest.raises(CameraError, match="the cable is out"):
        seat.take()
    seat.feed.capture.stop()
