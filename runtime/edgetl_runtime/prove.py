"""How old results really are: a time code is filmed, read back from frames, and compared with the stamps.

The code is a QR code of this machine's CLOCK in milliseconds. A stamp can only say when a frame was handed over; what
the sensor, the encoder, the network and the driver did before that, the code says. `python -m edgetl_runtime.prove`
shows it in a window for the camera to look at.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result

DIGITS = 12
MAX_HELD = 32
PAUSE_S = 1.5
"""Longer than any camera's own buffers last at the rates that are in use."""
_WINDOW = "edgetl time code"


def draw_code(t_ns: int, side: int) -> NDArray[np.uint8]:
    """A time on CLOCK as a QR code with its quiet zone, (side, side) uint8, black on white."""
    cv2 = _cv2()
    code = cv2.QRCodeEncoder.create().encode(f"{t_ns // 1_000_000:0{DIGITS}d}")
    framed = cv2.copyMakeBorder(code, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=255)
    drawn: NDArray[np.uint8] = cv2.resize(framed, (side, side), interpolation=cv2.INTER_NEAREST)
    return drawn


def read_code(image: NDArray[np.uint8]) -> int | None:
    """The time in ns that a frame shows, to the millisecond; None where there is no code that can be read."""
    cv2 = _cv2()
    try:
        text = cv2.QRCodeDetector().detectAndDecode(image)[0]
    except cv2.error:
        return None
    if len(text) != DIGITS or not text.isdecimal():
        return None
    return int(text) * 1_000_000


def check_codes() -> None:
    """Raise InputError where this OpenCV can't draw codes, or not read them: Debian's 4.6 was built without QUIRC."""
    cv2 = _cv2()
    if not hasattr(cv2, "QRCodeEncoder") or read_code(cv2.cvtColor(draw_code(0, 290), cv2.COLOR_GRAY2BGR)) is None:
        raise InputError(
            f"OpenCV {cv2.__version__} here was built without QR codes, which --prove films",
            remedy="pip install opencv-python, or build OpenCV with WITH_QUIRC=ON",
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some times in milliseconds."""

    p50_ms: float
    p95_ms: float
    max_ms: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Spread:
        """Raises ValueError for none."""
        p50, p95 = (float(v) for v in np.percentile(values_ms, [50, 95]))
        return cls(round(p50, 1), round(p95, 1), round(float(max(values_ms)), 1))


@dataclass(frozen=True, slots=True)
class Proof:
    """What the code showed. read, unread: frames that were looked at, with and without a code that could be read.

    before_stamp: from the picture to the frame's stamp, which no stamp knows of. to_result: from the picture to the
    published result. held: how many old frames the camera and its driver had kept while nobody read, None where that
    was not tried.
    """

    read: int
    unread: int
    before_stamp: Spread | None
    to_result: Spread | None
    held: int | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """For people."""
        if self.before_stamp is None or self.to_result is None:
            return f"the time code was in none of {self.unread} frames: is it large, sharp and whole in the picture?"
        held = "" if self.held is None else f"; the camera keeps {self.held} old frames when nobody reads"
        stamp, result = self.before_stamp, self.to_result
        return (
            f"picture to stamp {stamp.p50_ms:.0f} ms (p95 {stamp.p95_ms:.0f}, most {stamp.max_ms:.0f}), picture to "
            f"result {result.p50_ms:.0f} ms (p95 {result.p95_ms:.0f}, most {result.max_ms:.0f}), "
            f"{self.read} of {self.read + self.unread} frames read{held}"
        )


class ProveSink:
    """Reads the code from results' frames in a thread of its own, the newest that there is, as fast as it can."""

    needs_picture = False
    stop = False

    def __init__(self, *, held: int | None = None) -> None:
        self._held = held
        self._before_ms: list[float] = []
        self._result_ms: list[float] = []
        self._unread = 0
        self._slot: tuple[Result, NDArray[np.uint8]] | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="prove", daemon=True)
        self._thread.start()

    @property
    def proof(self) -> Proof:
        """What was found until now."""
        some = bool(self._before_ms)
        return Proof(
            read=len(self._before_ms),
            unread=self._unread,
            before_stamp=Spread.of(self._before_ms) if some else None,
            to_result=Spread.of(self._result_ms) if some else None,
            held=self._held,
        )

    @property
    def notes(self) -> list[str]:
        """For the end of a run."""
        return [f"proof of freshness: {self.proof}"]

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Offer one frame; it replaces one that was not looked at yet."""
        with self._changed:
            self._slot = (result, frame.image)
            self._changed.notify_all()

    def event(self, event: Event) -> None:
        """Events say nothing about age."""

    def close(self) -> None:
        """Look at the last frame, then end; twice is fine."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(10.0)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._closing)
                if self._slot is None:
                    return
                (result, image), self._slot = self._slot, None
            shown_ns = read_code(image)
            if shown_ns is None:
                self._unread += 1
            else:
                self._before_ms.append((result.t_capture_ns - shown_ns) / 1e6)
                self._result_ms.append((result.t_publish_ns - shown_ns) / 1e6)


def held_frames(camera: Camera, *, pause_s: float = PAUSE_S) -> int:
    """How many frames from before a pause in reading a live camera still gives after it.

    Raises CameraError where the camera ends, or no frame shows the code.
    """
    usual = [_next(camera) for _ in range(3)]
    delays = [f.t_capture_ns - shown for f in usual if (shown := read_code(f.image)) is not None]
    time.sleep(pause_s)
    resumed_ns = time.monotonic_ns()
    oldest_new_ns = resumed_ns - min(delays, default=0) - int(1e9 / camera.fps)
    held = 0
    for _ in range(MAX_HELD if delays else 0):
        shown_ns = read_code(_next(camera).image)
        if shown_ns is not None and shown_ns >= oldest_new_ns:
            return held
        held += shown_ns is not None
    if not held:
        raise CameraError("no frame shows the time code", remedy="let the camera look at it, large and sharp")
    return held


def _next(camera: Camera) -> Frame:
    frame = camera.read()
    if frame is None:
        raise CameraError(f"{camera.camera_id} ended before its buffers were measured")
    return frame


class CodeWindow:
    """The code in a window of a process of its own, so that showing it does not wait for the loop."""

    def __init__(self) -> None:
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError(
                "the time code needs a display to be shown on, and none is set here",
                remedy="give --prove source where the camera sees it already",
            )
        self._process = subprocess.Popen([sys.executable, "-m", "edgetl_runtime.prove"], stdin=subprocess.DEVNULL)
        time.sleep(1.0)  # until it is on the screen

    def close(self) -> None:
        """Take it off the screen."""
        self._process.terminate()
        self._process.wait(10)


def show() -> None:
    """The window, until it is closed with q or Escape."""
    cv2 = _cv2()
    cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL)
    cv2.resizeWindow(_WINDOW, 720, 720)
    while cv2.waitKey(1) & 0xFF not in (ord("q"), 27):
        cv2.imshow(_WINDOW, draw_code(time.monotonic_ns(), 720))


if __name__ == "__main__":
    show()
