"""Frames from another process, through shared memory: SharedFrames writes, SharedCamera reads.

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
import mmap
import os
import secrets
import stat
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.cameras._shared_layout import (
    FILE_HEADER,
    FORMAT_BGR8,
    MAGIC,
    MAX_BYTES,
    MAX_SIDE,
    NEWEST_AT,
    PAGE,
    SLOT_HEADER,
    VERSION,
    FileHeader,
    SlotHeader,
    check_slot,
    checksum,
    parse_file_header,
    path_of,
    slot_bytes_for,
)
from edgetl_runtime.errors import CameraError
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOTS = 4
STALL_S = 2.0
_POLL_S = 0.001
_AGAIN_S = 0.0001
_LOOK_EVERY_S = 0.05
_ASSUMED_FPS = 30.0
_FUTURE_NS = 1_000_000
_TRIES = 50
_LOCK_STEP_S = 0.002


class SharedFrames:
    """Writes frames for any number of readers of `shm:NAME`; never waits for one.

    max_size_hw: the largest frame that fits; each frame may have its own size within it. mode: the file's permissions.
    A lock on the file tells that this writer lives; the kernel drops it with the process, however that ends. A process
    that is forked from this one and lives on keeps it. Raises CameraError where another writer has the name, or memory
    is short. Use as a context manager; not for several threads at once.
    """

    def __init__(self, name: str, max_size_hw: tuple[int, int], *, slots: int = SLOTS, mode: int = 0o600) -> None:
        height, width = max_size_hw
        self._slot_bytes = slot_bytes_for(height, width)
        total = PAGE + slots * self._slot_bytes
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE) or not 2 <= slots <= 64 or total > MAX_BYTES:
            raise CameraError(
                f"{slots} slots for frames of {width}x{height} can't be shared, at most {MAX_BYTES} bytes"
            )
        self.name, self.max_size_hw, self._slots = name, max_size_hw, slots
        self.generation = secrets.randbits(64) | 1
        self._path = path_of(name)
        self._fd = _create(self._path, total, mode, FILE_HEADER.pack(
            MAGIC, VERSION, slots, self._slot_bytes, self.generation, os.getpid()
        ))  # fmt: skip
        self._map = mmap.mmap(self._fd, total)
        self._bytes = np.frombuffer(self._map, np.uint8)
        # Aligned 8-byte words: one store each, so a reader sees the old or the new value and nothing between.
        self._words = self._bytes.view(np.uint64)
        self._barrier = threading.Lock()
        self._barrier.acquire()
        self._number = 0

    def write(self, image: NDArray[np.uint8], *, frame_id: int, t_capture_ns: int | None = None) -> None:
        """Publish (H, W, 3) uint8 BGR, copied. t_capture_ns: on CLOCK_MONOTONIC, None for now.

        Raises ValueError for another shape or dtype, or a frame that is too large.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"expected (H, W, 3) uint8, found {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        if PAGE + image.size > self._slot_bytes or max(height, width) > MAX_SIDE:
            raise ValueError(f"a frame of {width}x{height} is larger than max_size_hw {self.max_size_hw}")
        if frame_id < 0:
            raise ValueError(f"frame_id must not be negative, found {frame_id}")
        stamp = time.monotonic_ns() if t_capture_ns is None else t_capture_ns
        number = self._number + 1
        start = PAGE + number % self._slots * self._slot_bytes
        pixels = self._bytes[start + PAGE : start + PAGE + image.size]
        self._words[start // 8] = 2 * number - 1
        self._order()
        np.copyto(pixels.reshape(image.shape), image)
        fields = (number, frame_id, stamp, height, width, FORMAT_BGR8, 0)
        header = SLOT_HEADER.pack(0, *fields, checksum(pixels, *fields))
        self._bytes[start + 8 : start + SLOT_HEADER.size] = np.frombuffer(header, np.uint8)[8:]
        self._order()
        self._words[start // 8] = 2 * number
        self._order()
        self._words[NEWEST_AT // 8] = number
        self._number = number

    def _order(self) -> None:
        """What was stored before is visible before what is stored after; see the module's docstring."""
        self._barrier.release()
        self._barrier.acquire()

    def close(self) -> None:
        """Remove the name; readers see at once that this writer is gone. Closing twice is fine."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if os.fstat(self._fd).st_ino == self._path.stat().st_ino:
                self._path.unlink()
        del self._words, self._bytes
        self._map.close()
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> SharedFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path, total: int, mode: int, header: bytes) -> int:
    """A new locked file under this name, in place of one whose writer is gone. Returns its descriptor.

    The file is made under another name and renamed when its header is there, so a reader never finds half of one. The
    old one's lock is held meanwhile: of two writers that start at once, one is refused.
    """
    try:
        old = _lock_old(path)
        try:
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.fchmod(fd, mode)  # the umask has no say
                os.posix_fallocate(fd, 0, total)  # now rather than as SIGBUS in the middle of a frame
                os.pwrite(fd, header, 0)
                fresh.rename(path)
            except BaseException:
                os.close(fd)
                fresh.unlink(missing_ok=True)
                raise
            return fd
        finally:
            if old >= 0:
                os.close(old)
    except OSError as error:
        raise CameraError(f"frames can't be shared as {path}: {error.strerror}", remedy="df -h /dev/shm") from error


def _lock_old(path: Path) -> int:
    """The descriptor of what is there, locked; -1 where nothing is. Raises CameraError where its writer lives."""
    for _ in range(_TRIES):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == path.stat().st_ino:
                return fd
        os.close(fd)  # it was replaced, its writer lives, or a reader is just looking whether it does: look again
        time.sleep(_LOCK_STEP_S)
    raise CameraError(f"another process already writes {path}", remedy="choose another name")


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
