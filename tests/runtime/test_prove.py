"""The time code: read back from what a camera makes of it; true delays and buffers are found."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_support import needs_codes

from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.prove import CodeWindow, ProveSink, Spread, check_codes, draw_code, held_frames, read_code
from edgetl_runtime.result import Frame, Result


def street_with(t_ns: int, hw: tuple[int, int] = (240, 320), side: int = 160) -> NDArray[np.uint8]:
    image = np.full((*hw, 3), 90, np.uint8)
    image[20 : 20 + side, 30 : 30 + side] = draw_code(t_ns, side)[..., None]
    return image


@needs_codes
@pytest.mark.parametrize("t_ns", [0, 1_000_000, 123_456_789_000_000, 999_999_999_999_000_000])
def test_a_code_comes_back(t_ns: int) -> None:
    assert read_code(street_with(t_ns)) == t_ns


@needs_codes
def test_a_filmed_code_comes_back() -> None:
    """Turned, blurred, noisy, and compressed."""
    image = cv2.resize(street_with(77_777_000_000), (640, 480))
    source = np.array([[0, 0], [640, 0], [640, 480], [0, 480]], np.float32)
    target = np.array([[30, 20], [610, 40], [630, 470], [10, 450]], np.float32)
    filmed = cv2.GaussianBlur(
        cv2.warpPerspective(image, cv2.getPerspectiveTransform(source, target), (640, 480)), (3, 3), 0
    )
    noisy = np.clip(filmed + np.random.default_rng(0).normal(0, 6, filmed.shape), 0, 255).astype(np.uint8)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR)
    assert read_code(jpeg) == 77_777_000_000


@pytest.mark.parametrize(
    "lacking",
    [{"QRCodeEncoder": None}, {"QRCodeDetector": lambda: SimpleNamespace(detectAndDecode=lambda image: [""])}],
)
def test_an_opencv_without_codes_is_told_from_a_camera_that_does_not_see_them(
    monkeypatch: pytest.MonkeyPatch, lacking: dict[str, Any]
) -> None:
    """OpenCV 4.5.4 can't draw them, and one without QUIRC finds where a code is and reads nothing."""
    for name, instead in lacking.items():
        if instead is None:
            monkeypatch.delattr(cv2, name)
        else:
            monkeypatch.setattr(cv2, name, instead)
    with pytest.raises(InputError, match="was built without QR codes"):
        check_codes()


@needs_codes
def test_no_code_and_another_code_are_none() -> None:
    assert read_code(np.full((240, 320, 3), 90, np.uint8)) is None
    image = np.full((240, 320, 3), 90, np.uint8)
    other = cv2.resize(cv2.QRCodeEncoder.create().encode("hello"), (160, 160), interpolation=cv2.INTER_NEAREST)
    image[20:180, 30:190] = other[..., None]
    assert read_code(image) is None


@needs_codes
def test_what_no_stamp_knows_is_found() -> None:
    """Frames that are stamped 80 ms after their picture, and published 30 ms later."""
    sink = ProveSink(held=4)
    for i in range(5):
        stamp = 10**12 + i * 10**8
        frame = Frame(street_with(stamp - 80_000_000), i, "cam", stamp)
        sink.write(Result(i, "cam", stamp, stamp + 30_000_000, {}, (240, 320)), frame, None)
        while sink._slot is not None:
            time.sleep(0.005)
    sink.write(Result(9, "cam", 0, 0, {}, (240, 320)), Frame(np.zeros((240, 320, 3), np.uint8), 9, "cam", 0), None)
    sink.close()
    sink.close()
    proof = sink.proof
    assert (proof.read, proof.unread, proof.held) == (5, 1, 4)
    assert proof.before_stamp == Spread(80.0, 80.0, 80.0) and proof.to_result == Spread(110.0, 110.0, 110.0)
    assert "picture to result 110 ms" in sink.notes[0] and "keeps 4 old frames" in sink.notes[0]


def test_without_a_code_it_says_what_to_do() -> None:
    sink = ProveSink()
    sink.close()
    assert "is it large, sharp and whole" in sink.notes[0] and sink.proof.as_json()["to_result"] is None


class Buffered:
    """A camera with a queue: when it is full, new pictures are lost and the old ones stay, as drivers do."""

    live, failed, size_hw, frame_count = True, 0, (240, 320), None
    camera_id = "buffered"

    def __init__(self, depth: int, fps: float = 20.0, code: bool = True) -> None:
        self.fps, self.notes, self._code = fps, list[str](), code
        self._queue: deque[NDArray[np.uint8]] = deque()
        self._depth, self._number = depth, 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._shoot, daemon=True)
        self._thread.start()

    def _shoot(self) -> None:
        while not self._stop.wait(1 / self.fps):
            picture = street_with(time.monotonic_ns()) if self._code else np.zeros((240, 320, 3), np.uint8)
            with self._changed:
                if len(self._queue) < self._depth:
                    self._queue.append(picture)
                self._changed.notify_all()

    def read(self) -> Frame | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, 5):
                return None
            picture = self._queue.popleft()
        self._number += 1
        return Frame(picture, self._number, "buffered", time.monotonic_ns())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@needs_codes
@pytest.mark.parametrize("depth", [1, 4])
def test_buffers_are_counted(depth: int) -> None:
    camera = Buffered(depth)
    try:
        assert held_frames(camera, pause_s=1.0) == depth
    finally:
        camera.close()


class Remembering:
    """Old pictures and then new ones, on a clock that only its owner moves; the third old one takes 60 ms."""

    live, failed, size_hw, frame_count, fps = True, 0, (240, 320), None, 20.0
    camera_id, notes = "remembering", list[str]()

    def __init__(self, ages_ms: list[int]) -> None:
        self.now_ns = 10**12
        self._ages, self._number = [0, 0, 0, *ages_ms], 0

    def read(self) -> Frame:
        age_ms = self._ages.pop(0) if self._ages else 0
        self._number += 1
        if self._number == 6:
            threading.Event().wait(0.06)
        return Frame(street_with(self.now_ns - age_ms * 1_000_000), self._number, "remembering", self.now_ns)

    def close(self) -> None: ...


@needs_codes
def test_a_read_that_is_slow_for_once_ends_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Remembering([900, 850, 800, 750])
    monkeypatch.setattr("edgetl_runtime.prove.time.monotonic_ns", lambda: camera.now_ns)
    monkeypatch.setattr("edgetl_runtime.prove.time.sleep", lambda s: setattr(camera, "now_ns", camera.now_ns + 10**9))
    assert held_frames(camera) == 4


def test_a_camera_that_does_not_see_the_code() -> None:
    camera = Buffered(2, code=False)
    try:
        with pytest.raises(CameraError, match="no frame shows the time code"):
            held_frames(camera, pause_s=0.2)
    finally:
        camera.close()


def test_no_display_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="needs a display"):
        CodeWindow()
