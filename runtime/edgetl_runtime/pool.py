"""Frame buffers that are used again once nobody else holds them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


AHEAD = 5
"""One that is being read, two that wait, one in the pipeline, one that is being published."""


class FramePool:
    """Hands out (H, W, 3) uint8 buffers; one comes back by itself when its last outside reference is gone.

    A receiver therefore owns its frame for as long as it keeps it, or any view of it, and a loop that lets
    go of its frames allocates nothing after the first few. At most `limit` buffers are kept; beyond that a
    plain new array is given.
    """

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self._buffers: list[NDArray[np.uint8]] = [np.empty((1, 1, 3), np.uint8)]
        self._idle_count = self._references(0)  # what the interpreter counts for a buffer that only we hold
        self._buffers.clear()

    def take(self, height: int, width: int) -> NDArray[np.uint8]:
        """A contiguous buffer of this size with undefined content."""
        for i in range(len(self._buffers)):
            if self._references(i) == self._idle_count:
                if self._buffers[i].shape[:2] != (height, width):
                    self._buffers[i] = np.empty((height, width, 3), np.uint8)
                return self._buffers[i]
        if not self._buffers:
            self._buffers = [np.empty((height, width, 3), np.uint8) for _ in range(min(AHEAD, self.limit))]
            return self._buffers[0]
        fresh = np.empty((height, width, 3), np.uint8)
        if len(self._buffers) < self.limit:
            self._buffers.append(fresh)
        return fresh

    def _references(self, index: int) -> int:
        return sys.getrefcount(self._buffers[index])
