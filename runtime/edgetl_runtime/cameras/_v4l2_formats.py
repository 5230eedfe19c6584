"""From the driver's pixel formats to uint8 BGR, without a copy in between.

YCbCr is converted with the matrix of BT.601 in limited range, the only one that OpenCV has for packed formats. Formats:
https://docs.kernel.org/userspace-api/media/v4l/pixfmt.html; markers of JPEG: ITU-T T.81, annex B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl_runtime.cameras._v4l2_kernel import PixFormat

if TYPE_CHECKING:
    import mmap

    from numpy.typing import NDArray

PIXEL_FORMATS = ("BGR3", "RGB3", "YUYV", "UYVY", "NV12", "MJPG", "JPEG", "GREY")
"""Best first: colour for every pixel, for every second, for every fourth; compressed; no colour."""

_BYTES = {"BGR3": 3, "RGB3": 3, "YUYV": 2, "UYVY": 2, "NV12": 1, "GREY": 1}
_CODES = {
    "RGB3": "COLOR_RGB2BGR",
    "YUYV": "COLOR_YUV2BGR_YUYV",
    "UYVY": "COLOR_YUV2BGR_UYVY",
    "NV12": "COLOR_YUV2BGR_NV12",
    "GREY": "COLOR_GRAY2BGR",
}
_COLORSPACE_REC709, _COLORSPACE_JPEG, _ENC_709, _FULL_RANGE = 3, 7, 2, 1


@dataclass(frozen=True, slots=True)
class Layout:
    """How a picture lies in a driver's buffer. bytes_per_line: of the first plane, with what pads it; 0 for JPEG."""

    name: str
    size_hw: tuple[int, int]
    bytes_per_line: int

    @property
    def is_raw(self) -> bool:
        """Whether a picture is as large as any other."""
        return self.name in _BYTES

    @property
    def least_bytes(self) -> int:
        """How many bytes a whole picture has at the least; the last line need not be padded."""
        height, width = self.size_hw
        if not self.is_raw:
            return 4
        lines = height * 3 // 2 if self.name == "NV12" else height
        return (lines - 1) * self.bytes_per_line + width * _BYTES[self.name]


def layout_of(name: str, pix: PixFormat) -> Layout:
    """The layout that a driver stated. Raises ValueError, which says what is wrong with it."""
    height, width = pix.height, pix.width
    if not (0 < height < 65536 and 0 < width < 65536):
        raise ValueError(f"states a size of {width}x{height}")
    if name not in _BYTES:
        return Layout(name, (height, width), 0)
    if (name in ("YUYV", "UYVY", "NV12") and width % 2) or (name == "NV12" and height % 2):
        raise ValueError(f"gives {name} in {width}x{height}, whose colours end in the middle of a pair")
    least = width * _BYTES[name]
    if pix.bytesperline and pix.bytesperline < least:
        raise ValueError(f"states {pix.bytesperline} bytes for a line of {least}")
    return Layout(name, (height, width), pix.bytesperline or least)


def colour_note(name: str, pix: PixFormat) -> str:
    """What the driver says of its colours that the conversion can't follow; "" where it fits."""
    if name not in ("YUYV", "UYVY", "NV12"):
        return ""
    full = pix.quantization == _FULL_RANGE or (not pix.quantization and pix.colorspace == _COLORSPACE_JPEG)
    hd = pix.ycbcr_enc == _ENC_709 or (not pix.ycbcr_enc and pix.colorspace == _COLORSPACE_REC709)
    told = " and ".join(what for what, so in (("full range", full), ("BT.709", hd)) if so)
    return f"states {told}, colours are converted as BT.601 in limited range" if told else ""


def decode(
    cv2: Any, layout: Layout, memory: mmap.mmap, used: int, out: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | None:
    """The picture in the first `used` bytes of a mapped buffer, (H, W, 3) uint8 BGR; None where it is not whole.

    out: where a raw picture goes, (H, W, 3) uint8. OpenCV decodes JPEG to an array of its own (imdecode takes no
    destination from Python), which belongs to the receiver; a copy into `out` would save nothing. Nothing of the
    buffer is kept.
    """
    if not layout.least_bytes <= used <= len(memory):
        return None
    try:
        if layout.is_raw and out is not None:
            return _convert(cv2, layout, memory, out)
        if not is_whole_jpeg(memory, used):
            return None
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(memory, np.uint8, used), flags)
    except cv2.error:
        return None
    return image


def _convert(cv2: Any, layout: Layout, memory: mmap.mmap, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = layout.size_hw
    line, pixel = layout.bytes_per_line, _BYTES[layout.name]
    if layout.name == "NV12":
        height = height * 3 // 2
    shape, strides = ((height, width), (line, 1)) if pixel == 1 else ((height, width, pixel), (line, pixel, 1))
    source: NDArray[np.uint8] = np.ndarray(shape, np.uint8, memory, 0, strides)
    if layout.name == "BGR3":
        np.copyto(out, source)
        return out
    converted: NDArray[np.uint8] = cv2.cvtColor(source, getattr(cv2, _CODES[layout.name]), out)
    return converted


def is_whole_jpeg(memory: mmap.mmap, used: int) -> bool:
    """Whether the bytes are a picture from its first to its last marker; what pads it afterwards is fine.

    Within coded data the end's marker can't occur, so that one after the start of it is the end. Libraries decode half
    a picture too, and make the rest grey.
    """
    if memory[:2] != b"\xff\xd8":
        return False
    at = 2
    while at + 4 <= used and memory[at] == 0xFF:
        if memory[at + 1] == 0xFF:  # a marker may be filled up with these
            at += 1
            continue
        length = int.from_bytes(memory[at + 2 : at + 4], "big")
        if length < 2:
            return False
        if memory[at + 1] == 0xDA:
            return memory.rfind(b"\xff\xd9", at + 2 + length, used) >= 0
        at += 2 + length
    return False
