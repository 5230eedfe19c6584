"""What a frame shows and when it says it was made: every fault of a camera has its condition, and good frames none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_support import calibration
from numpy.typing import NDArray

from edgetl_runtime.health import HOLD_NS, Condition, Health
from edgetl_runtime.result import Frame
from edgetl_runtime.watch import FrameWatch

STEP_NS = 33_333_333


class Feed:
    """Frames with noise at 30 a second, in at the moment they are made; keyword arguments change one."""

    def __init__(self, **options: Any) -> None:
        self.health = Health("cam")
        self.watch = FrameWatch(self.health, **options)
        self.rng = np.random.default_rng(0)
        self.next_id, self.now_ns = 0, 10**12

    def noise(self, hw: tuple[int, int] = (90, 160)) -> NDArray[np.uint8]:
        return self.rng.integers(60, 160, (*hw, 3), dtype=np.uint8)

    def give(
        self, image: NDArray[np.uint8] | None = None, *, frame_id: int | None = None, offset_ns: int = 0
    ) -> Frame | None:
        self.now_ns += STEP_NS
        number = self.next_id if frame_id is None else frame_id
        self.next_id = number + 1
        frame = Frame(self.noise() if image is None else image, number, "cam", self.now_ns + offset_ns)
        return self.watch.look(frame, self.now_ns)

    def conditions(self) -> set[Condition]:
        return set(self.health.status().conditions)


def test_good_frames_have_nothing() -> None:
    feed = Feed()
    for _ in range(90):
        assert feed.give() is not None
    assert feed.conditions() == set() and feed.health.recent() == []


@pytest.mark.parametrize("frozen_s", [2.0, 0.0])
def test_a_picture_that_stays_the_same_to_the_bit_is_frozen(frozen_s: float) -> None:
    feed = Feed(frozen_s=frozen_s)
    picture = feed.noise()
    states = []
    for _ in range(75):
        assert feed.give(picture) is not None, "it is said and still used"
        states.append("frozen" in feed.conditions())
    assert states.index(True) == 61 if frozen_s else not any(states)
    other = picture.copy()
    other[45:50, 80:85] += 1
    feed.give(other)
    assert feed.conditions() == set()


@pytest.mark.parametrize("buffers", [2, 4, 8])
def test_a_ring_of_old_pictures_is_frozen(buffers: int) -> None:
    feed = Feed()
    ring = [feed.noise() for _ in range(buffers)]
    first = next(i for i in range(120) if feed.give(ring[i % buffers]) and "frozen" in feed.conditions())
    assert first == buffers - 1 + 61, "two seconds after the last new one"
    assert feed.health.status().conditions["frozen"] == "the same pictures come over again for 2.0 s"
    feed.give()
    assert feed.conditions() == set()


@pytest.mark.parametrize("jump_s", [-60, -600])
def test_a_clock_that_goes_back_hides_no_frozen_and_no_dark_picture(jump_s: int) -> None:
    feed = Feed()
    black = np.zeros((90, 160, 3), np.uint8)
    for _ in range(10):
        feed.give(black)
    for _ in range(55):
        assert feed.give(black, offset_ns=jump_s * 10**9) is not None
    assert {"frozen", "dark"} <= feed.conditions()


def test_a_clock_that_goes_forward_makes_no_picture_frozen() -> None:
    feed = Feed()
    for _ in range(10):
        feed.give(offset_ns=-5 * 10**9)
    picture = feed.noise()
    feed.give(picture, offset_ns=-5 * 10**9)
    feed.give(picture)
    assert feed.conditions() == {"clock"}


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_a_covered_lens_shows_nothing(level: int) -> None:
    feed = Feed()
    grain = np.random.default_rng(1)

    def covered() -> NDArray[np.uint8]:
        noisy = level + grain.normal(0, 1.5, (90, 160, 3))
        return np.clip(noisy, 0, 255).astype(np.uint8)

    feed.give()
    first = next(i for i in range(60) if feed.give(covered()) is not None and "dark" in feed.conditions())
    assert 14 <= first <= 16, "after half a second"
    assert f"grey level {level}" in feed.health.status().conditions["dark"] or level in (0, 255)
    feed.give()
    assert feed.conditions() == set()


def test_a_night_street_is_not_a_covered_lens() -> None:
    feed = Feed()
    for i in range(40):
        street = np.full((360, 640, 3), 4, np.uint8)
        street[100:130, 100 + i : 180 + i] = 200
        street[250:, 200:400] = 25
        feed.give(street)
    assert feed.conditions() == set()


def test_the_same_frame_is_never_used_twice() -> None:
    feed = Feed()
    feed.give()
    assert feed.give(frame_id=0) is None
    assert feed.give(frame_id=7, offset_ns=-2 * STEP_NS) is None, "the same stamp is the same frame"
    assert feed.health.status().counts == {"duplicate": 2}
    assert feed.give(frame_id=1) is not None


def test_an_older_frame_is_not_used() -> None:
    feed = Feed()
    feed.give(frame_id=5)
    assert feed.give(frame_id=4, offset_ns=-int(1.5 * STEP_NS)) is None
    assert feed.conditions() == {"disordered"}
    assert feed.give(frame_id=6) is not None


def test_frames_out_of_order_whose_stamps_tell_nothing() -> None:
    """A camera whose clock is ahead: its stamps are replaced by the time of arrival, which only goes forward."""
    feed = Feed()
    feed.give(frame_id=5, offset_ns=5 * 10**9)
    assert feed.give(frame_id=4, offset_ns=5 * 10**9) is None
    assert feed.conditions() == {"clock", "disordered"}
    assert feed.give(frame_id=6, offset_ns=5 * 10**9) is not None
    feed.now_ns += 10**9
    assert feed.give(frame_id=0, offset_ns=5 * 10**9) is not None, "a producer that starts again is followed"


def test_a_producer_that_starts_again_is_followed() -> None:
    feed = Feed()
    for number in (70, 71, 0, 1, 2):
        assert feed.give(frame_id=number) is not None
    assert feed.conditions() == set()


def test_a_clock_that_jumps_is_said_and_never_makes_a_frame_younger_than_it_is() -> None:
    feed = Feed()
    feed.give()
    ahead = feed.give(offset_ns=3 * 10**9)
    assert ahead is not None and ahead.t_capture_ns == feed.now_ns, "not from the future"
    assert "3000 ms after it arrived" in feed.health.status().conditions["clock"]
    back = feed.give(offset_ns=-5 * 10**9)
    assert back is not None and back.t_capture_ns == feed.now_ns - 5 * 10**9, "old stays old"
    assert feed.health.status().counts == {"clock": 2}
    assert feed.give(offset_ns=-5 * 10**9) is not None
    assert feed.health.status().counts == {"clock": 2}, "the jump is over"
    assert feed.give() is not None
    assert feed.health.status().counts == {"clock": 3}, "and back again"


def test_a_frame_that_was_held_up_is_no_jump_of_the_clock() -> None:
    feed = Feed()
    feed.give()
    held = feed.give(offset_ns=-2 * 10**9 + 10**9)
    assert held is None, "a second old, and after a newer one"
    feed.now_ns += 3 * 10**9
    assert feed.give(offset_ns=-2 * 10**9) is not None
    assert feed.give() is not None and feed.give() is not None
    assert "clock" not in feed.health.status().counts


def test_a_pause_is_no_jump_of_the_clock() -> None:
    feed = Feed()
    feed.give()
    feed.now_ns += 20 * 10**9
    assert feed.give() is not None
    assert feed.conditions() == set()


def test_frames_of_another_size_are_used_and_said() -> None:
    feed = Feed()
    feed.give()
    assert feed.give(feed.noise((45, 80))) is not None
    assert feed.health.status().conditions == {"resized": "frames were 160x90, now 80x45"}
    feed.give(feed.noise((45, 80)))
    assert feed.health.status().counts == {"resized": 1}


def test_frames_that_do_not_fit_the_calibration_are_one_fault() -> None:
    feed = Feed(calibration=calibration())
    for hw in ((90, 160), (120, 160), (90, 160), (120, 160), (120, 160)):
        assert feed.give(feed.noise(hw)) is not None, "its boxes are of use"
    said = "frames are 160x120, the calibration of 'front' is for 1280x720, which has another aspect ratio"
    status = feed.health.status()
    assert status.conditions["uncalibrated"] == f"{said}: boxes have no places" and status.state == "fault"
    assert status.counts == {"resized": 3, "uncalibrated": 1}
    until_ns = feed.now_ns + HOLD_NS
    while feed.now_ns <= until_ns:
        assert "uncalibrated" in feed.conditions()
        feed.give()
    assert "uncalibrated" not in feed.conditions()


@pytest.mark.parametrize("hw", [(1, 1), (1, 500), (31, 33), (64, 64), (1080, 1920)])
def test_any_size(hw: tuple[int, int]) -> None:
    feed = Feed()
    picture = feed.noise(hw)
    give: Callable[[], Frame | None] = lambda: feed.give(picture)  # noqa: E731
    assert give() is not None and give() is not None
