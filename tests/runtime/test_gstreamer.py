"""GStreamer pipelines: their text, and the refusal where OpenCV can't run them. The wheels of OpenCV can't."""

from __future__ import annotations

from contextlib import closing

import cv2
import numpy as np
import pytest

from edgetl_runtime.cameras import open_camera
from edgetl_runtime.cameras.gstreamer import GStreamerCamera, has_gstreamer, newest_wins
from edgetl_runtime.errors import CameraError

ALL = "drop=true max-buffers=1 sync=false"


@pytest.mark.parametrize(
    ("pipeline", "full", "added"),
    [
        ("videotestsrc ! appsink", f"videotestsrc ! appsink {ALL}", ALL.split()),
        (" a ! b ! appsink name=x ", f"a ! b ! appsink name=x {ALL}", ALL.split()),
        ("a ! appsink drop=1 sync=0", "a ! appsink drop=1 sync=0 max-buffers=1", ["max-buffers=1"]),
        (f"a ! appsink {ALL}", f"a ! appsink {ALL}", []),
        (
            'a ! appsink drop = "TRUE" max-buffers=(uint)1 sync=No',
            'a ! appsink drop = "TRUE" max-buffers=(uint)1 sync=No',
            [],
        ),
        ("a location=\"x ! y\" ! appsink", f"a location=\"x ! y\" ! appsink {ALL}", ALL.split()),
    ],
)  # fmt: skip
def test_what_the_appsink_lacks_is_added(pipeline: str, full: str, added: list[str]) -> None:
    assert newest_wins(pipeline) == (full, added)


@pytest.mark.parametrize(
    "setting", ["drop=false", "drop=0", "max-buffers=10", "max-buffers=0", "sync=true", 'sync="1"']
)
def test_an_appsink_that_gives_old_frames_is_refused(setting: str) -> None:
    with pytest.raises(CameraError, match="would give old frames; write"):
        open_camera(f"gst:videotestsrc ! appsink {setting}")


@pytest.mark.parametrize(
    "pipeline", ["", "appsink", "a ! fakesink", "a ! appsink ! b", "a ! appsink a ! appsink", "a !"]
)
def test_a_pipeline_ends_in_one_appsink(pipeline: str) -> None:
    with pytest.raises(CameraError, match="must end in one appsink"):
        open_camera(f"gst:{pipeline}")


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("    GStreamer:   YES (1.20.3)", True),
        ("    GStreamer:   NO", False),
        ("", False),
        ("no GStreamer: YES", False),
    ],
)
def test_the_build_information_is_read(text: str, has: bool) -> None:
    assert has_gstreamer(f"Video I/O:\n    FFMPEG:  YES\n{text}\n") is has


def test_an_opencv_without_gstreamer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GStreamer:   NO\n")
    with pytest.raises(CameraError, match=r"without GStreamer; on a Jetson apt install python3-opencv"):
        open_camera("gst:videotestsrc ! appsink")


class FakePipeline:
    """OpenCV's capture of a pipeline that gives three frames."""

    def __init__(self, text: str, api: int) -> None:
        self.text, self.left = text, 3
        assert api == cv2.CAP_GSTREAMER

    def isOpened(self) -> bool:  # noqa: N802
        return self.text.endswith(ALL)

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_HEIGHT: 4.0, cv2.CAP_PROP_FRAME_WIDTH: 6.0}.get(key, 0.0)

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self, buffer: np.ndarray) -> tuple[bool, np.ndarray]:
        return True, self.made(buffer)

    def made(self, buffer: np.ndarray) -> np.ndarray:
        return buffer

    def release(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakePipeline]:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GStreamer:   YES (1.20.3)\n")
    monkeypatch.setattr(cv2, "VideoCapture", FakePipeline)
    return FakePipeline


@pytest.mark.usefixtures("fake")
def test_the_notes_say_what_was_added() -> None:
    camera = open_camera("gst:videotestsrc pattern=ball ! appsink")
    assert isinstance(camera, GStreamerCamera)
    assert (camera.camera_id, camera.size_hw, camera.live) == ("gst:videotestsrc", (4, 6), True)
    assert f"gst:videotestsrc: appsink got {ALL}" in camera.notes
    assert any("exposure times are unknown" in note for note in camera.notes)
    assert any("no usable rate" in note for note in camera.notes)
    camera.close()


@pytest.mark.parametrize(
    ("shape", "told"), [((4, 6), "1 channel,"), ((4, 6, 1), "1 channel,"), ((6, 6, 4), "4 channels,")]
)
def test_pictures_that_are_not_bgr_are_refused_when_it_is_opened(
    fake: type[FakePipeline], monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], told: str
) -> None:
    monkeypatch.setattr(fake, "made", lambda self, buffer: np.zeros(shape, np.uint8))
    with pytest.raises(CameraError, match=f"videotestsrc gives pictures with {told} not the 3 of BGR; .*format=BGR"):
        open_camera("gst:videotestsrc ! appsink")


def test_a_pipeline_that_gives_nothing_is_not_open(fake: type[FakePipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "grab", lambda self: False)
    with pytest.raises(CameraError, match=r"videotestsrc ended its stream; try it with gst-launch-1\.0"):
        open_camera("gst:videotestsrc ! appsink")


def test_its_size_is_that_of_its_pictures(fake: type[FakePipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "made", lambda self, buffer: np.zeros((8, 10, 3), np.uint8))
    with closing(open_camera("gst:videotestsrc ! appsink")) as camera:
        assert camera.size_hw == (8, 10)


REAL = pytest.mark.skipif(
    not has_gstreamer(cv2.getBuildInformation()), reason="this OpenCV was built without GStreamer; Debian's was not"
)
TEST = "videotestsrc is-live=true num-buffers=40 ! video/x-raw,width=64,height=48,framerate=30/1"


@REAL
def test_a_real_pipeline_gives_its_pictures_and_ends() -> None:
    with closing(open_camera(f"gst:{TEST} ! videoconvert ! video/x-raw,format=BGR ! appsink")) as camera:
        first, second = camera.read(), camera.read()
        assert first is not None and second is not None and camera.size_hw == (48, 64)
        assert first.image.shape == (48, 64, 3) and first.image.std() > 10, "a test picture has colours"
        assert second.t_capture_ns > first.t_capture_ns
        with pytest.raises(CameraError, match="ended its stream"):
            while camera.read() is not None:
                pass


@REAL
@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        (f"{TEST},format=GRAY8 ! appsink", "gives pictures with 1 channel"),
        (f"{TEST},format=BGRx ! appsink", "gives pictures with 4 channels"),
        ("nosuchelement ! appsink", "can't be opened"),
    ],
)
def test_a_real_pipeline_that_cannot_be_used(pipeline: str, told: str) -> None:
    with pytest.raises(CameraError, match=told):
        open_camera(f"gst:{pipeline}")
