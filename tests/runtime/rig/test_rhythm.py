"""When the next frame of a camera is due."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl_runtime.result import Frame
from edgetl_runtime.rig.rhythm import Rhythm

MS = 1_000_000
IMAGE = np.zeros((2, 2, 3), np.uint8)


def after(fps: float, stamps_ms: list[float], ids: list[int] | None = None) -> Rhythm:
    rhythm = Rhythm(fps)
    for i, ms in enumerate(stamps_ms):
        rhythm.seen(Frame(IMAGE, ids[i] if ids else i, "cam", int(ms * MS)))
    return rhythm


@pytest.mark.parametrize(
    ("now_ms", "until_ms", "due"),
    [(10, 30, False), (10, 41, True), (38, 45, True), (45, 50, True), (61, 80, False)],
    ids=["too early", "in time", "soon", "a little late", "missing"],
)
def test_a_camera_at_25_a_second(now_ms: float, until_ms: float, due: bool) -> None:
    assert after(25, [0]).due_between(int(now_ms * MS), int(until_ms * MS)) == due


def test_nothing_known_may_come_at_any_time() -> None:
    assert Rhythm(25).due_between(0, 1)
    assert after(0, [0]).due_between(500 * MS, 501 * MS), "one frame of an unknown rate says nothing"
    assert not after(0, [0, 10]).due_between(30 * MS, 35 * MS)


def test_what_is_measured_wins_over_what_is_stated() -> None:
    flood = after(30, [5 * i for i in range(100)])
    assert flood.due_between(int(495.1 * MS), 501 * MS)
    assert not flood.due_between(int(495.1 * MS), 498 * MS) and not flood.due_between(510 * MS, 600 * MS)


def test_frames_between_count_and_jumps_do_not() -> None:
    sparse = after(0, [0, 100, 200], ids=[0, 10, 20])
    assert sparse.due_between(205 * MS, 211 * MS) and not sparse.due_between(220 * MS, 400 * MS)
    for stamps, ids in (([0, 10, 3_600_000], [0, 1, 2]), ([0, 10, 5], [0, 1, 2]), ([0, 10, 20], [5, 6, 0])):
        jumped = after(0, stamps, ids=ids)
        assert jumped.due_between(int((stamps[-1] + 8) * MS), int((stamps[-1] + 11) * MS))
        assert not jumped.due_between(int((stamps[-1] + 16) * MS), int((stamps[-1] + 50) * MS))
