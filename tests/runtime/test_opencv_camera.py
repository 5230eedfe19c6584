"""The V4L2 camera through OpenCV, with a capture that is a fake."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from edgetl_runtime.cameras import open_camera
from edgetl_runtime.cameras import opencv as opencv_module
from edgetl_runtime.cameras.opencv import OpenCVCamera
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health


def fourcc(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


class FakeDevice:
    """OpenCV's capture of a device that only does 640x480 and loses every third frame's content."""

    def __init__(self, stamp_ms: float) -> None:
        self.values = {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0, cv2.CAP_PROP_FPS: 30.0}
        self.stamp_ms = stamp_ms
        self.grabs = 0
        self.asked: list[int] = []

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, key: int, value: float) -> bool:
        self.asked.append(key)
        if key == cv2.CAP_PROP_BUFFERSIZE or (key == cv2.CAP_PROP_FOURCC and value == fourcc("YUYV")):
            self.values[key] = value
        return False

    def get(self, key: int) -> float:
        return self.stamp_ms if key == cv2.CAP_PROP_POS_MSEC else self.values.get(key, 0.0)

    def grab(self) -> bool:
        self.grabs += 1
        return self.grabs <= 6

    def retrieve(self, buffer: np.ndarray) -> tuple[bool, np.ndarray | None]:
        return (False, None) if self.grabs % 3 == 0 else (True, buffer)

    def release(self) -> None:
        pass


def open_fake(monkeypatch: pytest.MonkeyPatch, stamp_ms: float) -> OpenCVCamera:
    monkeypatch.setattr(opencv_module, "_check_device", lambda device: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda index, api: FakeDevice(stamp_ms))
    return OpenCVCamera("/dev/video3", size_hw=(720, 1280), fps=60)


def test_opencv_reports_what_differs_and_counts_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = open_fake(monkeypatch, 0.0)
    assert camera.notes == [
        "/dev/video3: width 1280 asked, 640 found",
        "/dev/video3: height 720 asked, 480 found",
        "/dev/video3: rate 60 asked, 30 found",
    ]
    ids = [f.frame_id for f in (camera.read() for _ in range(4)) if f is not None]
    assert ids == [0, 1, 3, 4]
    with pytest.raises(CameraError, match="no more frames"):
        camera.read()
    assert camera.failed == 2


def test_opencv_gives_no_grey_picture_for_bgr(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.zeros((480, 640), np.uint8)
    monkeypatch.setattr(FakeDevice, "retrieve", lambda self, buffer: (True, grey if self.grabs % 2 else buffer))
    camera = open_fake(monkeypatch, 0.0)
    assert [f.frame_id for f in (camera.read() for _ in range(3)) if f is not None] == [1, 3, 5]
    assert camera.failed == 3


@pytest.mark.parametrize("shift_ms", [-20.0, 5_000.0, -5_000.0])
def test_opencv_takes_the_drivers_stamp_only_where_it_is_plausible(
    monkeypatch: pytest.MonkeyPatch, shift_ms: float
) -> None:
    before = time.monotonic_ns()
    stated_ms = before / 1e6 + shift_ms
    frame = open_fake(monkeypatch, stated_ms).read()
    assert frame is not None
    if shift_ms == -20.0:
        assert frame.t_capture_ns == pytest.approx(stated_ms * 1e6, abs=1000)
    else:
        assert before <= frame.t_capture_ns <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("asked", "stated", "note"),
    [
        ("YUYV", "", []),
        ("MJPG", "YUYV", ["/dev/video3: pixel format MJPG asked, YUYV found"]),
        ("MJPG", "", ["/dev/video3: pixel format MJPG asked, none found"]),
        ("Y16 ", "Y16 ", []),
    ],
)
def test_opencv_reads_the_pixel_format_back(
    monkeypatch: pytest.MonkeyPatch, asked: str, stated: str, note: list[str]
) -> None:
    device = FakeDevice(0.0)
    if stated:
        device.values[cv2.CAP_PROP_FOURCC] = float(fourcc(stated))
    monkeypatch.setattr(opencv_module, "_check_device", lambda device: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda index, api: device)
    camera = open_camera("opencv:/dev/video3", pixel_format=asked, size_hw=(480, 640))
    assert camera.notes == note
    assert device.asked.index(cv2.CAP_PROP_FOURCC) < device.asked.index(cv2.CAP_PROP_FRAME_WIDTH)


@pytest.mark.parametrize("wrong", ["MJPEG", "", "äöüß"])
def test_opencv_formats_have_four_characters(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setattr(opencv_module, "_check_device", lambda device: None)
    with pytest.raises(CameraError, match="four characters"):
        OpenCVCamera("/dev/video3", pixel_format=wrong)


def test_opencv_is_opened_again_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[FakeDevice] = []

    def open_device(index: int, api: int) -> FakeDevice:
        opened.append(FakeDevice(0.0))
        return opened[-1]

    monkeypatch.setattr(opencv_module, "_check_device", lambda device: None)
    monkeypatch.setattr(cv2, "VideoCapture", open_device)
    health = Health("front")
    camera = open_camera("opencv:/dev/video3", give_up_s=5.0, health=health)
    ids = [f.frame_id for f in (camera.read() for _ in range(6)) if f is not None]
    assert ids == [0, 1, 3, 4, 6, 7]  # the fake loses every third and ends after the sixth
    assert len(opened) == 2 and health.status().counts == {"disconnected": 1}


@pytest.mark.parametrize(
    ("source", "message"), [("opencv:97", "no camera /dev/video97"), ("opencv:x", "give a number")]
)
def test_opencv_names_what_is_not_there(source: str, message: str) -> None:
    with pytest.raises(CameraError, match=message):
        open_camera(source)
