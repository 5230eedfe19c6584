"""Pictures: nothing is kept while nobody waits, the newest is drawn once for all who do."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_support import DETECT, scene, until

from edgetl_runtime.result import Detections, Frame, Result
from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.web import pictures as module
from edgetl_runtime.web.pictures import Pictures
from edgetl_runtime.web.shown import ONLY

HEADS = {ONLY.bundle: (DETECT,)}


def shot(frame_id: int, height: int = 90, width: int = 160) -> tuple[Frame, Result]:
    found = Detections(np.array([[10, 20, 60, 70]], np.float32), np.array([0.5], np.float32), np.array([0]))
    now_ns = time.monotonic_ns()
    frame = Frame(scene(height, width, frame_id), frame_id, "cam", now_ns)
    return frame, Result(frame_id, "cam", now_ns, now_ns, {"detect": found}, (height, width))


def newest(pictures: Pictures, number: int, wait_s: float) -> tuple[int, bytes] | None:
    found = pictures.newer_than([ONLY], number, wait_s)
    return (found[ONLY].number, found[ONLY].jpeg) if found else None


class Viewer:
    """Asks once, in a thread."""

    def __init__(self, pictures: Pictures, number: int = 0, wait_s: float = 5.0) -> None:
        self.found: tuple[int, bytes] | None = None
        before = pictures._waiting[ONLY]
        self._thread = threading.Thread(target=self._ask, args=(pictures, number, wait_s))
        self._thread.start()
        until(lambda: pictures._waiting[ONLY] > before or not self._thread.is_alive())

    def _ask(self, pictures: Pictures, number: int, wait_s: float) -> None:
        self.found = newest(pictures, number, wait_s)

    def result(self) -> tuple[int, bytes] | None:
        self._thread.join(5)
        assert not self._thread.is_alive()
        return self.found

    def image(self) -> Any:
        found = self.result()
        assert found is not None
        return cv2.imdecode(np.frombuffer(found[1], np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    made = Pictures(HEADS, per_s=1e6)
    made.start()
    yield made
    made.close()
    made.close()
    assert not made._painter.is_alive()


def test_nobody_waits_nothing_is_kept(pictures: Pictures) -> None:
    frame, result = shot(0)
    before = sys.getrefcount(frame)
    pictures.offer(ONLY, frame, result)
    assert sys.getrefcount(frame) == before
    assert newest(pictures, 0, 0.0) is None
    pictures.offer(ONLY, frame, result)
    assert sys.getrefcount(frame) == before and pictures._number == 0


def test_a_drawn_frame_is_let_go(pictures: Pictures) -> None:
    viewer = Viewer(pictures)
    frame, result = shot(0)
    before = sys.getrefcount(frame)
    pictures.offer(ONLY, frame, result)
    assert viewer.image().shape == (90, 160, 3)
    until(lambda: sys.getrefcount(frame) == before)


def test_the_frame_is_annotated(pictures: Pictures) -> None:
    viewer = Viewer(pictures)
    pictures.offer(ONLY, *shot(2))
    image, plain = viewer.image(), scene(90, 160, 2)
    assert np.abs(image[20:70, 8:12].astype(int) - plain[20:70, 8:12]).max() > 60, "the box's edge"
    assert np.abs(image[75:, 100:].astype(int) - plain[75:, 100:]).max() < 40


def test_numbers_rise_and_a_strange_one_counts_as_none(pictures: Pictures) -> None:
    viewer = Viewer(pictures)
    pictures.offer(ONLY, *shot(0))
    first = viewer.result()
    assert first is not None and first[0] == 1
    assert newest(pictures, 0, 0.0) == first, "it is still new for others"
    assert newest(pictures, 99, 0.0) == first, "a number from a run before this"
    assert newest(pictures, 1, 0.01) is None
    viewer = Viewer(pictures, number=1)
    pictures.offer(ONLY, *shot(1))
    second = viewer.result()
    assert second is not None and second[0] == 2 and second[1] != first[1]


def test_an_old_picture_is_not_given_as_new(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = Viewer(pictures)
    pictures.offer(ONLY, *shot(0))
    assert viewer.result()
    monkeypatch.setattr(module, "FRESH_S", 0.05)
    time.sleep(0.06)
    assert newest(pictures, 0, 0.0) is None


def test_no_more_than_so_many_a_second() -> None:
    pictures = Pictures(HEADS, per_s=20)
    pictures.start()
    viewer = Viewer(pictures, number=0)
    end_s = time.monotonic() + 0.5
    number = 0
    while time.monotonic() < end_s:
        pictures.offer(ONLY, *shot(0))
        if pictures._number > number:
            viewer.result()
            number = pictures._number
            viewer = Viewer(pictures, number=number)
        time.sleep(0.001)
    pictures.close()
    assert 3 <= number <= 11 and viewer.result() is None


def test_wide_pictures_are_sent_smaller(pictures: Pictures) -> None:
    viewer = Viewer(pictures)
    pictures.offer(ONLY, *shot(0, 540, 1920))
    assert viewer.image().shape == (360, 1280, 3)


def test_all_who_wait_share_one_drawing_of_the_newest(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    inner = pictures._encode
    slow = threading.Event()

    def encode(name: LaneName, frame: Frame, result: Result) -> bytes:
        drawn.append(frame.frame_id)
        slow.wait(5)
        return inner(name, frame, result)

    monkeypatch.setattr(pictures, "_encode", encode)
    viewers = [Viewer(pictures) for _ in range(4)]
    pictures.offer(ONLY, *shot(7))
    until(lambda: drawn == [7])
    for i in (8, 9, 10):  # while the painter is busy one is kept for it, no more
        pictures.offer(ONLY, *shot(i))
    assert pictures._offered.qsize() == 1
    slow.set()
    found = [v.result() for v in viewers]
    assert None not in found and drawn in ([7], [7, 8])
    until(lambda: drawn == [7, 8])


def test_the_end_wakes_those_who_wait(pictures: Pictures) -> None:
    viewer = Viewer(pictures)
    t0 = time.monotonic()
    pictures.close()
    assert viewer.result() is None and time.monotonic() - t0 < 4
    assert newest(pictures, 0, 5.0) is None and time.monotonic() - t0 < 4


def test_a_picture_that_fails_is_told_and_the_next_one_comes(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = pictures._encode
    monkeypatch.setattr(pictures, "_encode", lambda *_: 1 / 0)
    viewer = Viewer(pictures, wait_s=0.3)
    pictures.offer(ONLY, *shot(0))
    assert viewer.result() is None
    assert capsys.readouterr().err == "edgetl web: no picture: ZeroDivisionError: division by zero\n"
    monkeypatch.setattr(pictures, "_encode", inner)
    viewer = Viewer(pictures)
    pictures.offer(ONLY, *shot(1))
    assert viewer.image().shape == (90, 160, 3)


LEFT, RIGHT, OTHER = LaneName("left", ""), LaneName("right", ""), LaneName("left", "other")


class Watcher:
    """Asks for pictures of these lanes, again and again, until it is closed; `seen` counts them."""

    def __init__(self, pictures: Pictures, *lanes: LaneName) -> None:
        self.seen: list[tuple[LaneName, int]] = []
        self.widths: set[int] = set()
        self.answers: list[set[LaneName]] = []
        self._pictures, self._lanes = pictures, lanes
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        until(lambda: all(pictures._waiting[lane] for lane in lanes))

    def _ask(self) -> None:
        number = 0
        while not self._pictures.closed:
            found = self._pictures.newer_than(self._lanes, number, 0.2)
            for lane, made in found.items():
                assert made.number > number
                self.seen.append((lane, made.number))
                image: Any = cv2.imdecode(np.frombuffer(made.jpeg, np.uint8), cv2.IMREAD_COLOR)
                self.widths.add(image.shape[1])
            number = max((p.number for p in found.values()), default=number)
            if found:
                self.answers.append(set(found))

    def close(self) -> None:
        self._thread.join(5)
        assert not self._thread.is_alive()


def of_several(per_s: float) -> Pictures:
    made = Pictures({"": (DETECT,), "other": (DETECT,)}, per_s=per_s)
    made.start()
    return made


def test_only_the_lanes_that_are_watched_are_drawn_each_with_its_own_picture() -> None:
    pictures = of_several(1e6)
    watcher = Watcher(pictures, LEFT, RIGHT)
    for i in range(50):
        for lane in (LEFT, RIGHT, OTHER):
            pictures.offer(lane, *shot(i))
        time.sleep(0.005)
    pictures.close()
    watcher.close()
    assert {lane for lane, _ in watcher.seen} == {LEFT, RIGHT} and OTHER not in pictures._newest
    assert len({number for _, number in watcher.seen}) == len(watcher.seen), "numbers are of all lanes together"
    assert {LEFT, RIGHT} in watcher.answers, "those of one round come together"


def test_many_lanes_share_what_two_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = of_several(20)
    monkeypatch.setattr(pictures, "_encode", lambda *_: cv2.imencode(".jpg", scene(9, 9))[1].tobytes())
    lanes = [LaneName(str(i), "") for i in range(8)]
    watcher = Watcher(pictures, *lanes)
    t0 = time.monotonic()
    while time.monotonic() - t0 < 1.0:
        for lane in lanes:
            pictures.offer(lane, *shot(0, 9, 9))
        time.sleep(0.002)
    pictures.close()
    watcher.close()
    taken = {lane: sum(1 for seen, _ in watcher.seen if seen == lane) for lane in lanes}
    assert min(taken.values()) >= 2, "each gets some"
    assert sum(taken.values()) <= 20 * module.IN_ALL * (time.monotonic() - t0) + len(lanes)


def test_pictures_beside_each_other_are_sent_smaller() -> None:
    pictures = of_several(1e6)
    watcher = Watcher(pictures, LEFT, RIGHT)
    pictures.offer(LEFT, *shot(0, 270, 1920))
    until(lambda: watcher.seen)
    pictures.close()
    watcher.close()
    assert watcher.widths == {module.WIDEST_OF_SEVERAL}


def test_a_lane_that_is_asked_for_alone_waits_for_no_other(pictures: Pictures) -> None:
    viewer = Viewer(pictures)
    pictures.offer(RIGHT, *shot(0))
    pictures.offer(ONLY, *shot(1))
    found = viewer.result()
    assert found is not None and RIGHT not in pictures._newest
