"""Video4Linux2's structures and calls, as 64-bit processes on x86-64 and aarch64 have them.

After the kernel's own description, https://docs.kernel.org/userspace-api/media/v4l/user-func.html and
https://docs.kernel.org/userspace-api/media/v4l/buffer.html. Structures have the names of linux/videodev2.h in Python's
spelling, and only what capturing from a single-planar device needs. A 32-bit process has other layouts and is refused.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
from typing import ClassVar, Protocol

SUPPORTED = ctypes.sizeof(ctypes.c_void_p) == 8 and os.uname().machine in ("x86_64", "aarch64")
"""Whether this process has these layouts; other processors number ioctls in other ways, too."""

CAPTURE = 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE, the only buffer type that is used here."""
MEMORY_MMAP = 1

CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_VIDEO_OUTPUT = 0x0000_0002
CAP_VIDEO_CAPTURE_MPLANE = 0x0000_1000
CAP_VIDEO_M2M_MPLANE = 0x0000_4000
CAP_VIDEO_M2M = 0x0000_8000
CAP_META_CAPTURE = 0x0080_0000
CAP_STREAMING = 0x0400_0000
CAP_DEVICE_CAPS = 0x8000_0000
CAP_TIMEPERFRAME = 0x1000

FLAG_ERROR = 0x0000_0040
TIMESTAMP_MASK = 0x0000_E000
TIMESTAMP_UNKNOWN = 0x0000_0000
TIMESTAMP_MONOTONIC = 0x0000_2000
TIMESTAMP_COPY = 0x0000_4000
SOURCE_MASK = 0x0007_0000
SOURCE_END_OF_FRAME = 0x0000_0000
SOURCE_START_OF_EXPOSURE = 0x0001_0000

FIELD_NONE = 1
SIZE_DISCRETE = 1
INTERVAL_DISCRETE = 1


class _Struct(ctypes.Structure):
    """A structure that can be told apart from another one by what it holds, for messages of tests."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{f[0]}={getattr(self, f[0])!r}' for f in self._fields_)})"


_u32, _s64 = ctypes.c_uint32, ctypes.c_int64


class Capability(_Struct):
    """struct v4l2_capability."""

    driver: bytes
    card: bytes
    capabilities: int
    device_caps: int
    _fields_: ClassVar = [
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", _u32),
        ("capabilities", _u32),
        ("device_caps", _u32),
        ("reserved", _u32 * 3),
    ]


class FmtDesc(_Struct):
    """struct v4l2_fmtdesc."""

    pixelformat: int
    flags: int
    _fields_: ClassVar = [
        ("index", _u32),
        ("type", _u32),
        ("flags", _u32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", _u32),
        ("mbus_code", _u32),
        ("reserved", _u32 * 3),
    ]


class PixFormat(_Struct):
    """struct v4l2_pix_format."""

    width: int
    height: int
    pixelformat: int
    field: int
    bytesperline: int
    sizeimage: int
    colorspace: int
    ycbcr_enc: int
    quantization: int
    _fields_: ClassVar = [
        ("width", _u32),
        ("height", _u32),
        ("pixelformat", _u32),
        ("field", _u32),
        ("bytesperline", _u32),
        ("sizeimage", _u32),
        ("colorspace", _u32),
        ("priv", _u32),
        ("flags", _u32),
        ("ycbcr_enc", _u32),
        ("quantization", _u32),
        ("xfer_func", _u32),
    ]


class Format(_Struct):
    """struct v4l2_format; its union holds pointers, so it starts at 8."""

    pix: PixFormat
    _fields_: ClassVar = [
        ("type", _u32),
        ("padding", _u32),
        ("pix", PixFormat),
        ("rest", ctypes.c_uint8 * (200 - ctypes.sizeof(PixFormat))),
    ]


class Fract(_Struct):
    """struct v4l2_fract."""

    numerator: int
    denominator: int
    _fields_: ClassVar = [("numerator", _u32), ("denominator", _u32)]


class CaptureParm(_Struct):
    """struct v4l2_captureparm."""

    capability: int
    timeperframe: Fract
    _fields_: ClassVar = [
        ("capability", _u32),
        ("capturemode", _u32),
        ("timeperframe", Fract),
        ("extendedmode", _u32),
        ("readbuffers", _u32),
        ("reserved", _u32 * 4),
    ]


class StreamParm(_Struct):
    """struct v4l2_streamparm."""

    capture: CaptureParm
    _fields_: ClassVar = [
        ("type", _u32),
        ("capture", CaptureParm),
        ("rest", ctypes.c_uint8 * (200 - ctypes.sizeof(CaptureParm))),
    ]


class FrmSizeEnum(_Struct):
    """struct v4l2_frmsizeenum; of a discrete size the first two of `sizes` are width and height.

    Otherwise: smallest and largest width, its step, smallest and largest height, its step.
    """

    type: int
    sizes: ctypes.Array[ctypes.c_uint32]
    _fields_: ClassVar = [
        ("index", _u32),
        ("pixel_format", _u32),
        ("type", _u32),
        ("sizes", _u32 * 6),
        ("reserved", _u32 * 2),
    ]


class FrmIvalEnum(_Struct):
    """struct v4l2_frmivalenum; the first of `intervals` is the only one, or else the shortest."""

    type: int
    intervals: ctypes.Array[Fract]
    _fields_: ClassVar = [
        ("index", _u32),
        ("pixel_format", _u32),
        ("width", _u32),
        ("height", _u32),
        ("type", _u32),
        ("intervals", Fract * 3),
        ("reserved", _u32 * 2),
    ]


class RequestBuffers(_Struct):
    """struct v4l2_requestbuffers; flags and three reserved bytes are the last word."""

    count: int
    _fields_: ClassVar = [
        ("count", _u32),
        ("type", _u32),
        ("memory", _u32),
        ("capabilities", _u32),
        ("flags", _u32),
    ]


class Buffer(_Struct):
    """struct v4l2_buffer, with the two words of its timeval in place; offset is the union m's first word."""

    index: int
    bytesused: int
    flags: int
    field: int
    seconds: int
    microseconds: int
    sequence: int
    offset: int
    length: int
    _fields_: ClassVar = [
        ("index", _u32),
        ("type", _u32),
        ("bytesused", _u32),
        ("flags", _u32),
        ("field", _u32),
        ("padding", _u32),
        ("seconds", _s64),
        ("microseconds", _s64),
        ("timecode", _u32 * 4),
        ("sequence", _u32),
        ("memory", _u32),
        ("offset", _u32),
        ("rest_of_m", _u32),
        ("length", _u32),
        ("reserved2", _u32),
        ("request_fd", _u32),
        ("padding2", _u32),
    ]


