"""A camera on Linux' V4L2, read by the kernel's own calls: OpenCV tells neither its numbers nor what its stamps are.

Checked against the kernel's header and a driver in memory that keeps its rules; no real camera was at hand.
"""

from __future__ import annotations

import math
import re
import threading
import time
from typing import TYPE_CHECKING

from edgetl_runtime.cameras import _v4l2_kernel as v4l2
from edgetl_runtime.cameras._opencv import quiet_cv2
from edgetl_runtime.cameras._v4l2_device import Device
from edgetl_runtime.cameras._v4l2_formats import PIXEL_FORMATS, decode
from edgetl_runtime.errors import CameraError, NoSuchKind
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ_S = 5.0
"""A camera that gives nothing for so long has failed."""

_MAX_FAILED_IN_A_ROW = 10
_STEP_S = 0.1
_CLOSE_S = 1.0
_SLACK = 1.2
_HALF = 1 << 31
_SILENT_FOR = 10
_LEAST_MOST_AGE_NS = 1_000_000_000


class V4L2Camera:
    """A live camera: the newest frame of a few driver buffers, stamped by the driver.

    source: a number, /dev/videoN, or a link under /dev/v4l that names the device for good. pixel_format: one of
    PIXEL_FORMATS; without it the first of these that the camera states to give in this size at 25 frames/s (or fps),
    otherwise the fastest, so raw where the bus allows it and MJPG elsewhere. size_hw: without it what the device has.

    Newest wins: of several filled buffers the older ones go back unseen, and where the driver had none left for what
    came later, those that are filled may be old and none of them is used. Frame ids are the driver's sequence numbers,
    its first being 0, so that whatever was lost or passed over is a gap; where it doesn't count, buffers are counted.
    Stamps are the driver's where it says that they are CLOCK_MONOTONIC's and they can be true (not in the future, not
    much older than the buffers allow, never before the last one), otherwise the time at which the frame was taken from
    the driver. `notes` says which, and what differs from what was asked for.

    `failed` counts buffers that the driver marked as broken and pictures that are not whole. Raises CameraError where
    the device is missing, busy, not allowed, no camera, unplugged, or silent for read_s.
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
        read_s: float = READ_S,
        kernel: v4l2.Kernel | None = None,
    ) -> None:
        self.camera_id = device_of(source)
        _check_wishes(fps, pixel_format)
        if not v4l2.SUPPORTED:
            raise CameraError(
                "V4L2 is read by 64-bit Python on x86-64 and aarch64 only", remedy=f"give opencv:{source}"
            )
        self._cv2 = quiet_cv2()
        self._read_s = read_s
        self.failed = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._closing = False
        self._pool = FramePool()
        self._numbers = _Numbers()
        self._last_ns = 0
        self._device = Device(self.camera_id, kernel or v4l2.LinuxKernel())
        try:
            self._device.agree(size_hw, fps, pixel_format)
            self._device.start()
        except BaseException:
            self._device.close()
            raise
        self._looked_ns = time.monotonic_ns()
        self.fps, self.size_hw, self.notes = self._device.fps, self._device.layout.size_hw, self._device.notes
        self._most_age_ns = max(_LEAST_MOST_AGE_NS, int((self._device.count + 1) / self.fps * 1e9))
        self._driver_stamps = self._device.buffer_flags & v4l2.TIMESTAMP_MASK == v4l2.TIMESTAMP_MONOTONIC
        self._note(_stamps_note(self._device.buffer_flags))

    def read(self) -> Frame | None:
        """The newest frame, None once closed; waits for it."""
        with self._lock:
            try:
                return self._read()
            finally:
                if self._closing:
                    self._device.close()

    def interrupt(self) -> None:
        """End a `read` that waits, within 0.1 s; any thread may call this."""
        self._stop.set()

    def close(self) -> None:
        """Let go of the device; from another thread, a `read` is ended first.

        Where that hangs in its driver for over a second it is left to it, and the device closed when it comes back.
        """
        self._stop.set()
        self._closing = True
        if self._lock.acquire(timeout=_CLOSE_S):
            try:
                self._device.close()
            finally:
                self._lock.release()

    def _read(self) -> Frame | None:
        until_s = time.monotonic() + self._read_s
        fresh = ready = False
        failed = 0
        while not self._stop.is_set():
            since_ns, queued = self._looked_ns, self._device.queued
            buffer, taken = self._newest()
            if buffer is None:
                if time.monotonic() > until_s:
                    raise CameraError(
                        f"{self.camera_id} gave no frame for {self._read_s:g} s", remedy="check its cable and its power"
                    )
                fresh = True
                if ready:  # the driver said so, and had nothing: don't ask it without pause
                    self._stop.wait(_STEP_S)
                ready = self._device.wait(_STEP_S)
                self._looked_ns = min(time.monotonic_ns(), self._looked_ns + int(_STEP_S * 1e9))  # it may oversleep
                continue
            until_s, ready = time.monotonic() + self._read_s, False
            if self._may_be_old(taken, since_ns) or (taken == queued and not fresh):
                self._device.give(buffer)
                fresh = True
                continue
            frame = self._frame(buffer)
            if frame is not None:
                return frame
            failed += 1
            if failed == _MAX_FAILED_IN_A_ROW:
                raise CameraError(f"{self.camera_id}: {failed} frames in a row could not be decoded")
        return None

    def _may_be_old(self, taken: int, since_ns: int) -> bool:
        """Whether more time went by than these frames account for: some that came later found no buffer.

        That none is left tells it too, but some drivers keep one or two for themselves.
        """
        return (self._looked_ns - since_ns) / 1e9 > (taken + _SLACK) / self.fps

    def _newest(self) -> tuple[v4l2.Buffer | None, int]:
        """The last of the filled buffers, and how many there were; the others are queued again."""
        newest: v4l2.Buffer | None = None
        taken = 0
        while taken < self._device.count and (buffer := self._device.take()) is not None:
            taken += 1
            self._numbers.count(buffer.sequence)
            self.failed += bool(buffer.flags & v4l2.FLAG_ERROR)
            if newest is not None:
                self._device.give(newest)
            newest = buffer
        self._looked_ns = time.monotonic_ns()
        return newest, taken

    def _frame(self, buffer: v4l2.Buffer) -> Frame | None:
        """The frame in a buffer, which is queued again; None where it is broken."""
        stamp_ns = self._stamp(buffer, time.monotonic_ns())
        image: NDArray[np.uint8] | None = None
        try:
            if not buffer.flags & v4l2.FLAG_ERROR:
                layout = self._device.layout
                out = self._pool.take(*layout.size_hw) if layout.is_raw else None
                image = decode(self._cv2, layout, self._device.memory(buffer), buffer.bytesused, out)
                self.failed += image is None
        finally:
            self._device.give(buffer)
        if image is None:
            return None
        if self._numbers.silent:
            self._note("the driver doesn't number its frames, so those that it loses can't be counted")
        self._last_ns = stamp_ns
        return Frame(image, self._numbers.number, self.camera_id, stamp_ns)

    def _stamp(self, buffer: v4l2.Buffer, now_ns: int) -> int:
        if not self._driver_stamps:
            return now_ns
        stated_ns = buffer.seconds * 1_000_000_000 + buffer.microseconds * 1000
        if 0 <= now_ns - stated_ns < self._most_age_ns and stated_ns >= self._last_ns:
            return stated_ns
        self._note("some of the driver's stamps can't be true, those frames are stamped when they were taken from it")
        return now_ns

    def _note(self, text: str) -> None:
        note = f"{self.camera_id}: {text}"
        if note not in self.notes:
            self.notes.append(note)


class _Numbers:
    """Frame numbers from a driver's 32-bit sequence, rising by one where that stands still or runs backwards.

    silent: it has not risen for the first buffers, so it never will.
    """

    def __init__(self) -> None:
        self.number = -1
        self.silent = False
        self._last = 0
        self._risen = False

    def count(self, sequence: int) -> None:
        """One more buffer was taken."""
        step = (sequence - self._last) % (1 << 32)
        rises = self.number >= 0 and 0 < step < _HALF
        self.number += step if rises else 1
        self._risen = self._risen or rises
        self.silent = not self._risen and self.number + 1 >= _SILENT_FOR
        self._last = sequence


def device_of(source: str) -> str:
    """The device's path. Raises CameraError for what can't be one."""
    path = f"/dev/video{source}" if source.isdecimal() else source
    if not re.fullmatch(r"/dev/video[0-9]+|/dev/v4l/.+", path):
        raise NoSuchKind(
            f"{source} is no camera", remedy="give a number, /dev/video and a number, or a link under /dev/v4l"
        )
    return path


def _check_wishes(fps: float | None, pixel_format: str | None) -> None:
    if fps is not None and not (math.isfinite(fps) and 0.01 <= fps <= 10_000):
        raise NoSuchKind(f"a rate must be from 0.01 to 10000 frames/s, found {fps:g}")
    if pixel_format is not None and pixel_format not in PIXEL_FORMATS:
        raise NoSuchKind(
            f"the pixel format {pixel_format!r} can't be decoded here",
            remedy=f"choose one of {', '.join(PIXEL_FORMATS)}",
        )


def _stamps_note(flags: int) -> str:
    if flags & v4l2.TIMESTAMP_MASK != v4l2.TIMESTAMP_MONOTONIC:
        return "the driver's stamps are on no known clock, frames are stamped when they were taken from it"
    if flags & v4l2.SOURCE_MASK == v4l2.SOURCE_START_OF_EXPOSURE:
        return "frames carry the driver's stamp of the start of exposure"
    return "frames carry the driver's stamp of the end of the frame, after exposure and readout"
