"""Frames from another process, through shared memory. SharedFrames, in shared_frames.py, writes them.

Why no frame is ever torn. A slot's sequence is odd while it is written and 2 * number afterwards; the reader takes it
before and after its copy, and the copy counts only where both are the same even number. That needs the stores, and
the loads, to become visible in program order. x86 keeps both orders by itself. ARM does not, and Python has no barrier
to write down, so the writer releases and takes a lock between them: on ARMv8 a store-release followed by a
load-acquire is a barrier for everything before and after. The reader copies with pread, and the kernel takes and drops
a reference to each page with fully ordered atomics on either side of the copy. Since neither can be proven from here,
a checksum decides in the end: the writer sums what it wrote, the reader sums what it got.

Why pread and no mapping in the reader: a producer that cuts its file short would kill a reader that maps it (SIGBUS);
pread only gives less. And multiprocessing.shared_memory is not used because its resource tracker, before Python 3.13,
removes the memory when any process that opened it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import time

from edgetl_runtime.cameras._shared_layout import (
    FILE_HEADER,
    NEWEST_AT,
    PAGE,
    SLOT_HEADER,
    FileHeader,
    SlotHeader,
    check_slot,
    checksum,
    parse_file_header,
    path_of,
)
from edgetl_runtime.errors import CameraError
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

STALL_S = 2.0
_POLL_S = 0.001
_AGAIN_S = 0.0001
_LOOK_EVERY_S = 0.05
_ASSUMED_FPS = 30.0
_FUTURE_NS = 1_000_000
_TRIES = 50


class SharedCamera:
    """The newest frame that a SharedFrames of this name publishes, each at most once, copied and checked.

    Frames that were there before this camera was opened are never given. Stamps and frame ids are the producer's.
    Raises CameraError, here or in `read`, where there is no producer, it ended or was killed (seen within 50 ms), it
    was restarted (another generation), it gives nothing for stall_s, or what it wrote can't be. `torn` counts copies
    that were overtaken by the writer and done again.
    """

    live = True
    frame_count: int | None = None

    def __init__(self, name: str, *, stall_s: float = STALL_S) -> None:
        self.camera_id = f"shm:{name}"
        self.failed = 0
        self.torn = 0
        self.fps = _ASSUMED_FPS
        self.notes = [f"{self.camera_id}: its producer states no rate, {_ASSUMED_FPS:g} frames/s assumed"]
        self._path = path_of(name)
        self._stall_s = stall_s
        self._stop = threading.Event()
        self._pool = FramePool()
        self._fd, self._file = self._open()
        self.generation = self._file.generation
        self._number = self._newest()
        self._size_hw = self._size_of_newest()
        owner = os.fstat(self._fd).st_uid
        if owner not in (0, os.geteuid()):
            self.notes.append(f"{self.camera_id}: written by another user, {owner}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the newest frame; (0, 0) before the producer's first."""
        return self._size_hw

    def read(self) -> Frame | None:
        """The next newest frame, None once closed; waits for it."""
        looked_s = start_s = time.monotonic()
        while not self._stop.is_set():
            newest = self._newest()
            if newest != self._number:
                frame = self._take(newest)
                if frame is not None:
                    return frame
            now_s = time.monotonic()
            if now_s - looked_s >= _LOOK_EVERY_S:
                looked_s = now_s
                if gone := self._gone():
                    raise self._error(gone)
            if now_s - start_s >= self._stall_s:
                raise self._error(f"its producer (process {self._file.pid}) gave no frame for {self._stall_s:g} s")
            self._stop.wait(_POLL_S if newest == self._number else _AGAIN_S)
        return None

    def interrupt(self) -> None:
        """End a `read` that waits; any thread may call this."""
        self._stop.set()

    def close(self) -> None:
        """Let go of the memory."""
        self._stop.set()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, newest: int) -> Frame | None:
        """Frame `newest`, or None where the writer overtook the copy."""
        start = PAGE + newest % self._file.slots * self._file.slot_bytes
        before = self._slot(start)
        if before.sequence != 2 * newest or before.number != newest:
            self.torn += 1
            return None
        try:
            check_slot(before, self._file.slot_bytes)
        except ValueError as error:
            if self._slot(start) != before:
                self.torn += 1
                return None
            raise self._error(str(error)) from error
        image = self._pool.take(before.height, before.width)
        flat = image.reshape(-1)
        got = os.preadv(self._fd, [flat.data], start + PAGE)
        if self._slot(start) != before or (got == len(flat) and checksum(flat, *before[1:8]) != before.checksum):
            self.torn += 1
            return None
        if got != len(flat):
            raise self._error("its file was cut short")
        if before.t_capture_ns > time.monotonic_ns() + _FUTURE_NS:
            raise self._error("a frame's stamp lies in the future, so it is not on this machine's CLOCK_MONOTONIC")
        self._number = newest
        self._size_hw = (before.height, before.width)
        return Frame(image, before.frame_id, self.camera_id, before.t_capture_ns)

    def _size_of_newest(self) -> tuple[int, int]:
        for _ in range(_TRIES if self._number else 0):
            newest = self._newest()
            slot = self._slot(PAGE + newest % self._file.slots * self._file.slot_bytes)
            if slot.sequence == 2 * newest:
                with contextlib.suppress(ValueError):
                    check_slot(slot, self._file.slot_bytes)
                    return slot.height, slot.width
        return 0, 0

    def _newest(self) -> int:
        return int.from_bytes(self._pread(8, NEWEST_AT), "little")

    def _slot(self, start: int) -> SlotHeader:
        return SlotHeader(*SLOT_HEADER.unpack(self._pread(SLOT_HEADER.size, start)))

    def _pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise self._error("its file was cut short")
        return data

    def _open(self) -> tuple[int, FileHeader]:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._error("no producer has that name", remedy="start it first") from error
        except OSError as error:
            raise self._error(f"it can't be opened ({error.strerror})") from error
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise ValueError("it is no regular file")
            header = parse_file_header(os.pread(fd, FILE_HEADER.size, 0), about.st_size)
            if not _locked(fd):
                raise self._error("its producer is gone", remedy="start it again")
        except ValueError as error:
            os.close(fd)
            raise self._error(f"{self._path} can't be read: {error}") from error
        except BaseException:
            os.close(fd)
            raise
        return fd, header

    def _gone(self) -> str:
        """Why no more frames come from this file; nothing where its producer lives."""
        try:
            replaced = self._path.stat().st_ino != os.fstat(self._fd).st_ino
        except OSError:
            return "its producer ended"
        if replaced:
            return f"its producer was restarted, generation {self.generation:016x} is over"
        return "" if _locked(self._fd) else f"its producer (process {self._file.pid}) is gone"

    def _error(self, what: str, *, remedy: str = "check the process that writes it") -> CameraError:
        return CameraError(f"{self.camera_id}: {what}", remedy=remedy)


def _locked(fd: int) -> bool:
    """Whether a writer holds the lock. Tried shared and let go at once, so that readers don't look like writers."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
