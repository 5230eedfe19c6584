"""Frames for other processes, through shared memory. Who reads them, and why none is torn: see shared.py."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
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
    MAX_SLOTS,
    NEWEST_AT,
    PAGE,
    SLOT_HEADER,
    VERSION,
    checksum,
    path_of,
    slot_bytes_for,
)
from edgetl_runtime.errors import CameraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOTS = 4
_LOCK_TRIES = 50
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
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE) or not 2 <= slots <= MAX_SLOTS or total > MAX_BYTES:
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
        """What was stored before is visible before what is stored after; see shared.py."""
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
    for _ in range(_LOCK_TRIES):
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
