"""One camera in use: what its frames are called, which may be used, and how long it may be silent."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from geometry_support import calibration
from runtime_support import FakeCamera, scene

from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.feed import Feed
from edgetl_runtime.health import GONE, Condition, Health
from edgetl_runtime.repair import Patience

NOISE = [np.random.default_rng(i).integers(60, 160, (90, 160, 3), np.uint8) for i in range(4)]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("name", [None, "left"])
def test_frames_carry_the_feeds_name(live: bool, name: str | None) -> None:
    health = Health()
    feed = Feed(FakeCamera(NOISE, live=live), health, Patience(), name=name)
    feed.start()
    taken = feed.capture.get(2)
    feed.capture.stop()
    assert taken is not None and taken.frame.camera_id == feed.name == health.camera_id == (name or "fake")


def test_only_a_live_cameras_frames_are_checked() -> None:
    dark = [np.zeros((90, 160, 3), np.uint8)] * 30
    for live, state in ((True, "degraded"), (False, "ok")):
        health = Health()
        feed = Feed(FakeCamera(dark, live=live, delay_s=0.025), health, Patience(frozen_s=0))
        feed.start()
        while feed.capture.get(2) is not None:
            pass
        feed.capture.stop()
        assert health.state == state


class FakeTime:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("edgetl_runtime.feed.time", fake)
    return fake


def test_silence_is_a_stall_and_then_an_error(clock: FakeTime) -> None:
    health = Health()
    feed = Feed(FakeCamera(NOISE), health, Patience(stall_s=0.05, give_up_s=0.15), name="left")
    assert feed.silent() is None and health.state == "ok"
    clock.now_s += 0.06
    assert feed.silent() is None and health.holds("stalled")
    clock.now_s += 0.1
    health.set("disconnected", "it is being opened again")
    assert feed.silent() is None, "that has a patience of its own"
    health.clear("disconnected")
    assert isinstance(lost := feed.silent(), CameraError) and lost.message == "left gave no frame for 0.15 s"
    feed.heard()
    assert feed.silent() is None and health.state == "ok"


@pytest.mark.parametrize("condition", GONE)
def test_a_camera_that_is_opened_again_has_a_patience_of_its_own_or_this_one(
    clock: FakeTime, condition: Condition
) -> None:
    feed = Feed(FakeCamera(NOISE), Health(), Patience(stall_s=0.01, give_up_s=0.02))
    feed.health.set(condition, "no route; check the cable")
    clock.now_s += 0.03
    assert feed.silent() is None
    error = feed.silent(gone_too=True)
    assert error is not None and str(error) == "fake gave no frame for 0.02 s: no route; check the cable"


def test_a_file_is_never_silent(clock: FakeTime) -> None:
    feed = Feed(FakeCamera(NOISE, live=False), Health(), Patience(stall_s=0.01, give_up_s=0.01))
    clock.now_s += 0.03
    assert feed.silent() is None


def test_a_files_first_frame_has_to_fit_its_calibration() -> None:
    for images, fits in ((NOISE, True), ([np.zeros((120, 160, 3), np.uint8)], False)):
        feed = Feed(FakeCamera(images, live=False), Health(), Patience(), calibration=calibration())
        feed.start()
        if fits:
            assert feed.capture.get(2) is not None
        else:
            with pytest.raises(InputError, match="another aspect ratio"):
                feed.capture.get(2)
        feed.capture.stop()


def test_one_condition_tells_of_several() -> None:
    changed = threading.Condition()
    feeds = [
        Feed(FakeCamera([scene(9, 16, i) for i in range(3)], delay_s=d), Health(), Patience(), changed=changed)
        for d in (0.05, 5.0)
    ]
    for feed in feeds:
        assert not feed.capture.ready
        feed.start()
    with changed:
        assert changed.wait_for(lambda: any(f.capture.ready for f in feeds), 4)
    assert [f.capture.ready for f in feeds] == [True, False]
    for feed in feeds:
        threading.Thread(target=feed.capture.stop).start()
    assert feeds[0].capture.ready, "stopping is told at once"
