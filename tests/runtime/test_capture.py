"""The capture thread: newest wins for live sources, nothing is lost of files, errors arrive."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter

import pytest
from runtime_support import FakeCamera, scene, until

from edgetl_runtime import capture as capture_module
from edgetl_runtime.capture import EVERY_DEPTH, Capture, Nothing
from edgetl_runtime.errors import CameraError
from edgetl_runtime.result import Frame

PICTURES = [scene(8, 8, i) for i in range(30)]


def drain(capture: Capture, pause_s: float = 0.0) -> list[tuple[int, int]]:
    """Frame id and drops before it, of everything that comes."""
    rows = []
    while (taken := capture.get()) is not None:
        rows.append((taken.frame.frame_id, taken.dropped_before))
        time.sleep(pause_s)
    return rows


def test_every_frame_of_a_file_in_order() -> None:
    camera = FakeCamera(PICTURES, live=False)
    with Capture(camera) as capture:
        assert capture.policy == "every"
        assert drain(capture, 0.001) == [(i, 0) for i in range(30)]
    assert (capture.captured, capture.dropped, camera.closed) == (30, 0, True)


def test_a_file_is_not_read_ahead() -> None:
    camera = FakeCamera(PICTURES, live=False)
    with Capture(camera) as capture:
        assert capture.get() is not None
        time.sleep(0.05)
        assert camera.reads <= 1 + EVERY_DEPTH + 1
    assert capture.captured == 1


class Told(threading.Condition):
    """Counts how often each thread told the others."""

    def __init__(self) -> None:
        super().__init__()
        self.by: Counter[str] = Counter()

    def notify_all(self) -> None:
        self.by[threading.current_thread().name] += 1
        super().notify_all()


def test_the_reader_of_a_file_goes_on_when_the_consumer_has_read_the_frame() -> None:
    camera, changed = FakeCamera(PICTURES, live=False), Told()
    me = threading.current_thread().name
    with Capture(camera, changed=changed) as capture:
        until(lambda: camera.reads == EVERY_DEPTH + 1)  # one waits for room
        assert capture.get() is not None
        assert changed.by[me] == 0
        capture.read_on()
        assert changed.by[me] == 1
        until(lambda: camera.reads == EVERY_DEPTH + 2)
        capture.read_on()
        assert capture.get() is not None
        assert changed.by[me] == 1
        assert capture.get() is not None  # says it for whoever never does
        assert changed.by[me] == 2
        until(lambda: camera.reads == EVERY_DEPTH + 4)


def test_a_live_reader_waits_for_nobody() -> None:
    camera, changed = FakeCamera(PICTURES), Told()
    with Capture(camera, changed=changed) as capture:
        until(lambda: camera.reads == len(PICTURES))
        taken = capture.get()
        capture.read_on()
        assert taken is not None and taken.frame.frame_id == len(PICTURES) - 1
        assert changed.by[threading.current_thread().name] == 0


def test_newest_wins_and_every_drop_is_counted() -> None:
    with Capture(FakeCamera(PICTURES, delay_s=0.002)) as capture:
        assert capture.policy == "newest"
        rows = drain(capture, 0.01)
    ids = [i for i, _ in rows]
    assert ids == sorted(set(ids)) and ids[-1] == 29
    gaps = [b - a - 1 for a, b in zip([-1, *ids], ids, strict=False)]
    assert [dropped for _, dropped in rows] == gaps
    assert capture.dropped == sum(gaps) > 0
    assert capture.captured == len(rows) + capture.dropped == 30


@pytest.mark.parametrize("live", [True, False])
def test_an_error_arrives_after_the_frames_before_it(live: bool) -> None:
    camera = FakeCamera(PICTURES, live=live, fail_at=1)
    with Capture(camera) as capture, pytest.raises(CameraError, match="cable"):
        assert [i for i, _ in drain(capture)] == [0]
    with Capture(FakeCamera(PICTURES, live=live, fail_at=1)) as capture:
        taken = capture.get()
        assert taken is not None and taken.frame.frame_id == 0
        with pytest.raises(CameraError, match="cable"):
            capture.get()
    assert camera.closed


def test_a_silent_camera_gives_nothing_and_no_old_frame() -> None:
    with Capture(FakeCamera(PICTURES[:1], delay_s=0.3)) as capture:
        with pytest.raises(Nothing):
            capture.get(0.05)
        taken = capture.get(5.0)
        assert taken is not None and taken.frame.frame_id == 0
        assert capture.get(5.0) is None


def test_gaps_in_the_ids_are_what_the_camera_lost() -> None:
    class Gappy(FakeCamera):
        def read(self) -> Frame | None:
            frame = super().read()
            return frame and dataclasses.replace(frame, frame_id=3 * frame.frame_id)

    with Capture(Gappy(PICTURES[:4], live=False)) as capture:
        assert [i for i, _ in drain(capture)] == [0, 3, 6, 9]
    assert capture.lost == 6


@pytest.mark.parametrize("live", [True, False])
def test_stop_joins_the_thread(live: bool) -> None:
    camera = FakeCamera(PICTURES * 100, live=live)
    capture = Capture(camera)
    capture.start()
    assert capture.get() is not None
    capture.stop()
    assert not [t for t in threading.enumerate() if t.name == "capture fake"]
    assert camera.closed and capture.get() is None
    assert capture.captured == 1 + capture.dropped
    capture.stop()


def test_a_waiting_consumer_burns_no_processor() -> None:
    with Capture(FakeCamera(PICTURES[:2], delay_s=0.2)) as capture:
        before = time.process_time()
        assert capture.get() is not None
        assert time.process_time() - before < 0.1


@pytest.mark.parametrize("live", [True, False])
def test_frames_that_must_not_be_used_are_dropped_and_replace_nothing(live: bool) -> None:
    seen: list[int] = []

    def even(frame: Frame, arrived_ns: int) -> Frame | None:
        assert 0 <= arrived_ns - frame.t_capture_ns < 500_000_000
        seen.append(frame.frame_id)
        return frame if frame.frame_id % 2 == 0 else None

    with Capture(FakeCamera(PICTURES, live=live, delay_s=0.002), inspect=even) as capture:
        rows = drain(capture)
    assert seen == list(range(30))
    assert all(i % 2 == 0 for i, _ in rows) and rows[-1][0] == 28
    assert capture.captured == 30 == len(rows) + capture.dropped
    assert sum(dropped for _, dropped in rows) + 1 == capture.dropped, "the last one came after the last taken"


def test_a_camera_that_hangs_in_its_driver_is_not_closed_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()

    class Hanging(FakeCamera):
        def read(self) -> Frame | None:
            assert back.wait(30)
            return None

    monkeypatch.setattr(capture_module, "_JOIN_S", 0.05)
    camera = Hanging(PICTURES)
    capture = Capture(camera)
    capture.start()
    capture.stop()
    assert not camera.closed
    back.set()


def test_a_camera_that_waits_is_told_to_end() -> None:
    class Waiting(FakeCamera):
        told = threading.Event()

        def read(self) -> Frame | None:
            assert self.told.wait(10)
            return None

        def interrupt(self) -> None:
            self.told.set()

    capture = Capture(Waiting(PICTURES))
    capture.start()
    began = time.monotonic()
    capture.stop()
    assert time.monotonic() - began < 5 and capture.camera.closed  # type: ignore[attr-defined]


def test_a_frame_that_must_not_be_used_takes_no_waiting_ones_place() -> None:
    camera = FakeCamera(PICTURES[:5])
    with Capture(camera, inspect=lambda frame, _: frame if frame.frame_id == 0 else None) as capture:
        until(lambda: capture.captured == 5)
        taken = capture.get()
        assert taken is not None and (taken.frame.frame_id, capture.dropped) == (0, 4)
