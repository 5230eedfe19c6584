"""A V4L2 camera through OpenCV, for devices that V4L2Camera can't read."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from edgetl_runtime.cameras._opencv import quiet_cv2, retrieve
from edgetl_runtime.cameras._v4l2_errors import missing
from edgetl_runtime.errors import CameraError, NoSuchKind
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

_MAX_FAILED_IN_A_ROW = 10
_MAX_STAMP_AGE_NS = 1_000_000_000
_UNKNOWN_FPS = 30.0


class OpenCVCamera:
    """A live camera: one driver buffer, frames stamped when they were captured, numbered as they are read.

    The driver's own stamp is used where it is on CLOCK_MONOTONIC, which V4L2 drivers mostly do; otherwise
    the time right after the grab, before decoding. What the camera does not do as asked is in `notes`.
    pixel_format: the four characters of V4L2 (MJPG, YUYV), asked for first, since sizes and rates depend on it.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        source: str,
        *,
        size_hw: tuple[int, int] | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
    ) -> None:
        number = source.removeprefix("/dev/video")
        if not number.isdecimal():
            raise NoSuchKind(f"{source} is no camera", remedy="give a number, or /dev/video and a number")
        self.camera_id = f"/dev/video{number}"
        if pixel_format is not None and not (len(pixel_format) == 4 and pixel_format.isascii()):
            raise NoSuchKind(f"a pixel format has four characters, like MJPG or YUYV, found {pixel_format!r}")
        _check_device(self.camera_id)
        index = int(number)
        cv2 = quiet_cv2()
        self._cv2 = cv2
        self._capture: Any = cv2.VideoCapture(index, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(
                f"{self.camera_id} can't be opened", remedy="check that no other program uses it (fuser -v)"
            )
        self.failed = 0
        self.notes: list[str] = []
        self._ask("buffer count", cv2.CAP_PROP_BUFFERSIZE, 1)
        if pixel_format:
            self._ask_format(pixel_format)
        if size_hw:
            self._ask("width", cv2.CAP_PROP_FRAME_WIDTH, size_hw[1])
            self._ask("height", cv2.CAP_PROP_FRAME_HEIGHT, size_hw[0])
        if fps:
            self._ask("rate", cv2.CAP_PROP_FPS, fps)
        stated = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = stated if math.isfinite(stated) and stated > 0 else _UNKNOWN_FPS
        self.size_hw = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )
        self._pool = FramePool()
        self._next_id = 0

    def _ask(self, what: str, key: int, value: float) -> None:
        """Set one property and read it back; a difference becomes a note."""
        self._capture.set(key, value)
        found = float(self._capture.get(key))
        if abs(found - value) > 0.01 * value:
            self.notes.append(f"{self.camera_id}: {what} {value:g} asked, {found:g} found")

    def _ask_format(self, wanted: str) -> None:
        """Set the pixel format and read it back."""
        key = self._cv2.CAP_PROP_FOURCC
        self._capture.set(key, self._cv2.VideoWriter_fourcc(*wanted))
        stated = float(self._capture.get(key))
        code = int(stated) if math.isfinite(stated) and 0 < stated < 2**32 else 0
        found = code.to_bytes(4, "little").decode("latin-1").strip("\0 ") if code else "none"
        if found != wanted.strip():
            self.notes.append(f"{self.camera_id}: pixel format {wanted} asked, {found} found")

    def read(self) -> Frame | None:
        """The next frame. Raises CameraError where the camera is gone or gives no frame that decodes."""
        for _ in range(_MAX_FAILED_IN_A_ROW):
            if self._capture is None:
                return None
            if not self._capture.grab():
                raise CameraError(f"{self.camera_id} gives no more frames", remedy="check its cable and its power")
            stamp = self._stamp(time.monotonic_ns())
            frame_id, self._next_id = self._next_id, self._next_id + 1
            image = retrieve(self._capture, self._pool, self.size_hw)
            if image is not None:
                return Frame(image, frame_id, self.camera_id, stamp)
            self.failed += 1
        raise CameraError(f"{self.camera_id}: {_MAX_FAILED_IN_A_ROW} frames in a row could not be decoded")

    def _stamp(self, now_ns: int) -> int:
        """The driver's capture time where it is plausible on our clock, else `now_ns`."""
        stated_ms = float(self._capture.get(self._cv2.CAP_PROP_POS_MSEC))
        if not math.isfinite(stated_ms):
            return now_ns
        stated_ns = int(stated_ms * 1e6)
        return stated_ns if 0 <= now_ns - stated_ns < _MAX_STAMP_AGE_NS else now_ns

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _check_device(device: str) -> None:
    if not Path(device).exists():
        raise missing(device)
