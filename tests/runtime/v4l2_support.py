"""A V4L2 driver that lives in memory and refuses what a real one refuses.

It keeps the kernel's rules (https://docs.kernel.org/userspace-api/media/v4l/mmap.html): a buffer belongs either to the
driver or to the program; nothing can be taken before streaming; formats are fixed while there are buffers; a mapping
keeps the device open. A buffer that was given back is overwritten at once, so whoever still reads it sees that.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.cameras import _v4l2_kernel as v4l2

PATH = "/dev/video7"
BYTES = {"BGR3": 3.0, "RGB3": 3.0, "YUYV": 2.0, "UYVY": 2.0, "NV12": 1.5, "GREY": 1.0}
CAMERA = v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_STREAMING
MONOTONIC = v4l2.TIMESTAMP_MONOTONIC


def refuse(code: int) -> OSError:
    """What Python raises for this error number."""
    return OSError(code, os.strerror(code))


@dataclass
class Slot:
    """One buffer. state: idle (the program's), queued (the driver's) or done (filled)."""

    length: int
    state: str = "idle"
    memory: mmap.mmap | None = None
    filled: v4l2.Buffer = field(default_factory=v4l2.Buffer)

    def __post_init__(self) -> None:
        self.scrawl = b"\x55" * self.length


@dataclass
class FakeDriver:
    """One device.

    modes: by pixel format the sizes as (height, width) with their rates. padding: extra bytes at the end of each line.
    most_buffers: more are not given. keeps: so many queued buffers it holds on to until others are queued.
    refuses: error number by ioctl. numbered: whether it counts its frames. on_idle: called by `poll` where nothing is
    filled, to deliver the next frame. silent_about: calls that it does not know.
    """

    modes: dict[str, dict[tuple[int, int], Sequence[float]]]
    capabilities: int = CAMERA | v4l2.CAP_DEVICE_CAPS
    device_caps: int = CAMERA
    padding: int = 0
    most_buffers: int = 32
    keeps: int = 0
    stamp_flags: int = MONOTONIC
    numbered: bool = True
    refuses: dict[int, int] = field(default_factory=dict)
    silent_about: tuple[int, ...] = ()
    stepwise: tuple[int, ...] | None = None
    extra: dict[str, int] = field(default_factory=dict)
    on_idle: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self.slots: list[Slot] = []
        self.queue: deque[int] = deque()
        self.done: deque[int] = deque()
        self.streaming = self.unplugged = False
        self.open_files = 0
        self.sequence = 0
        self.starved = 0
        self.polls = 0
        self.changed = threading.Condition()
        self.calls: list[int] = []
        name = next(iter(self.modes))
        size = next(iter(self.modes[name]))
        self.fps = self.modes[name][size][0]
        self.pix = self._pix(name, size)

    def deliver(
        self,
        data: bytes | NDArray[np.uint8],
        *,
        flags: int = 0,
        bytesused: int | None = None,
        age_s: float = 0.004,
        sequence: int | None = None,
    ) -> bool:
        """One frame comes from the sensor; False where no buffer was queued for it. sequence: instead of its own."""
        with self.changed:
            assert self.streaming, "no frame comes before STREAMON"
            number = self.sequence if sequence is None else sequence
            self.sequence += 1
            if len(self.queue) <= self.keeps:
                self.starved += 1
                return False
            slot = self.slots[index := self.queue.popleft()]
            content = bytes(data)
            assert slot.memory is not None, "a queued buffer is mapped"
            slot.memory[: len(content)] = content
            stamp_us = (time.monotonic_ns() - int(age_s * 1e9)) // 1000
            slot.filled = v4l2.Buffer(
                index=index,
                type=v4l2.CAPTURE,
                memory=v4l2.MEMORY_MMAP,
                bytesused=len(content) if bytesused is None else bytesused,
                flags=flags | self.stamp_flags,
                field=v4l2.FIELD_NONE,
                seconds=stamp_us // 1_000_000,
                microseconds=stamp_us % 1_000_000,
                sequence=number if self.numbered else 0,
                length=slot.length,
            )
            slot.state = "done"
            self.done.append(index)
            self.changed.notify_all()
            return True

    def unplug(self) -> None:
        """The device is gone; whoever waits wakes up."""
        with self.changed:
            self.unplugged = True
            self.changed.notify_all()

    def answer(self, request: int, argument: Any) -> None:
        """One ioctl."""
        self.calls.append(request)
        if self.unplugged:
            raise refuse(errno.ENODEV)
        if request in self.silent_about:
            raise refuse(errno.ENOTTY)
        if request in self.refuses:
            raise refuse(self.refuses[request])
        kind = argument.value if isinstance(argument, ctypes.c_int) else getattr(argument, "type", v4l2.CAPTURE)
        sizes = (v4l2.ENUM_FRAMESIZES, v4l2.ENUM_FRAMEINTERVALS)
        if request not in sizes and kind != v4l2.CAPTURE:
            raise refuse(errno.EINVAL)
        _ANSWERS[request](self, argument)

    def _querycap(self, found: v4l2.Capability) -> None:
        found.driver, found.card = b"fake", b"Fake camera"
        found.capabilities, found.device_caps = self.capabilities, self.device_caps

    def _enum_fmt(self, entry: Any) -> None:
        entry.pixelformat = v4l2.fourcc(_nth(list(self.modes), entry.index))

    def _enum_sizes(self, entry: Any) -> None:
        sizes = list(self._modes_of(entry.pixel_format))
        if self.stepwise is not None:
            _nth([0], entry.index)
            entry.type, entry.sizes[:] = 3, self.stepwise
            return
        entry.type = v4l2.SIZE_DISCRETE
        entry.sizes[1], entry.sizes[0] = _nth(sizes, entry.index)

    def _enum_intervals(self, entry: Any) -> None:
        modes = self._modes_of(entry.pixel_format)
        rates = next(iter(modes.values())) if self.stepwise else modes.get((entry.height, entry.width), ())
        entry.type = v4l2.INTERVAL_DISCRETE
        entry.intervals[0] = _interval(_nth(list(rates), entry.index))

    def _g_fmt(self, found: v4l2.Format) -> None:
        found.pix = self.pix

    def _s_fmt(self, wanted: v4l2.Format) -> None:
        if self.slots:
            raise refuse(errno.EBUSY)
        name = v4l2.name_of(wanted.pix.pixelformat)
        if name not in self.modes:
            name = next(iter(self.modes))
        size = (wanted.pix.height, wanted.pix.width)
        if self.stepwise is None and size not in self.modes[name]:
            size = min(self.modes[name], key=lambda s: abs(s[0] - size[0]) + abs(s[1] - size[1]))
        self.pix = wanted.pix = self._pix(name, size)
        self.fps = next(iter(self.modes[name].values()))[0]

    def _g_parm(self, found: v4l2.StreamParm) -> None:
        found.capture.capability = v4l2.CAP_TIMEPERFRAME
        found.capture.timeperframe = _interval(self.fps)

    def _s_parm(self, wanted: v4l2.StreamParm) -> None:
        if self.streaming:
            raise refuse(errno.EBUSY)
        asked = wanted.capture.timeperframe
        rates = self.modes[v4l2.name_of(self.pix.pixelformat)][(self.pix.height, self.pix.width)]
        self.fps = min(rates, key=lambda rate: abs(rate - asked.denominator / asked.numerator))
        self._g_parm(wanted)

    def _reqbufs(self, request: v4l2.RequestBuffers) -> None:
        if self.streaming or any(s.memory and not s.memory.closed for s in self.slots):
            raise refuse(errno.EBUSY)
        request.count = min(request.count, self.most_buffers)
        self.slots = [Slot(self.pix.sizeimage) for _ in range(request.count)]

    def _querybuf(self, buffer: v4l2.Buffer) -> None:
        slot = _nth(self.slots, buffer.index)
        buffer.length, buffer.offset, buffer.flags = slot.length, buffer.index * 0x10000000, self.stamp_flags

    def _qbuf(self, buffer: v4l2.Buffer) -> None:
        slot = _nth(self.slots, buffer.index)
        if slot.state != "idle" or slot.memory is None or slot.memory.closed:
            raise refuse(errno.EINVAL)
        slot.memory[:] = slot.scrawl
        slot.state = "queued"
        self.queue.append(buffer.index)

    def _dqbuf(self, buffer: v4l2.Buffer) -> None:
        if not self.streaming:
            raise refuse(errno.EINVAL)
        if not self.done:
            raise refuse(errno.EAGAIN)
        slot = self.slots[self.done.popleft()]
        slot.state = "idle"
        ctypes.pointer(buffer)[0] = slot.filled

    def _streamon(self, kind: ctypes.c_int) -> None:
        if not self.slots:
            raise refuse(errno.EINVAL)
        self.streaming = True

    def _streamoff(self, kind: ctypes.c_int) -> None:
        self.streaming = False
        self.queue.clear()
        self.done.clear()
        for slot in self.slots:
            slot.state = "idle"

    def _modes_of(self, pixelformat: int) -> dict[tuple[int, int], Sequence[float]]:
        name = v4l2.name_of(pixelformat)
        if name not in self.modes:
            raise refuse(errno.EINVAL)
        return self.modes[name]

    def _pix(self, name: str, size_hw: tuple[int, int]) -> v4l2.PixFormat:
        height, width = size_hw
        pixel = BYTES.get(name, 3.0)
        line = int(width * (1 if name == "NV12" else pixel)) + self.padding if name in BYTES else 0
        lines = height * 3 // 2 if name == "NV12" else height
        size = line * lines if line else int(height * width * pixel)
        made = v4l2.PixFormat(width=width, height=height, pixelformat=v4l2.fourcc(name), field=v4l2.FIELD_NONE)
        made.bytesperline, made.sizeimage = line, size
        for key, value in self.extra.items():
            setattr(made, key, value)
        return made


_ANSWERS: dict[int, Callable[[FakeDriver, Any], None]] = {
    v4l2.QUERYCAP: FakeDriver._querycap,
    v4l2.ENUM_FMT: FakeDriver._enum_fmt,
    v4l2.ENUM_FRAMESIZES: FakeDriver._enum_sizes,
    v4l2.ENUM_FRAMEINTERVALS: FakeDriver._enum_intervals,
    v4l2.G_FMT: FakeDriver._g_fmt,
    v4l2.S_FMT: FakeDriver._s_fmt,
    v4l2.G_PARM: FakeDriver._g_parm,
    v4l2.S_PARM: FakeDriver._s_parm,
    v4l2.REQBUFS: FakeDriver._reqbufs,
    v4l2.QUERYBUF: FakeDriver._querybuf,
    v4l2.QBUF: FakeDriver._qbuf,
    v4l2.DQBUF: FakeDriver._dqbuf,
    v4l2.STREAMON: FakeDriver._streamon,
    v4l2.STREAMOFF: FakeDriver._streamoff,
}


class FakeKernel:
    """The calls of `Kernel`, to devices by their paths. A second user of a device that streams is refused."""

    def __init__(self, **devices: FakeDriver) -> None:
        self.devices = {f"/dev/{name}": driver for name, driver in devices.items()}
        self._files: dict[int, FakeDriver] = {}
        self._next = 1000

    def open(self, path: str) -> int:
        """A new file of the device."""
        driver = self.devices.get(path)
        if driver is None or driver.unplugged:
            raise refuse(errno.ENOENT)
        if code := driver.refuses.get(0):
            raise refuse(code)
        self._next += 1
        self._files[self._next] = driver
        driver.open_files += 1
        return self._next

    def ioctl(self, fd: int, request: int, argument: Any) -> None:
        """One call; the argument has the size that the number says."""
        driver = self._files[fd]
        assert request >> 16 & 0x3FFF == ctypes.sizeof(argument)
        with driver.changed:
            driver.answer(request, argument)

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """The memory of a buffer that QUERYBUF told about."""
        driver = self._files[fd]
        slot = _nth(driver.slots, offset // 0x10000000)
        if length != slot.length:
            raise refuse(errno.EINVAL)
        slot.memory = mmap.mmap(-1, length)
        return slot.memory

    def poll(self, fd: int, timeout_s: float) -> bool:
        """Wait for a filled buffer or a failure."""
        driver = self._files[fd]
        driver.polls += 1
        if driver.on_idle is not None and not driver.done and not driver.unplugged:
            driver.on_idle()
        with driver.changed:
            ready = lambda: bool(driver.done) or driver.unplugged or not driver.streaming  # noqa: E731
            return driver.changed.wait_for(ready, timeout_s)

    def close(self, fd: int) -> None:
        """The device is free once no mapping is left either."""
        driver = self._files.pop(fd)
        if any(s.memory is not None and not s.memory.closed for s in driver.slots):
            return
        driver.open_files -= 1
        driver.slots, driver.streaming = [], False


def pack(name: str, image: NDArray[np.uint8], padding: int = 0) -> bytes:
    """(H, W, 3) uint8 BGR in a raw pixel format; colours by the formulas of BT.601 in limited range."""
    height, width = image.shape[:2]
    blue, green, red = (image[..., i].astype(float) for i in range(3))
    luma = 16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256
    cb = 128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256
    cr = 128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256
    planes: list[NDArray[np.float64]]
    if name == "BGR3":
        planes = [np.dstack([blue, green, red])]
    elif name == "RGB3":
        planes = [np.dstack([red, green, blue])]
    elif name == "GREY":
        planes = [0.299 * red + 0.587 * green + 0.114 * blue]
    elif name == "NV12":
        planes = [luma, np.dstack([cb[::2, ::2], cr[::2, ::2]])]
    else:
        chroma = np.dstack([cb[:, ::2], cr[:, ::2]]).reshape(height, width)
        planes = [np.dstack([luma, chroma] if name == "YUYV" else [chroma, luma])]
    rows = [np.rint(p).clip(0, 255).astype(np.uint8).reshape(len(p), -1) for p in planes]
    return b"".join(np.pad(r, ((0, 0), (0, padding)), constant_values=0xAA).tobytes() for r in rows)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """The picture as JPEG."""
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert good
    return bytes(data)


def _nth(values: Sequence[Any], index: int) -> Any:
    if not 0 <= index < len(values):
        raise refuse(errno.EINVAL)
    return values[index]


def _interval(fps: float) -> v4l2.Fract:
    return v4l2.Fract(numerator=1000, denominator=round(fps * 1000))
