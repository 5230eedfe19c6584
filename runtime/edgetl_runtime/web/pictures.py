"""The newest annotated frame as JPEG, drawn only while somebody waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.imports import cv2 as _cv2
from edgetl_runtime.pictures import PictureThread, jpeg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.spec import Head

WIDEST = 1280
"""Pictures are sent no wider than this, in pixels."""

FRESH_S = 1.0
"""A picture that was drawn longer ago is not given: what is old must not look like now."""


class Pictures:
    """Draws a frame with its result when somebody waits for a picture; all who wait get the same JPEG.

    The loop calls `offer`, which never waits. The frame's buffer stays the camera's, who takes another one from its
    pool meanwhile. Pictures are numbered from 1.
    """

    def __init__(self, heads: Sequence[Head], *, per_s: float) -> None:
        self.closed = False
        self._cv2 = _cv2()
        self._annotator = Annotator(tuple(heads))
        self._per_s = per_s
        self._changed = threading.Condition()
        self._waiting = 0
        self._number, self._jpeg, self._drawn_s = 0, b"", float("-inf")
        self._painter: PictureThread[tuple[Frame, Result]] | None = None

    def start(self) -> None:
        """Begin to draw."""
        self._painter = PictureThread(self._paint, per_s=self._per_s, name="web")

    def offer(self, frame: Frame, result: Result) -> None:
        """Take the newest frame where somebody waits and a picture is due."""
        if self._waiting and self._painter is not None:
            self._painter.offer((frame, result))

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
        if self._painter is not None:
            self._painter.close()

    def _is_newer(self, number: int) -> bool:
        return self._number > number and time.monotonic() - self._drawn_s < FRESH_S

    def _paint(self, offered: tuple[Frame, Result]) -> None:
        packed = self._encode(*offered)
        with self._changed:
            self._number, self._jpeg, self._drawn_s = self._number + 1, packed, time.monotonic()
            self._changed.notify_all()

    def _encode(self, frame: Frame, result: Result) -> bytes:
        picture: Any = self._annotator(frame, result)
        height, width = picture.shape[:2]
        if width > WIDEST:
            size_wh = (WIDEST, max(round(height * WIDEST / width), 1))
            picture = self._cv2.resize(picture, size_wh, interpolation=self._cv2.INTER_AREA)
        return jpeg(picture)
