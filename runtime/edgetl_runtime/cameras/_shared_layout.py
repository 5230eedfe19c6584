"""How frames lie in shared memory: a file in /dev/shm with one header and a ring of slots, little-endian.

0     magic "EDGETLSM", version u32, slots u32, slot_bytes u64, generation u64, pid u64        (40 bytes)
64    newest u64: the number of the frame that was completed last, 0 before the first
4096  slots, each slot_bytes long, a multiple of 4096:
        0    sequence u64: 2 * number when complete, odd while it is written
        8    number u64, counts from 1; frame `number` lies in slot number % slots
        16   frame_id u64, t_capture_ns i64 on CLOCK_MONOTONIC, height u32, width u32, format u32 (1: BGR8), 0 u32
        48   checksum u64: of pixels and of the four lines above, see `checksum`
        4096 pixels (height, width, 3) uint8
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgetl_runtime.errors import NoSuchKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"EDGETLSM"
VERSION = 1
PAGE = 4096
NEWEST_AT = 64
FORMAT_BGR8 = 1
MAX_SLOTS = 64
MAX_SIDE = 16384
MAX_BYTES = 1 << 30
"""Of the whole file: what a header may make a reader allocate and copy."""

FILE_HEADER = struct.Struct("<8sIIQQQ")
SLOT_HEADER = struct.Struct("<QQQqIIIIQ")
_FOLDER = Path("/dev/shm")
_MASK = (1 << 64) - 1


class FileHeader(NamedTuple):
    """What the file says of itself."""

    slots: int
    slot_bytes: int
    generation: int
    pid: int


class SlotHeader(NamedTuple):
    """What a slot says of its frame; sequence is odd while it is written."""

    sequence: int
    number: int
    frame_id: int
    t_capture_ns: int
    height: int
    width: int
    pixel_format: int
    reserved: int
    checksum: int


def path_of(name: str) -> Path:
    """The file of this name. Raises CameraError for a name that could leave /dev/shm or hide there."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise NoSuchKind(
            f"{name!r} is no name for shared frames",
            remedy="use 1 to 64 of A-Z, a-z, 0-9, . _ -, a letter or digit first",
        )
    return _FOLDER / f"edgetl.{name}"


def slot_bytes_for(height: int, width: int) -> int:
    """How long a slot is that holds frames of this size, its header included."""
    return PAGE + -(-height * width * 3 // PAGE) * PAGE


def parse_file_header(data: bytes, file_bytes: int) -> FileHeader:
    """The header, checked against the file's length. Raises ValueError that says what is wrong."""
    if len(data) < FILE_HEADER.size:
        raise ValueError("it is too short for a header")
    magic, version, slots, slot_bytes, generation, pid = FILE_HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("it does not begin as shared frames do")
    if version != VERSION:
        raise ValueError(f"its version is {version}, expected {VERSION}")
    if not 2 <= slots <= MAX_SLOTS or slot_bytes % PAGE or not 2 * PAGE <= slot_bytes <= MAX_BYTES:
        raise ValueError(f"it states {slots} slots of {slot_bytes} bytes")
    if PAGE + slots * slot_bytes != file_bytes or file_bytes > MAX_BYTES:
        raise ValueError(f"it states {slots} slots of {slot_bytes} bytes and is {file_bytes} bytes long")
    return FileHeader(slots, slot_bytes, generation, pid)


def check_slot(slot: SlotHeader, slot_bytes: int) -> None:
    """Raises ValueError for a frame that can't lie in such a slot."""
    if slot.pixel_format != FORMAT_BGR8:
        raise ValueError(f"its pixel format is {slot.pixel_format}, expected {FORMAT_BGR8} (BGR8)")
    if not (0 < slot.height <= MAX_SIDE and 0 < slot.width <= MAX_SIDE):
        raise ValueError(f"its frame is {slot.width}x{slot.height}")
    if PAGE + slot.height * slot.width * 3 > slot_bytes:
        raise ValueError(f"its frame is {slot.width}x{slot.height}, more than a slot of {slot_bytes} bytes holds")


def checksum(pixels: NDArray[np.uint8], *fields: int) -> int:
    """The sum of the pixels as 64-bit words, and of the fields, modulo 2**64; runs at the memory's speed.

    pixels: (N,) uint8, contiguous. It tells frames that were mixed from whole ones; it is no protection against a
    forger, who could as well send another picture.
    """
    whole = len(pixels) // 8 * 8
    total = int(pixels[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(pixels[whole:].sum(dtype=np.uint64))
    for place, value in enumerate(fields, 1):
        total += (value & _MASK) * (2 * place + 1)
    return total & _MASK
