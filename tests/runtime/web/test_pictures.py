"""Pictures: nothing is kept while nobody watches, the newest is drawn once for all who wait."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_support import DETECT, scene

from edgetl_runtime.result import Detections, Frame, Result
from edgetl_runtime.web import pictures as module
from edgetl_runtime.web.pictures import Pictures


def shot(frame_id: int, height: int = 90, width: int = 160) -> tuple[Frame, Result]:
    found = Detections(np.array([[10, 20, 60, 70]], np.float32), np.array([0.5], np.float32), np.array([0]))
    now_ns = time.monotonic_ns()
    frame = Frame(scene(height, width, frame_id), frame_id, "cam", now_ns)
    return frame, Result(frame_id, "cam", now_ns, now_ns, {"detect": found}, (height, width))


def test_nobody_watches_nothing_is_kept() -> None:
    pictures = Pictures((DETECT,), per_s=1000)
    frame, result = shot(0)
    before = sys.getrefcount(frame)
    pictures.offer(frame, result)
    assert sys.getrefcount(frame) == before and not pictures.watched
    assert pictures.newer_than(0, 0.0) is None
    assert pictures.watched
    pictures.offer(frame, result)
    assert sys.getrefcount(frame) == before + 1


def test_the_frame_is_let_go_when_the_last_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHED_S", 0.05)
    pictures = Pictures((DETECT,), per_s=1000)
    pictures.newer_than(0, 0.0)
    frame, result = shot(0)
    before = sys.getrefcount(frame)
    pictures.offer(frame, result)
    time.sleep(0.1)
    pictures.offer(*shot(1))
    assert sys.getrefcount(frame) == before and not pictures.watched


def test_the_newest_is_given_annotated() -> None:
    pictures = Pictures((DETECT,), per_s=1e6)
    pictures.newer_than(0, 0.0)
    for i in range(3):
        pictures.offer(*shot(i))
    found = pictures.newer_than(0, 0.0)
    assert found is not None and found[0] == 3
    image: Any = cv2.imdecode(np.frombuffer(found[1], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (90, 160, 3)
    plain = scene(90, 160, 2)
    assert np.abs(image[20:70, 8:12].astype(int) - plain[20:70, 8:12]).max() > 60, "the box's edge"
    assert np.abs(image[75:, 100:].astype(int) - plain[75:, 100:]).max() < 40
    assert pictures.newer_than(3, 0.01) is None
    assert pictures.newer_than(99, 0.01) == found, "a number from a run before this"


def test_no_more_than_so_many_a_second() -> None:
    pictures = Pictures((DETECT,), per_s=20)
    pictures.newer_than(0, 0.0)
    end_s = time.monotonic() + 0.5
    while time.monotonic() < end_s:
        pictures.offer(*shot(0))
        time.sleep(0.001)
    found = pictures.newer_than(0, 0.0)
    assert found is not None and 3 <= found[0] <= 11


def test_wide_pictures_are_sent_smaller() -> None:
    pictures = Pictures((DETECT,), per_s=1000)
    pictures.newer_than(0, 0.0)
    pictures.offer(*shot(0, 540, 1920))
    found = pictures.newer_than(0, 0.0)
    assert found is not None
    image: Any = cv2.imdecode(np.frombuffer(found[1], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (360, 1280, 3)


def test_all_who_wait_share_one_drawing_and_are_woken_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures((DETECT,), per_s=1000)
    drawn: list[int] = []
    inner = pictures._encode
    monkeypatch.setattr(pictures, "_encode", lambda f, r: drawn.append(f.frame_id) or inner(f, r))
    pictures.newer_than(0, 0.0)
    found: list[tuple[int, bytes] | None] = []

    def wait(number: int) -> None:
        found.append(pictures.newer_than(number, 5.0))

    threads = [threading.Thread(target=wait, args=(0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    pictures.offer(*shot(7))
    for thread in threads:
        thread.join(2)
    assert drawn == [7] and len({id(f[1]) for f in found if f}) == 1 and len(found) == 4
    late = threading.Thread(target=wait, args=(1,))
    late.start()
    pictures.close()
    late.join(1)
    assert not late.is_alive() and found[-1] is None
