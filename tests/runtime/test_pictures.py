"""Work on the newest pictures in a thread of its own: at a bounded rate, nothing kept, no failure unseen."""

from __future__ import annotations

import sys
import threading

import cv2
import numpy as np
import pytest
from runtime_support import scene, until

from edgetl_runtime.pictures import PictureThread, jpeg
from edgetl_runtime.result import Frame


def test_a_busy_thread_keeps_one_and_no_more() -> None:
    made: list[int] = []
    may = threading.Event()
    thread = PictureThread[int](lambda number: (made.append(number), may.wait(5))[0], per_s=1e6, name="x")
    thread.offer(0)
    until(lambda: made == [0])
    for number in range(1, 9):
        thread.offer(number)
    may.set()
    until(lambda: made == [0, 1])
    thread.close()
    thread.close()
    assert not thread._thread.is_alive() and made == [0, 1] and thread.failed == 0


def test_the_rate_is_bounded() -> None:
    made: list[int] = []
    thread = PictureThread[int](made.append, per_s=0.01, name="x")
    for number in range(5):
        thread.offer(number)
        until(lambda: bool(made))
    thread.close()
    assert made == [0]


def test_a_frame_is_let_go() -> None:
    done = threading.Event()
    thread = PictureThread[Frame](lambda frame: done.set(), per_s=1e6, name="x")
    frame = Frame(scene(8, 8), 0, "cam", 0)
    before = sys.getrefcount(frame)
    thread.offer(frame)
    assert done.wait(5)
    until(lambda: sys.getrefcount(frame) == before)
    thread.close()


def test_the_first_failure_is_told_and_all_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[int] = []

    def make(number: int) -> None:
        made.append(number)
        if number < 2:
            raise ValueError(f"picture {number}")

    thread = PictureThread[int](make, per_s=1e6, name="web")
    for number in range(3):
        thread.offer(number)
        until(lambda number=number: number in made)  # type: ignore[misc]
    thread.close()
    assert thread.failed == 2 and capsys.readouterr().err == "edgetl web: no picture: ValueError: picture 0\n"


def test_a_jpeg_is_one() -> None:
    image = scene(90, 160)
    decoded = cv2.imdecode(np.frombuffer(jpeg(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None and decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 3
    with pytest.raises(Exception, match=r"JPEG|jpeg|image"):
        jpeg(np.zeros((1, 70_000, 3), np.uint8))
