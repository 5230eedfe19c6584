"""Cameras: every frame as uint8 BGR with a stamp, and one clear line for whatever is not there."""

from __future__ import annotations

import errno
import os
import threading
import time
from array import array
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_support import FakeCamera, scene, write_clip

from edgetl_runtime.cameras import interrupt, open_camera
from edgetl_runtime.cameras.paced import PacedCamera
from edgetl_runtime.errors import CameraError
from edgetl_runtime.mp4 import set_times
from edgetl_runtime.result import Frame


def read_all(camera: Any) -> list[Frame]:
    frames = []
    while (frame := camera.read()) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("987", "/dev/video987"),
        ("/dev/video987", "/dev/video987"),
        ("opencv:987", "/dev/video987"),
        ("opencv:/dev/video987", "/dev/video987"),
        ("shm:edgetl-not-there", "shm:edgetl-not-there"),
    ],
)
def test_a_camera_that_is_not_there_has_the_name_that_it_will_have(source: str, name: str) -> None:
    camera = open_camera(source, give_up_s=0.0, may_be_absent=True)
    assert camera.camera_id == name
    camera.close()


@pytest.mark.parametrize(
    ("source", "asked", "message"),
    [
        ("987", {"fps": -3.0}, "a rate must be"),
        ("987", {"pixel_format": "ABCD"}, "can't be decoded here"),
        ("/dev/videoX", {}, "is no camera"),
        ("opencv:x", {}, "is no camera"),
        ("opencv:987", {"pixel_format": "ABC"}, "four characters"),
        ("gst:videotestsrc", {}, "must end in one appsink"),
        ("shm:a/b", {}, "is no name"),
    ],
)
def test_what_no_camera_can_ever_be_is_not_waited_for(source: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(CameraError, match=message):
        open_camera(source, give_up_s=0.0, may_be_absent=True, **asked).close()


def test_a_video_gives_every_frame(clip: Path) -> None:
    camera = open_camera(str(clip))
    assert (camera.live, camera.fps, camera.size_hw, camera.frame_count) == (False, 30.0, (180, 320), 12)
    before = time.monotonic_ns()
    frames = read_all(camera)
    assert [f.frame_id for f in frames] == list(range(12))
    assert [f.media_time_s for f in frames] == pytest.approx([i / 30 for i in range(12)], abs=1e-3)
    stamps = [f.t_capture_ns for f in frames]
    assert before <= stamps[0] and stamps == sorted(set(stamps)) and stamps[-1] <= time.monotonic_ns()
    for i in (0, 5, 11):  # those kept are not overwritten, whatever was read after them
        assert np.abs(frames[i].image.astype(int) - scene(180, 320, i)).mean() < 5
    assert camera.notes == []
    camera.close()
    camera.close()
    assert camera.read() is None


def test_a_video_of_a_varying_rate_keeps_its_own_times(tmp_path: Path) -> None:
    path, times_ns = write_clip(tmp_path / "v.mp4", frames=5), array("q", (0, 40, 300, 340, 1340))
    set_times(path, array("q", (ms * 1_000_000 for ms in times_ns)), 30.0)
    times_s = [f.media_time_s for f in read_all(open_camera(str(path)))]
    assert times_s == pytest.approx([0.0, 0.04, 0.3, 0.34, 1.34], abs=0.02)


def test_a_video_that_lets_go_of_its_frames_allocates_two_buffers(clip: Path) -> None:
    camera = open_camera(str(clip))
    places = set()
    frame = camera.read()
    while frame is not None:
        places.add(frame.image.ctypes.data)
        frame = camera.read()
    assert len(places) <= 2


def test_a_truncated_video_says_so(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "whole.avi", frames=60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    try:
        camera = open_camera(str(tmp_path / "cut.avi"))
        frames = read_all(camera)
    except CameraError as error:
        assert "cut.avi" in str(error)
    else:
        assert len(frames) < 60
        assert any("ended after" in note for note in camera.notes)


@pytest.mark.parametrize("name", ["broken.mp4", "text.txt", "empty.mp4"])
def test_a_file_that_is_no_video(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(b"" if "empty" in name else b"no video at all" * 99)
    with pytest.raises(CameraError, match=name):
        open_camera(str(tmp_path / name))
    assert "WARN" not in capfd.readouterr().err


def test_a_source_that_may_not_be_looked_at_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CameraError):
        open_camera(f"{tmp_path}/{'x' * 300}.mp4")

    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(CameraError, match=r"can't open .*clip\.mp4.*: Permission denied"):
        open_camera(str(tmp_path / "clip.mp4"))


@pytest.mark.parametrize("source", ["nothing.mp4", "udp://somewhere", "/nowhere/at/all"])
def test_what_is_not_there_lists_the_kinds(source: str) -> None:
    with pytest.raises(CameraError, match="a folder of images"):
        open_camera(source)


@pytest.mark.parametrize("source", ["97", "/dev/video97", 97])
def test_a_camera_that_is_not_there_is_named(source: str | int) -> None:
    with pytest.raises(CameraError, match=r"no camera /dev/video97; (present|no /dev/video)"):
        open_camera(source)


def test_a_strange_device_name_is_refused() -> None:
    with pytest.raises(CameraError, match="give a number"):
        open_camera("/dev/videoXY")


def test_sizes_are_asked_of_cameras_only(clip: Path) -> None:
    with pytest.raises(CameraError, match="camera only"):
        open_camera(str(clip), size_hw=(10, 10))


def test_images_become_uint8_bgr(tmp_path: Path) -> None:
    colour = scene(20, 30)
    written = {
        "1_colour.png": colour,
        "2_grey.png": colour[..., 0],
        "3_deep.png": colour.astype(np.uint16) * 257,
        "4_alpha.png": np.dstack([colour, np.full((20, 30), 7, np.uint8)]),
        "5_deep_grey.png": colour[..., 1].astype(np.uint16) * 257,
    }
    for name, image in written.items():
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "notes.txt").write_text("not an image")
    camera = open_camera(str(tmp_path))
    frames = read_all(camera)
    assert [f.name for f in frames] == sorted(written)
    expected = [colour, colour[..., [0, 0, 0]], colour, colour, colour[..., [1, 1, 1]]]
    for frame, image in zip(frames, expected, strict=True):
        assert np.abs(frame.image.astype(int) - image).max() <= 1, frame.name


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scene(8, 8))
    (tmp_path / "b.jpg").write_bytes(b"broken")
    camera = open_camera(str(tmp_path))
    assert camera.read() is not None
    with pytest.raises(CameraError, match=r"b\.jpg"):
        camera.read()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="no image"):
        open_camera(str(tmp_path))


def test_a_paced_file_is_live_and_never_ahead_of_its_schedule() -> None:
    camera = PacedCamera(FakeCamera([scene(8, 8)] * 5, live=False, fps=50.0))
    start = time.monotonic_ns()
    frames = read_all(camera)
    assert camera.live
    for frame in frames:
        assert frame.t_capture_ns - start >= frame.frame_id * 20_000_000 - 1_000_000
    camera.close()


def test_files_are_never_opened_again(clip: Path) -> None:
    camera = open_camera(str(clip), give_up_s=5.0)
    assert len(read_all(camera)) == 12 and not camera.live


def test_a_paced_file_can_be_interrupted() -> None:
    camera = PacedCamera(FakeCamera([scene(8, 8)] * 2, live=False, fps=0.01))
    camera.read()
    threading.Timer(0.1, lambda: interrupt(camera)).start()
    start = time.monotonic()
    camera.read()
    assert time.monotonic() - start < 10.0
    assert not interrupt(FakeCamera([scene(8, 8)]))
