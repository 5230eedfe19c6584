"""Reconnecting: the old camera is closed first, ids rise, health tells, pauses are bounded, and closing ends a wait."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from runtime_support import FakeCamera, scene

from edgetl_runtime.cameras import Camera, Interruptible
from edgetl_runtime.cameras.reconnecting import ReconnectingCamera
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health
from edgetl_runtime.result import Frame


class Rig:
    """Opens fake cameras from a script, and a clock that only pauses move."""

    def __init__(
        self,
        script: list[FakeCamera | str],
        *,
        health: Health | None = None,
        give_up_s: float = 60.0,
        absent: str | None = None,
    ) -> None:
        self.script: Iterator[FakeCamera | str] = iter(script)
        self.opened: list[FakeCamera] = []
        self.pauses: list[float] = []
        self.now_s = 100.0
        self.camera = ReconnectingCamera(
            self.open,
            health=health,
            give_up_s=give_up_s,
            absent=absent,
            rng=random.Random(4),
            clock=lambda: self.now_s,
            wait=self.wait,
        )

    def open(self, stop: threading.Event) -> Camera:
        assert all(c.closed for c in self.opened), "the old camera must be closed before the next is opened"
        step = next(self.script, "nothing answers")
        if isinstance(step, str):
            raise CameraError(step)
        self.opened.append(step)
        return step

    def wait(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        self.now_s += pause_s
        return False

    def ids(self, count: int) -> list[int]:
        frames = [self.camera.read() for _ in range(count)]
        return [f.frame_id for f in frames if f is not None]


def fake(frames: int = 3, **changes: object) -> FakeCamera:
    return FakeCamera([scene(8, 8)] * frames, **changes)  # type: ignore[arg-type]


def test_ids_rise_and_leave_a_gap_across_failures_and_ends() -> None:
    rig = Rig([fake(3), fake(9, fail_at=2), "no route", fake(2)])
    assert rig.ids(7) == [0, 1, 2, 4, 5, 7, 8]
    assert [c.closed for c in rig.opened] == [True, True, False]
    assert rig.camera.reconnects == 2
    rig.camera.close()
    assert rig.opened[-1].closed and rig.camera.read() is None


class Strange(FakeCamera):
    """A camera whose library raises what nobody expected, where it is read and where it is closed."""

    def read(self) -> Frame | None:
        if self.reads == 2:
            raise RuntimeError("VIDIOC_DQBUF: protocol error")
        return super().read()

    def close(self) -> None:
        super().close()
        raise OSError(5, "Input/output error")


def test_whatever_a_camera_raises_it_is_opened_again() -> None:
    health = Health("fake")
    rig = Rig([Strange([scene(8, 8)] * 9), fake(2)], health=health)
    assert rig.ids(4) == [0, 1, 3, 4]
    details = [e.detail for e in health.recent() if e.condition == "disconnected" and e.began]
    assert details == ["fake failed (RuntimeError: VIDIOC_DQBUF: protocol error)"]
    assert rig.opened[0].closed and health.state == "ok"


def test_a_camera_may_come_later_than_the_run() -> None:
    with pytest.raises(CameraError, match="no route"):
        Rig(["no route"])
    health = Health("front")
    rig = Rig(["no route", "no answer", fake(2, fps=25.0), fake(1)], health=health, absent="front")
    camera = rig.camera
    assert (camera.camera_id, camera.size_hw, camera.fps) == ("front", (0, 0), 0.0)
    assert health.status().conditions == {"absent": "no route"} and rig.pauses == []
    assert rig.ids(2) == [1, 2] and len(rig.pauses) == 2
    assert (camera.camera_id, camera.size_hw, camera.fps) == ("front", (8, 8), 25.0)
    assert health.status().conditions == {} and health.status().counts == {"absent": 1}
    came = f"front: was not there at the start, came after {sum(rig.pauses):.1f} s"
    assert camera.notes == [came] and camera.reconnects == 0
    rig.ids(1)
    assert len(camera.notes) == 2 and "reconnected once" in camera.notes[1] and camera.reconnects == 1
    assert health.status().counts == {"absent": 1, "disconnected": 1}
    with pytest.raises(CameraError, match="has been gone for 6"):
        Rig(["no route"], give_up_s=60.0, absent="front").camera.read()


def test_frames_are_passed_on_untouched() -> None:
    source = fake(3)
    camera = Rig([source]).camera
    frame = camera.read()
    assert frame is not None and frame.image is source.images[0]
    assert (camera.camera_id, camera.live, camera.size_hw, camera.frame_count) == ("fake", True, (8, 8), None)
    assert not isinstance(source, Interruptible) and isinstance(camera, Interruptible)


def test_health_is_disconnected_with_the_reason_until_the_first_frame() -> None:
    health = Health("fake")
    seen: list[str] = []

    class Slow(FakeCamera):
        def read(self) -> object:  # type: ignore[override]
            seen.append(health.state)
            return super().read()

    rig = Rig([fake(9, fail_at=1), "no route", Slow([scene(8, 8)])], health=health)
    assert rig.ids(2) == [0, 2]
    assert seen == ["fault"]  # open again, no frame yet
    assert health.state == "ok"
    events = [(e.condition, e.began, e.detail) for e in health.recent()]
    assert events == [("disconnected", True, "the cable is out"), ("disconnected", False, "the cable is out")]
    assert any("reconnected once" in note for note in rig.camera.notes)


def test_failed_frames_of_a_camera_that_is_let_go_of_are_counted_all_the_time() -> None:
    """Whoever asks while that happens must not be told fewer than before."""
    seen: list[int] = []
    askers: list[threading.Thread] = []

    class Asked(FakeCamera):
        @property
        def failed(self) -> int:  # type: ignore[override]
            if rig.asking and not askers:
                askers.append(threading.Thread(target=lambda: seen.append(rig.camera.failed)))
                askers[0].start()
                askers[0].join(0.3)
            return 3

        @failed.setter
        def failed(self, count: int) -> None: ...

    class AskedRig(Rig):
        asking = False

    rig = AskedRig([Asked([scene(8, 8)]), fake(1)])
    assert rig.ids(1) == [0] and rig.camera.failed == 3
    rig.asking = True
    assert rig.ids(1) == [2]
    askers[0].join()
    assert seen == [3] and rig.camera.failed == 3


def test_pauses_are_random_bounded_and_start_small_again() -> None:
    rig = Rig([fake(1), *["no"] * 8, fake(1), *["no"] * 2, fake(1)])
    rig.ids(3)
    limits = [0.1, 0.2, 0.4, 0.8, 1.5, 1.5, 1.5, 1.5, 1.5, 0.1, 0.2, 0.4]
    assert len(rig.pauses) == len(limits)
    assert all(0 <= pause <= limit for pause, limit in zip(rig.pauses, limits, strict=True))
    assert len(set(rig.pauses)) == len(rig.pauses)
    expected = random.Random(4)
    assert rig.pauses == [expected.uniform(0.0, limit) for limit in limits]


def test_it_gives_up_in_time_with_the_last_reason() -> None:
    rig = Rig([fake(1)], give_up_s=7.0)
    rig.ids(1)
    with pytest.raises(CameraError, match=r"gone for \d+ s and \d+ tries: nothing answers"):
        rig.camera.read()
    assert 7.0 <= rig.now_s - 100.0 <= 7.0 + 1.5


def test_zero_never_gives_up() -> None:
    rig = Rig([fake(1), *["no"] * 500, fake(1)], give_up_s=0.0)
    assert rig.ids(2) == [0, 2]
    assert rig.now_s - 100.0 > 200


def test_the_first_opening_is_not_tried_again() -> None:
    with pytest.raises(CameraError, match="no such camera"):
        Rig(["no such camera", fake(1)])


def test_failed_frames_of_all_connections_are_counted() -> None:
    rig = Rig([fake(1, failed=2), fake(1, failed=3)])
    rig.ids(2)
    assert rig.camera.failed == 5


def test_notes_of_later_connections_are_kept_once() -> None:
    rig = Rig([fake(1, notes=["a"]), fake(1, notes=["a", "b"])])
    rig.ids(2)
    assert rig.camera.notes[:2] == ["a", "b"]


@pytest.mark.parametrize("end", ["interrupt", "close"])
def test_closing_ends_a_pause_at_once(end: str) -> None:
    script: Iterator[FakeCamera] = iter([fake(1)])

    def open_camera(stop: threading.Event) -> Camera:
        step = next(script, None)
        if step is None:
            raise CameraError("nothing answers")
        return step

    camera = ReconnectingCamera(open_camera, first_s=30.0, most_s=30.0, rng=random.Random(1))
    assert camera.read() is not None
    act: Callable[[], None] = getattr(camera, end)
    threading.Timer(0.1, act).start()
    start = time.monotonic()
    assert camera.read() is None
    assert time.monotonic() - start < 10.0
    camera.close()
    camera.close()


def test_a_camera_that_opens_while_it_is_closed_is_closed_too() -> None:
    late, script = fake(1), iter([fake(1)])
    opening = threading.Event()

    def open_camera(stop: threading.Event) -> Camera:
        first = next(script, None)
        if first is not None:
            return first
        opening.set()
        assert stop.wait(5.0)
        return late

    camera = ReconnectingCamera(open_camera, first_s=0.001, most_s=0.001)
    camera.read()
    reader = threading.Thread(target=camera.read)
    reader.start()
    assert opening.wait(5.0)
    camera.interrupt()
    reader.join(5.0)
    assert not reader.is_alive() and late.closed


@pytest.mark.parametrize("wrong", [{"first_s": 0.0}, {"first_s": 2.0, "most_s": 1.0}, {"give_up_s": -1.0}])
def test_wrong_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(CameraError, match="expected 0 < first_s"):
        ReconnectingCamera(lambda stop: fake(1), **wrong)
