"""A GStreamer pipeline through OpenCV, where OpenCV was built with GStreamer: JetPack's was, the wheels weren't."""

from __future__ import annotations

import re
import threading
from typing import Any

from edgetl_runtime.cameras._opencv import quiet_cv2
from edgetl_runtime.cameras._reader import Reader, ReaderCamera
from edgetl_runtime.errors import CameraError, NoSuchKind

OPEN_S = 10.0
READ_S = 5.0
_ASSUMED_FPS = 30.0
_NEWEST = {"drop": "true", "max-buffers": "1", "sync": "false"}
"""What an appsink needs so that the newest frame wins: by default it queues without limit and waits for the clock."""
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def newest_wins(pipeline: str) -> tuple[str, list[str]]:
    """The pipeline with what its appsink lacks, and what was added.

    Raises CameraError where it doesn't end in one appsink, or where that is set to queue, block or wait.
    """
    text = pipeline.strip()
    head, bang, sink = text.rpartition("!")
    words = sink.split()
    if not bang or not words or words[0] != "appsink" or re.search(r"\bappsink\b", head):
        raise NoSuchKind(
            "a GStreamer pipeline must end in one appsink",
            remedy="write it like: gst:v4l2src device=/dev/video0 ! videoconvert ! video/x-raw,format=BGR ! appsink",
        )
    found = dict(re.findall(r"([\w-]+)\s*=\s*\"?([^\s\"]+)\"?", sink))
    for name, wanted in _NEWEST.items():
        if name in found and not _same(found[name], wanted):
            raise CameraError(
                f"the appsink's {name}={found[name]} would give old frames",
                remedy=f"write {name}={wanted}, or leave it out",
            )
    added = [f"{name}={wanted}" for name, wanted in _NEWEST.items() if name not in found]
    return " ".join([text, *added]), added


def _same(found: str, wanted: str) -> bool:
    value = re.sub(r"^\(\w+\)", "", found).lower()  # GStreamer lets a type stand before the value
    return any(wanted in group and value in group for group in (_TRUE, _FALSE)) or value == wanted


def has_gstreamer(build_information: str) -> bool:
    """Whether OpenCV's build information says that GStreamer is in."""
    return re.search(r"^\s*GStreamer:\s*YES", build_information, re.MULTILINE) is not None


class GStreamerCamera(ReaderCamera):
    """The newest frame of a pipeline that ends in an appsink; frames are stamped when OpenCV hands them over.

    What the pipeline holds back before its appsink can't be known here. It is open once its first picture has come, in
    BGR. open_s, read_s and stop as for StreamCamera.
    """

    def __init__(
        self, pipeline: str, *, open_s: float = OPEN_S, read_s: float = READ_S, stop: threading.Event | None = None
    ) -> None:
        full, added = newest_wins(pipeline)
        cv2: Any = quiet_cv2()
        if not has_gstreamer(cv2.getBuildInformation()):
            raise CameraError(
                f"OpenCV {cv2.__version__} here was built without GStreamer",
                remedy="on a Jetson apt install python3-opencv (JetPack's has it) and pip uninstall opencv-python, "
                "which hides it; elsewhere build OpenCV with WITH_GSTREAMER=ON",
            )
        self.camera_id = f"gst:{pipeline.split(maxsplit=1)[0]}"
        self._reader = Reader(
            self.camera_id,
            lambda: cv2.VideoCapture(full, cv2.CAP_GSTREAMER),
            open_s=open_s,
            read_s=read_s,
            remedy="try it with gst-launch-1.0, and end it like: ... ! videoconvert ! video/x-raw,format=BGR ! appsink",
            see_first=True,
        )
        opened = self._reader.wait_open(stop)
        self._size_hw = opened.size_hw
        self.fps = opened.fps or _ASSUMED_FPS
        self.notes = [
            f"{self.camera_id}: exposure times are unknown, frames are stamped when the appsink gave them",
            f"{self.camera_id}: appsink " + (f"got {' '.join(added)}" if added else f"has {_shown()} as needed"),
        ]
        if not opened.fps:
            self.notes.append(f"{self.camera_id} states no usable rate, {_ASSUMED_FPS:g} frames/s assumed")


def _shown() -> str:
    return " ".join(f"{name}={value}" for name, value in _NEWEST.items())
