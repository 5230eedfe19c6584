"""A thread that reads an OpenCV capture, and that can be left behind where OpenCV does not come back."""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgetl_runtime.cameras._arrivals import Arrivals
from edgetl_runtime.cameras._opencv import BGR, channels_of, decoded
from edgetl_runtime.errors import CameraError
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_STUCK = 4
"""So many threads may hang in OpenCV before no more captures are opened; each holds a socket and its buffers."""
GRACE_S = 0.5
"""OpenCV's own time-out gets so much longer before its thread is left behind."""

_MAX_FAILED_IN_A_ROW = 10
_PARSED = ("h264", "avc1", "hevc", "hev1", "hvc1", "mp4v", "fmp4", "mpg1", "mpg2")
_JOIN_S = 0.5
_STEP_S = 0.05
_left_behind: list[threading.Thread] = []
_lock = threading.Lock()
_running: weakref.WeakSet[Reader] = weakref.WeakSet()


def stuck_threads() -> int:
    """How many threads that were left behind still hang; one that comes back lets go of its capture and ends."""
    with _lock:
        _left_behind[:] = [t for t in _left_behind if t.is_alive()]
        return len(_left_behind)


def _stop_all() -> None:
    """At exit. A thread that came back from OpenCV into an interpreter that is being taken down would abort the
    process: Python ends it by unwinding, which OpenCV's destructors don't allow."""
    readers = list(_running)
    for reader in readers:
        reader.interrupt()
    for reader in readers:
        reader.close()


@dataclass(frozen=True, slots=True)
class Grabbed:
    """image (H, W, 3) uint8 BGR; number counts from 0, those that nobody took included; stamp_ns on CLOCK."""

    image: NDArray[np.uint8]
    number: int
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What the capture states: size_hw (0, 0) and fps 0 where it states nothing usable; frame_count 0 for no end;
    codec in small letters, h264 or mjpg, "" where it is not stated."""

    size_hw: tuple[int, int]
    fps: float
    frame_count: int
    codec: str = ""

    @property
    def held_back(self) -> bool:
        """Whether FFmpeg hands a picture over only when the next begins: its parsers find a picture's end so."""
        return self.codec in _PARSED


