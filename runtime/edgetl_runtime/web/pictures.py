"""The newest annotated frame as JPEG, drawn and encoded in a thread of its own, only while somebody waits for it."""

from __future__ import annotations

import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.spec import Head

WIDEST = 1280
"""Pictures are sent no wider than this, in pixels."""

FRESH_S = 1.0
"""A picture that was drawn longer ago is not given: what is old must not look like now."""

_QUALITY = 80
_END_S = 0.9


class Pictures:
    """Draws a frame with its result when somebody waits for a picture; all who wait get the same JPEG.

    The loop calls `offer`, which never waits: it takes no lock, and hands over a reference. The frame's buffer stays
    the camera's, who takes another one from its pool meanwhile. Pictures are numbered from 1.
    """

    def __init__(self, heads: Sequence[Head], *, per_s: float) -> None:
        self.closed = False
        self._cv2 = _cv2()
        self._annotator = Annotator(tuple(heads))
        self._interval_s = 1 / per_s
        self._taken_s = float("-inf")
        self._offered: SimpleQueue[tuple[Frame, Result] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._waiting = 0
        self._number, self._jpeg, self._drawn_s = 0, b"", float("-inf")
        self._painter = threading.Thread(target=self._paint, name="web painter", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._painter.start()

    def offer(self, frame: Frame, result: Result) -> None:
        """Take the newest frame where somebody waits, a picture is due and the one before is drawn."""
        if not self._waiting:
            return
        now_s = time.monotonic()
        if now_s - self._taken_s >= self._interval_s and self._offered.empty():
            self._taken_s = now_s
            self._offered.put((frame, result))

    def newer_than(self, number: int, wait_s: float) -> tuple[int, bytes] | None:
        """Wait for a picture with a higher number and give it as (number, JPEG); None where none came in time.

        A number that was never given, as one from a run before this, counts as 0.
        """
        with self._changed:
            number = number if number <= self._number else 0
            self._waiting += 1
            try:
                came = self._changed.wait_for(lambda: self.closed or self._is_newer(number), wait_s)
            finally:
                self._waiting -= 1
            return (self._number, self._jpeg) if came and not self.closed else None

    def close(self) -> None:
        """End the thread and wake all who wait; they get None. Twice is fine."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._offered.put(None)
        if self._painter.is_alive():
            self._painter.join(_END_S)

    def _is_newer(self, number: int) -> bool:
        return self._number > number and time.monotonic() - self._drawn_s < FRESH_S

    def _paint(self) -> None:
        while (offered := self._offered.get()) is not None:
            try:
                jpeg = self._encode(*offered)
            except Exception as error:  # a picture that fails must not end those that follow, nor pass unseen
                sys.stderr.write(f"edgetl web: no picture: {type(error).__name__}: {error}\n")
                continue
            finally:
                del offered  # the buffer goes back to the camera's pool
            with self._changed:
                self._number, self._jpeg, self._drawn_s = self._number + 1, jpeg, time.monotonic()
                self._changed.notify_all()

    def _encode(self, frame: Frame, result: Result) -> bytes:
        picture: Any = self._annotator(frame, result)
        height, width = picture.shape[:2]
        if width > WIDEST:
            size_wh = (WIDEST, max(round(height * WIDEST / width), 1))
            picture = self._cv2.resize(picture, size_wh, interpolation=self._cv2.INTER_AREA)
        _, data = self._cv2.imencode(".jpg", picture, [self._cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return bytes(data)
