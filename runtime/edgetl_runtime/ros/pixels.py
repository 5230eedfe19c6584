"""sensor_msgs/Image and CompressedImage from their bytes to BGR; whatever comes, nothing is read or made out of bounds.

Messages come from others and may be anything. Every length is compared with what is there before it is used, and a
picture's size with MAX_SIDE and MAX_PIXELS before memory is taken for it. Wrong bytes raise ValueError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl_runtime.cameras._png import refuse_false_png
from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgetl_runtime.pool import FramePool

MAX_SIDE = 16384
MAX_PIXELS = 64 * 1024 * 1024
MAX_BYTES = 4 * MAX_PIXELS + 65536
"""Of a whole message; longer ones are not even copied."""
MAX_TEXT = 1024

_LITTLE, _BIG = b"\x00\x01", b"\x00\x00"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True, slots=True)
class RosImage:
    """epoch_ns: the header's stamp, on the system clock of whoever published it; data is not copied.

    encoding: as sensor_msgs/image_encodings.hpp has it, of a CompressedImage its format; step is 0 there, and height
    and width are what the picture itself states.
    """

    epoch_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    step: int
    data: memoryview


class CdrReader:
    """Reads CDR's basic types in order, in the byte order that the encapsulation states. Raises ValueError."""

    def __init__(self, data: bytes) -> None:
        if data[:2] not in (_LITTLE, _BIG) or len(data) < 4:
            raise ValueError(f"expected plain CDR, found {len(data)} bytes that begin with {data[:2].hex()}")
        self._order = "<" if data[:2] == _LITTLE else ">"
        self._data = memoryview(data)[4:]
        self._at = 0

    def integer(self, code: str) -> int:
        """One aligned number by struct's code: B, I or i."""
        size = struct.calcsize(code)
        self._at += -self._at % size
        (value,) = struct.unpack(self._order + code, self._take(size))
        return int(value)

    def text(self) -> str:
        """A string of at most MAX_TEXT bytes, with its zero at the end."""
        length = self.integer("I")
        if length > MAX_TEXT:
            raise ValueError(f"a text of {length} bytes")
        octets = bytes(self._take(length))
        if length and octets[-1]:
            raise ValueError("a text without an end")
        return octets[:-1].decode()

    def octets(self) -> memoryview:
        """A sequence of bytes, not copied."""
        return self._take(self.integer("I"))

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._at

    def _take(self, size: int) -> memoryview:
        if size > self.left:
            raise ValueError(f"{size} bytes are to follow, {max(self.left, 0)} do")
        part = self._data[self._at : self._at + size]
        self._at += size
        return part


def read_image(data: bytes) -> RosImage:
    """A sensor_msgs/Image. Raises ValueError."""
    reader = CdrReader(data)
    epoch_ns, frame_id = _header(reader)
    height, width = reader.integer("I"), reader.integer("I")
    encoding = reader.text()
    reader.integer("B")  # is_bigendian: of pixels wider than a byte, which are refused
    step = reader.integer("I")
    pixels = reader.octets()
    _check_end(reader)
    _check_size(height, width)
    if encoding not in _DECODERS:
        raise ValueError(f"encoding {encoding!r}; known are {', '.join(sorted(_DECODERS))}")
    channels = _DECODERS[encoding].channels
    if step < width * channels or len(pixels) != step * height or (channels == 2 and width % 2):
        raise ValueError(f"{width}x{height} {encoding} with rows of {step} bytes and {len(pixels)} bytes in all")
    return RosImage(epoch_ns, frame_id, height, width, encoding, step, pixels)


def read_compressed(data: bytes) -> RosImage:
    """A sensor_msgs/CompressedImage that holds a JPEG or PNG. Raises ValueError."""
    reader = CdrReader(data)
    epoch_ns, frame_id = _header(reader)
    stated = reader.text()
    pixels = reader.octets()
    _check_end(reader)
    height, width = picture_size(pixels)
    _check_size(height, width)
    return RosImage(epoch_ns, frame_id, height, width, stated, 0, pixels)


def picture_size(data: memoryview) -> tuple[int, int]:
    """Height and width that a JPEG or PNG states, without decoding it. Raises ValueError for anything else."""
    if data[: len(_PNG)] == _PNG:
        if len(data) < 24:
            raise ValueError("a PNG that ends early")
        refuse_false_png(data)
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    if data[:2] == _JPEG:
        return _jpeg_size(data)
    raise ValueError(f"neither JPEG nor PNG: it begins with {bytes(data[:4]).hex()}")


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("a JPEG without a marker where one must be")
        kind = data[at + 1]
        if kind == 0xFF:  # fill
            at += 1
            continue
        if kind in _START_OF_FRAME:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        at += 2 if kind in _ALONE else 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    raise ValueError("a JPEG that ends before it states its size")


def to_bgr(image: RosImage, pool: FramePool) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 BGR, in a buffer of the pool or a new array. Raises ValueError for a broken picture."""
    cv2 = _cv2()
    try:
        return _converted(cv2, image, pool) if image.step else _decompressed(cv2, image)
    except cv2.error as error:
        raise ValueError(f"a picture that OpenCV can't decode ({error.err})") from error


def _converted(cv2: Any, image: RosImage, pool: FramePool) -> NDArray[np.uint8]:
    decoder = _DECODERS[image.encoding]
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    view = rows[:, : image.width * decoder.channels].reshape(image.height, image.width, decoder.channels)
    out = pool.take(image.height, image.width)
    decoder.convert(cv2, view, out)
    return out


def _decompressed(cv2: Any, image: RosImage) -> NDArray[np.uint8]:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    found: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(image.data, np.uint8), flags)
    if found is None or found.shape != (image.height, image.width, 3):
        raise ValueError("a picture that OpenCV can't decode")
    return found


def _header(reader: CdrReader) -> tuple[int, str]:
    seconds, nanoseconds = reader.integer("i"), reader.integer("I")
    return seconds * 1_000_000_000 + nanoseconds, reader.text()


def _check_end(reader: CdrReader) -> None:
    if reader.left > 3:  # up to three may fill up the last four
        raise ValueError(f"{reader.left} bytes too many")


def _check_size(height: int, width: int) -> None:
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ValueError(f"a picture of {width}x{height}")


@dataclass(frozen=True, slots=True)
class _Decoder:
    """channels: bytes of a pixel. convert: OpenCV, (H, W, channels) in, (H, W, 3) BGR out."""

    channels: int
    convert: Callable[[Any, NDArray[np.uint8], NDArray[np.uint8]], None]


def _copy(cv2: Any, view: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    np.copyto(out, view)


def _by(code: str) -> Callable[[Any, NDArray[np.uint8], NDArray[np.uint8]], None]:
    def convert(cv2: Any, view: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        cv2.cvtColor(np.ascontiguousarray(view), getattr(cv2, code), dst=out)

    return convert


_BGR, _GREY = _Decoder(3, _copy), _Decoder(1, _by("COLOR_GRAY2BGR"))
_YUYV, _UYVY = _Decoder(2, _by("COLOR_YUV2BGR_YUY2")), _Decoder(2, _by("COLOR_YUV2BGR_UYVY"))
_DECODERS = {
    "bgr8": _BGR,
    "8UC3": _BGR,
    "rgb8": _Decoder(3, _by("COLOR_RGB2BGR")),
    "bgra8": _Decoder(4, _by("COLOR_BGRA2BGR")),
    "rgba8": _Decoder(4, _by("COLOR_RGBA2BGR")),
    "mono8": _GREY,
    "8UC1": _GREY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
}