class Reader:
    """Opens a capture and reads it without pause, so that nothing old piles up in a socket; keeps the newest frame.

    open_capture runs in the thread and may block; so may every grab. Whoever waits here waits for the time-out and
    GRACE_S at most. name: of the camera, for messages; it must hold no secret. remedy: what to do where it can't be
    opened. catch_up: pass over what was waiting when the capture was opened, see Arrivals. see_first: it is open once
    the first frame has come.
    """

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Any],
        *,
        open_s: float,
        read_s: float,
        remedy: str,
        catch_up: bool = False,
        see_first: bool = False,
    ) -> None:
        if stuck_threads() >= MAX_STUCK:
            raise CameraError(
                f"{name} is not opened: {MAX_STUCK} threads already hang in OpenCV, which ignores its time-outs",
                remedy="restart the program; another build of OpenCV or a gst: pipeline may do better",
            )
        self.name = name
        self.failed = 0
        self.opened: Opened | None = None
        self._open_capture, self._open_s, self._read_s = open_capture, open_s, read_s
        self._remedy, self._catch_up, self._see_first = remedy, catch_up, see_first
        self._pool = FramePool()
        self._changed = threading.Condition()
        self._newest: Grabbed | None = None
        self._ended = ""
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"read {name}", daemon=True)
        with _lock:
            if not _running:
                atexit.unregister(_stop_all)
                atexit.register(_stop_all)
            _running.add(self)
        self._thread.start()

    def wait_open(self, stop: threading.Event | None = None) -> Opened:
        """What was opened. Raises CameraError where that fails, takes too long, or `stop` is set meanwhile."""
        until_s = time.monotonic() + self._open_s + GRACE_S
        while True:
            with self._changed:
                self._changed.wait_for(self._has_news, _STEP_S)
                if self.opened is not None:
                    return self.opened
                ended = self._ended
            if not ended and time.monotonic() > until_s:
                ended = f"did not open within {self._open_s:g} s"
            elif not ended and stop is not None and stop.is_set():
                ended = "was closed while it was opened"
            if ended:
                self.close(join_s=0.0)
                raise CameraError(f"{self.name} {ended}", remedy=self._remedy)

    def read(self) -> Grabbed | None:
        """The newest frame that was not given yet, None once closed. Raises CameraError where there are no more."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._newest or self._ended or self._stopping, self._read_s + GRACE_S)
            if self._stopping:
                return None
            if self._newest is not None:
                grabbed, self._newest = self._newest, None
                return grabbed
            reason = self._ended if came else f"gave no frame for {self._read_s:g} s"
        raise CameraError(f"{self.name} {reason}", remedy="check its power and its network")

    def interrupt(self) -> None:
        """Whoever waits in `read` gets None; any thread may call this."""
        with self._changed:
            self._stopping = True
            self._newest = None
            self._changed.notify_all()

    def close(self, *, join_s: float = _JOIN_S) -> None:
        """Stop and let go of the capture; a thread that does not come back in time is left behind and counted."""
        self.interrupt()
        if self._thread.is_alive():
            self._thread.join(join_s)
        if self._thread.is_alive():
            with _lock:
                if self._thread not in _left_behind:
                    _left_behind.append(self._thread)

    def _has_news(self) -> bool:
        return self.opened is not None or bool(self._ended)

    def _work(self) -> None:
        ended = "ended"
        capture: Any = None
        start_s = time.monotonic()
        try:
            capture = self._open_capture()
            if not capture.isOpened():
                late = time.monotonic() - start_s > 0.9 * self._open_s
                ended = f"did not open within {self._open_s:g} s" if late else "can't be opened"
                return
            stated = _stated(capture)
            if not self._see_first:
                self._say_opened(stated)
            ended = self._grab_all(capture, stated)
        except Exception as error:  # of cv2: reported where somebody waits, without the address that it may hold
            ended = f"failed in OpenCV ({type(error).__name__})"
        finally:
            if capture is not None:
                capture.release()
            with self._changed:
                self._ended = ended
                self._changed.notify_all()

    def _say_opened(self, opened: Opened) -> None:
        with self._changed:
            self.opened = opened
            self._changed.notify_all()

    def _grab_all(self, capture: Any, stated: Opened) -> str:
        """Grab until stopped; returns why it ended."""
        number = in_a_row = 0
        size_hw = stated.size_hw
        arrivals = Arrivals(held_back=stated.held_back) if self._catch_up else None
        while not self._stopping:
            start_s = time.monotonic()
            if not capture.grab():
                late = time.monotonic() - start_s > 0.9 * self._read_s
                return f"gave no frame for {self._read_s:g} s" if late else "ended its stream"
            now_ns = time.monotonic_ns()
            stamp_ns = arrivals.came_ns(now_ns, _position_ms(capture)) if arrivals else now_ns
            if stamp_ns is None:
                continue
            image = decoded(capture, self._pool, size_hw)
            number += 1
            if image is None:
                self.failed += 1
                in_a_row += 1
                if in_a_row == _MAX_FAILED_IN_A_ROW:
                    return f"gave {in_a_row} frames in a row that could not be decoded"
                continue
            if (channels := channels_of(image)) != BGR:
                return f"gives pictures with {channels} channel{'s' if channels > 1 else ''}, not the {BGR} of BGR"
            in_a_row = 0
            size_hw = (image.shape[0], image.shape[1])  # a stream may change its size, or state none before a frame
            if self.opened is None:
                self._say_opened(replace(stated, size_hw=size_hw))
            with self._changed:
                self._newest = Grabbed(image, number - 1, stamp_ns)
                self._changed.notify_all()
            del image
        return "was closed"


def _stated(capture: Any) -> Opened:
    import cv2

    height, width, fps, count = (
        float(capture.get(key))
        for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)
    )
    usable = [v if math.isfinite(v) and 0 < v < 1e9 else 0.0 for v in (height, width, fps, count)]
    return Opened((int(usable[0]), int(usable[1])), usable[2], int(usable[3]), _codec(capture.get(cv2.CAP_PROP_FOURCC)))


def _codec(stated: float) -> str:
    code = int(stated) if math.isfinite(stated) and 0 < stated < 2**32 else 0
    text = code.to_bytes(4, "little").decode("latin-1").lower()
    return text if text.isalnum() else ""


def _position_ms(capture: Any) -> float:
    import cv2

    position_ms = float(capture.get(cv2.CAP_PROP_POS_MSEC))
    return position_ms if math.isfinite(position_ms) else 0.0


class ReaderCamera:
    """A live camera whose frames come from a Reader; whoever opens it sets `_reader` and `_size_hw`, and the rest."""

    live = True
    frame_count: int | None = None
    camera_id: str
    _reader: Reader
    _size_hw: tuple[int, int]

    @property
    def failed(self) -> int:
        """Frames that could not be converted to BGR."""
        return self._reader.failed

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the frame read last, before that as the source states them."""
        return self._size_hw

    def read(self) -> Frame | None:
        """The newest frame, None once closed. Raises CameraError where the source ends, stalls or fails."""
        grabbed = self._reader.read()
        if grabbed is None:
            return None
        self._size_hw = (grabbed.image.shape[0], grabbed.image.shape[1])
        return Frame(grabbed.image, grabbed.number, self.camera_id, grabbed.stamp_ns)

    def interrupt(self) -> None:
        """End a `read` that waits; any thread may call this."""
        self._reader.interrupt()

    def close(self) -> None:
        """Let go of the source, within half a second: a thread that hangs is left to end by itself."""
        self._reader.close()
