"""Frames as JPEG for whoever has subscribed, packed in a thread of its own, at a bounded rate."""

from __future__ import annotations

import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.result import Frame

_QUALITY = 80
_END_S = 0.9


class Pictures:
    """Packs a frame and hands it to `deliver`, in the thread of this object.

    The loop calls `offer`, which never waits: it hands over a reference, where a picture is due and the one before is
    done. wanted: whether anybody looks. Pictures keep their size, which boxes are drawn in.
    """

    def __init__(self, deliver: Callable[[Frame, bytes], None], wanted: Callable[[], bool], *, per_s: float) -> None:
        self._cv2 = _cv2()
        self._deliver, self._wanted = deliver, wanted
        self._interval_s, self._taken_s = 1 / per_s, float("-inf")
        self._offered: SimpleQueue[Frame | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="foxglove pictures", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame) -> None:
        """Take the newest frame where somebody looks."""
        now_s = time.monotonic()
        if now_s - self._taken_s >= self._interval_s and self._offered.empty() and self._wanted():
            self._taken_s = now_s
            self._offered.put(frame)

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._offered.put(None)
        self._thread.join(_END_S)

    def _work(self) -> None:
        while (frame := self._offered.get()) is not None:
            try:
                _, data = self._cv2.imencode(".jpg", frame.image, [self._cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                self._deliver(frame, bytes(data))
            except Exception as error:  # a picture that fails must not end those that follow, nor pass unseen
                sys.stderr.write(f"edgetl foxglove: no picture: {type(error).__name__}: {error}\n")
            finally:
                del frame  # the buffer goes back to the camera's pool