def _number(direction: int, number: int, kind: type) -> int:
    """An ioctl's number: direction (1: write, 2: read), size, the type V, number; see the kernel's asm-generic."""
    return direction << 30 | ctypes.sizeof(kind) << 16 | ord("V") << 8 | number


QUERYCAP = _number(2, 0, Capability)
ENUM_FMT = _number(3, 2, FmtDesc)
G_FMT = _number(3, 4, Format)
S_FMT = _number(3, 5, Format)
REQBUFS = _number(3, 8, RequestBuffers)
QUERYBUF = _number(3, 9, Buffer)
QBUF = _number(3, 15, Buffer)
DQBUF = _number(3, 17, Buffer)
STREAMON = _number(1, 18, ctypes.c_int)
STREAMOFF = _number(1, 19, ctypes.c_int)
G_PARM = _number(3, 21, StreamParm)
S_PARM = _number(3, 22, StreamParm)
ENUM_FRAMESIZES = _number(3, 74, FrmSizeEnum)
ENUM_FRAMEINTERVALS = _number(3, 75, FrmIvalEnum)


def fourcc(name: str) -> int:
    """A pixel format's number by its four characters."""
    return int.from_bytes(name.encode("ascii"), "little")


def name_of(pixelformat: int) -> str:
    """A pixel format's characters, without the blanks at the end; "none" for zero.

    The highest bit says that it is big-endian and is no part of its name.
    """
    text = (pixelformat & 0x7FFF_FFFF).to_bytes(4, "little").decode("latin-1").strip("\0 ")
    return text if text.isprintable() and text else "none"


class Kernel(Protocol):
    """The calls into the kernel that a camera needs; every one of them raises OSError."""

    def open(self, path: str) -> int:
        """A descriptor of the device, which never waits in `ioctl`."""

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """One call; the kernel writes its answer to `argument`."""

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """A buffer of the driver, to be closed before the descriptor."""

    def poll(self, fd: int, timeout_s: float) -> bool:
        """Wait until a buffer is filled or the device failed; whether one of both is so."""

    def close(self, fd: int) -> None:
        """Let go of the descriptor."""


class LinuxKernel:
    """The kernel that runs here."""

    def open(self, path: str) -> int:
        """See Kernel."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """See Kernel; a call that a signal interrupted is made again."""
        while True:
            try:
                fcntl.ioctl(fd, request, argument, True)
                return
            except InterruptedError:
                continue

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """See Kernel. Python's mapping holds a duplicate of the descriptor until it is closed."""
        return mmap.mmap(fd, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def poll(self, fd: int, timeout_s: float) -> bool:
        """See Kernel."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1e3))

    def close(self, fd: int) -> None:
        """See Kernel."""
        os.close(fd)
