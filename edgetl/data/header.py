"""An image file's size and orientation, from its header alone: nothing is decoded.

JPEG (ITU-T T.81, Exif 2.3), PNG (ISO 15948), BMP, WebP (RFC 9649), TIFF 6.0 and binary PNM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError

ORIENTATION_TAG, WIDTH_TAG, HEIGHT_TAG = 0x0112, 0x0100, 0x0101
TIFF_STARTS = frozenset({b"II*\0", b"MM\0*"})
NOT_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
"""JPEG markers among the start-of-frame numbers that are none."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says: the size as stored, and the orientation (1 to 8; read from JPEG and TIFF only, else 1)."""

    width: int
    height: int
    orientation: int = 1

    @property
    def shown_wh(self) -> tuple[int, int]:
        """(width, height) as a person sees the picture and as read_image gives it."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the picture that read_image gives, without decoding it."""
    return read_header(path).shown_wh


def refuse_turned(image: Path, stated_wh: tuple[float, float], label_file: Path) -> None:
    """Raise InputError where labels speak of a picture that lies on its side to the one that read_image gives.

    Their boxes would lie elsewhere. stated_wh: the size that they state; at another scale it may be.
    """
    try:
        header = read_header(image)
    except InputError:
        return  # said where the image is used
    (width, height), (shown_width, shown_height) = stated_wh, header.shown_wh
    turned = (width - height) * (shown_width - shown_height) < 0
    if turned and header.orientation >= 5:
        raise InputError(
            f"{label_file}: states {width:g} x {height:g} pixels for image {image.name}, which its Exif orientation "
            f"({header.orientation}) shows as {shown_width} x {shown_height}: its boxes would lie elsewhere",
            remedy="store the image as its labels have it, without the orientation",
        )
    if turned and abs(width * shown_width - height * shown_height) <= 0.02 * height * shown_height:
        raise InputError(
            f"{label_file}: states {width:g} x {height:g} pixels for image {image.name}, which has {shown_width} x "
            f"{shown_height}: its boxes would lie elsewhere",
            remedy="correct the size or turn the image, whichever its boxes don't fit",
        )


def read_header(path: Path) -> Header:
    """The header of an image file. Raises InputError that names a file that is none, or can't be read."""
    try:
        with path.open("rb") as file:
            header = _parse(file)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})", remedy="restore or unlist it") from error
    except (struct.error, ValueError, IndexError):
        header = None
    if header is None or header.width < 1 or header.height < 1:
        raise InputError(
            f"{path}: not an image that can be decoded ({path.stat().st_size} bytes)",
            remedy="replace or remove the file",
        )
    return header


def _parse(file: BinaryIO) -> Header | None:
    start = file.read(32)
    header: Header | None = None
    if start[:2] == b"\xff\xd8":
        header = _jpeg(file)
    elif start[:8] == b"\x89PNG\r\n\x1a\n":
        header = Header(*struct.unpack(">II", start[16:24]))
    elif start[:2] == b"BM":
        header = _bmp(start)
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        header = _webp(start)
    elif start[:4] in TIFF_STARTS:
        header = _tiff(file, start)
    elif start[:2] in {b"P5", b"P6"}:
        file.seek(2)
        header = Header(_number(file), _number(file))
    return header


def _bmp(start: bytes) -> Header:
    core = struct.unpack("<I", start[14:18])[0] == 12
    width, height = struct.unpack("<HH", start[18:22]) if core else struct.unpack("<ii", start[18:26])
    return Header(width, abs(height))  # below zero: stored from the top down


def _jpeg(file: BinaryIO) -> Header | None:
    file.seek(2)
    orientation = 1
    while (byte := file.read(1)) == b"\xff":
        while byte == b"\xff":  # any number of them may fill up
            byte = file.read(1)
        marker = byte[0]
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        length = struct.unpack(">H", file.read(2))[0] - 2
        if 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES:
            height, width = struct.unpack(">xHH", file.read(5))
            return Header(width, height, orientation)
        if marker == 0xE1:
            orientation = _exif_orientation(file.read(length)) or orientation
        else:
            file.seek(length, 1)
    return None


def _exif_orientation(segment: bytes) -> int:
    """1 to 8, or 0 where the segment states none."""
    if segment[:6] != b"Exif\0\0":
        return 0
    try:
        value = _ifd(segment[6:], 0).get(ORIENTATION_TAG, 0)
    except (struct.error, IndexError):  # damaged Exif data; the picture itself may be whole
        return 0
    return value if 1 <= value <= 8 else 0


def untagged(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes of an image file, a TIFF's without its orientation: OpenCV turns TIFFs whatever it is told."""
    start = data[:8].tobytes()
    if start[:4] not in TIFF_STARTS:
        return data
    order = "<" if start[:2] == b"II" else ">"
    place = struct.unpack(order + "I", start[4:])[0]
    entries = struct.unpack(order + "H", data[place : place + 2].tobytes())[0]
    changed: NDArray[np.uint8] = data.copy()
    for at in range(place + 2, place + 2 + 12 * entries, 12):
        if struct.unpack(order + "H", data[at : at + 2].tobytes())[0] == ORIENTATION_TAG:
            changed[at + 8 : at + 12] = np.frombuffer(struct.pack(order + "HH", 1, 0), np.uint8)
    return changed


def _ifd(data: bytes, base: int) -> dict[int, int]:
    """Tag -> value of the first directory's whole numbers, of TIFF data whose directory starts at its offset - base."""
    order = "<" if data[:2] == b"II" else ">"
    offset = struct.unpack(order + "I", data[4:8])[0] - base
    count = struct.unpack(order + "H", data[offset : offset + 2])[0]
    values: dict[int, int] = {}
    for i in range(count):
        tag, kind, _ = struct.unpack(order + "HHI", data[offset + 2 + 12 * i : offset + 10 + 12 * i])
        field = data[offset + 10 + 12 * i : offset + 14 + 12 * i]
        if kind in {3, 4}:
            values[tag] = struct.unpack(order + ("H" if kind == 3 else "I"), field[: 2 if kind == 3 else 4])[0]
    return values


def _tiff(file: BinaryIO, start: bytes) -> Header | None:
    order = "<" if start[:2] == b"II" else ">"
    offset = struct.unpack(order + "I", start[4:8])[0]
    file.seek(offset)
    values = _ifd(start[:8] + file.read(2 + 12 * 200), offset - 8)
    orientation = values.get(ORIENTATION_TAG, 1)
    return Header(values.get(WIDTH_TAG, 0), values.get(HEIGHT_TAG, 0), orientation if 1 <= orientation <= 8 else 1)


def _webp(start: bytes) -> Header | None:
    kind = start[12:16]
    if kind == b"VP8X":
        return Header(int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return Header(width & 0x3FFF, height & 0x3FFF)
    return None


def _number(file: BinaryIO) -> int:
    """The next number of a PNM header; a comment runs from # to the end of its line."""
    digits = b""
    while byte := file.read(1):
        if byte == b"#":
            file.readline(1000)
        elif byte.isdigit():
            digits += byte
        elif digits:
            break
        if len(digits) > 9:
            raise ValueError("not a size")
    return int(digits)
