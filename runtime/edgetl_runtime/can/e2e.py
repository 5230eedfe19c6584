"""Counter and check sum of a frame: AUTOSAR E2E Profile 1, variant 1A, with the whole Data ID in the check sum.

After "E2E Protocol Specification" (AUTOSAR FO R22-11, PRS_E2EProtocol), Profile 1:
https://www.autosar.org/fileadmin/standards/R22-11/FO/AUTOSAR_PRS_E2EProtocol.pdf. CRC-8 of SAE J1850's polynomial,
start value and final XOR 0, over the Data ID, low byte first, and all bytes but the check sum; check sum in byte 0,
counter in the low half of byte 1.
"""

from __future__ import annotations

POLYNOMIAL = 0x1D
COUNTS = 15
"""The counter runs from 0 to 14; 15 is never sent."""


def _table() -> bytes:
    values = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ POLYNOMIAL if value & 0x80 else value << 1) & 0xFF  # noqa: PLW2901
        values.append(value)
    return bytes(values)


_TABLE = _table()


def data_id_of(can_id: int) -> int:
    """The Data ID of the frame with this identifier: its low 16 bits."""
    return can_id & 0xFFFF


def check_sum(data: bytes | bytearray, data_id: int) -> int:
    """What byte 0 of `data` must be."""
    crc = _TABLE[data_id & 0xFF]
    crc = _TABLE[crc ^ data_id >> 8]
    for value in memoryview(data)[1:]:
        crc = _TABLE[crc ^ value]
    return crc


def protected(data: bytes | bytearray, data_id: int, counter: int) -> bytes:
    """A copy of `data` with counter and check sum. Raises ValueError for a counter that is not from 0 to 14."""
    if not 0 <= counter < COUNTS:
        raise ValueError(f"the counter must be from 0 to {COUNTS - 1}, found {counter}")
    frame = bytearray(data)
    frame[1] = frame[1] & 0xF0 | counter
    frame[0] = check_sum(frame, data_id)
    return bytes(frame)


def is_whole(data: bytes | bytearray, data_id: int) -> bool:
    """Whether these 8 bytes are as they were sent, under this Data ID."""
    return len(data) == 8 and data[1] & 0x0F < COUNTS and data[0] == check_sum(data, data_id)
