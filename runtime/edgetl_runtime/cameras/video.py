"""A video file through OpenCV's FFmpeg."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from edgetl_runtime.cameras._ffmpeg_options import GATE
from edgetl_runtime.cameras._opencv import quiet_cv2, retrieve
from edgetl_runtime.errors import CameraError
from edgetl_runtime.machine import usable_cores
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    from pathlib import Path

_ASSUMED_FPS = 30.0


class VideoCamera:
    """Every frame of a file, in order; the stamp is taken when a frame is asked for, before it is decoded."""

    live = False

    def __init__(self, path: Path) -> None:
        cv2 = quiet_cv2()
        _refuse_text(path)
        self._path = path
        self._cv2 = cv2
        with GATE.using(""):  # a stream that is opened at the same time has options that would spoil a file
            self._capture: Any = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, _half_the_cores(cv2))
        if not self._capture.isOpened():
            raise CameraError(
                f"{path} can't be opened as a video", remedy="check that it is complete and that OpenCV plays it"
            )
        self.camera_id = path.name
        self.failed = 0
        self.notes: list[str] = []
        self._count = self._int(cv2.CAP_PROP_FRAME_COUNT)
        self._size_hw = (self._int(cv2.CAP_PROP_FRAME_HEIGHT), self._int(cv2.CAP_PROP_FRAME_WIDTH))
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            self.notes.append(f"{path.name} states no usable rate, {_ASSUMED_FPS:g} frames/s assumed")
            self.fps = _ASSUMED_FPS
        self._pool = FramePool()
        self._next_id = 0
        self._media_time_s = -1.0

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width that the file states."""
        return self._size_hw

    @property
    def frame_count(self) -> int | None:
        """How many frames the file states; None where it states none."""
        return self._count if self._count > 0 else None

    def read(self) -> Frame | None:
        """The next frame that can be decoded, None at the end; those that can't are counted in `failed`."""
        while self._capture is not None:
            stamp = time.monotonic_ns()
            if not self._capture.grab():
                self._note_early_end()
                return None
            frame_id, self._next_id = self._next_id, self._next_id + 1
            self._media_time_s = self._time_of(frame_id)
            image = retrieve(self._capture, self._pool, self._size_hw)
            if image is not None:
                return Frame(image, frame_id, self.camera_id, stamp, self._media_time_s)
            self.failed += 1
        return None

    def _time_of(self, frame_id: int) -> float:
        """The container's time of the grabbed frame, or the rate's where that does not advance."""
        stated = float(self._capture.get(self._cv2.CAP_PROP_POS_MSEC)) / 1e3
        return stated if math.isfinite(stated) and stated > self._media_time_s else frame_id / self.fps

    def _note_early_end(self) -> None:
        if self._next_id == 0:
            raise CameraError(f"{self._path} holds no frame that can be decoded")
        if self._next_id < 0.95 * self._count:
            self.notes.append(f"{self.camera_id} ended after {self._next_id} of {self._count} frames")
        self._count = self._next_id

    def _int(self, key: int) -> int:
        value = float(self._capture.get(key))
        return int(value) if math.isfinite(value) and value > 0 else 0

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _half_the_cores(cv2: Any) -> list[int]:
    """Parameters that leave the other half to the engine: on two cores two decoding threads took 40 % more of the
    processor's time than one. Nothing for an OpenCV older than the option.
    """
    threads = max(1, usable_cores() // 2)
    return [cv2.CAP_PROP_N_THREADS, threads] if hasattr(cv2, "CAP_PROP_N_THREADS") else []


def _refuse_text(path: Path) -> None:
    """FFmpeg would play a text file as a picture of its letters; a video has zero bytes early on."""
    try:
        with path.open("rb") as stream:
            start = stream.read(65536)
    except OSError as error:
        raise CameraError(f"can't read {path}: {error.strerror}", remedy="check its permissions") from error
    if b"\0" not in start:
        raise CameraError(f"{path} is no video", remedy="give a video file, a camera or a folder of images")
