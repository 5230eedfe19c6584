"""Pictures for those who look: of the newest frames, at a bounded rate, in a thread that the loop never waits for."""

from __future__ import annotations

import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edgetl_runtime.imports import cv2

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

QUALITY = 80
_END_S = 0.9
T = TypeVar("T")


class PictureThread(Generic[T]):
    """Calls `make` with the newest of what a loop offers, in a thread of its own, at most per_s times a second.

    The loop calls `offer`, which never waits: it takes no lock and hands over a reference. What was offered is let go
    of as soon as `make` returns, so that a frame's buffer goes back to the camera's pool. A picture that fails ends
    none of those that follow: the first one is told on stderr, by `name`. failed: how many. Raises MissingPackage
    without OpenCV.
    """

    def __init__(self, make: Callable[[T], None], *, per_s: float, name: str) -> None:
        cv2()
        self.failed = 0
        self._make, self._name = make, name
        self._interval_s, self._taken_s = 1 / per_s, float("-inf")
        self._offered: SimpleQueue[tuple[T] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{name} pictures", daemon=True)
        self._thread.start()

    def offer(self, offered: T) -> None:
        """Take this one where a picture is due and the one before was begun."""
        now_s = time.monotonic()
        if now_s - self._taken_s >= self._interval_s and self._offered.empty():
            self._taken_s = now_s
            self._offered.put((offered,))

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._offered.put(None)
        self._thread.join(_END_S)

    def _work(self) -> None:
        while (offered := self._offered.get()) is not None:
            try:
                self._make(*offered)
            except Exception as error:
                if not self.failed:
                    sys.stderr.write(f"edgetl {self._name}: no picture: {type(error).__name__}: {error}\n")
                self.failed += 1
            finally:
                del offered


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """An image (H, W, 3) uint8 BGR as JPEG. Raises ValueError where OpenCV can't write one so large."""
    library: Any = cv2()
    good, data = library.imencode(".jpg", image, [library.IMWRITE_JPEG_QUALITY, QUALITY])
    if not good:
        raise ValueError(f"OpenCV can't write {image.shape[1]}x{image.shape[0]} as JPEG")
    return bytes(data)
