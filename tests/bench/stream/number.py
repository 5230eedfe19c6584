"""A number in a corner of a picture, as black and white blocks that survive JPEG: which frame is this?

Needs numpy only: both ends use it, the camera and whoever sees its pictures in an environment of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK, COLUMNS, ROWS = 16, 10, 2
BITS = 16
_ALL = COLUMNS * ROWS
LIMIT = 1 << BITS
"""Numbers are below this."""


def draw_number(picture: NDArray[np.uint8], number: int) -> None:
    """Write the number into the top left corner of (H, W, 3) uint8, in place: 16 bits and a checksum of 4."""
    if not 0 <= number < LIMIT:
        raise ValueError(f"the number must be from 0 to {LIMIT - 1}, found {number}")
    word = number << 4 | _checksum(number)
    bits = np.array([word >> (_ALL - 1 - i) & 1 for i in range(_ALL)], np.uint8).reshape(ROWS, COLUMNS)
    picture[: ROWS * BLOCK, : COLUMNS * BLOCK] = (np.kron(bits, np.ones((BLOCK, BLOCK), np.uint8)) * 255)[..., None]


def read_number(picture: NDArray[np.uint8]) -> int | None:
    """The number in the top left corner; None where there is none, or where it can't be read."""
    corner = picture[: ROWS * BLOCK, : COLUMNS * BLOCK]
    if corner.shape[:2] != (ROWS * BLOCK, COLUMNS * BLOCK):
        return None
    centres = corner.reshape(ROWS, BLOCK, COLUMNS, BLOCK, 3)[:, 6:10, :, 6:10].mean(axis=(1, 3, 4)).ravel()
    if (np.abs(centres - 127.5) < 40).any():
        return None
    word = 0
    for level in centres:
        word = word << 1 | int(level > 127)
    number = word >> 4
    return number if word & 15 == _checksum(number) else None


def _checksum(number: int) -> int:
    nibbles = [number >> shift & 15 for shift in (0, 4, 8, 12)]
    return (3 * nibbles[0] + 5 * nibbles[1] + 7 * nibbles[2] + 11 * nibbles[3] + 9) & 15
