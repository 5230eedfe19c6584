"""A process that writes patterned frames to shared memory: python shared_writer.py NAME HEIGHT WIDTH INTERVAL_S.

Every pixel of frame `n` is (n, n >> 8, n >> 16) mixed with its place, so that a mixture of two frames shows.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.cameras.shared import SharedFrames


def pattern(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3): no byte is the same in two frames whose numbers follow each other."""
    colour = np.array([number & 255, (number * 7 + 1) & 255, (number >> 8) + number * 3 & 255], np.uint8)
    rows = (np.arange(height) & 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rows[:, None, None] + colour, (height, width, 3)))


def main() -> None:
    """Write until killed."""
    name, height, width, interval_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    writer = SharedFrames(name, (height, width))
    pictures = [pattern(n, height, width) for n in range(256)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    number = 0
    parent_end = time.monotonic() + 120  # nobody's orphan for long
    while time.monotonic() < parent_end:
        writer.write(pictures[number % 256], frame_id=number)
        number += 1
        if interval_s:
            time.sleep(interval_s)


if __name__ == "__main__":
    main()
