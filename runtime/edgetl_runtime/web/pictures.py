"""The newest annotated frame as JPEG, drawn and encoded in the threads of those who look."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.spec import Head

WIDEST = 1280
"""Pictures are sent no wider than this, in pixels."""

WATCHED_S = 3.0
"""So long after a request somebody counts as still watching."""

_QUALITY = 80


class Pictures:
    """Keeps one frame with its result while somebody watches, and nothing while nobody does.

    The loop calls `offer`, which stores two references: the frame's buffer stays the camera's, who takes another one
    from its pool meanwhile. Pictures are numbered; all who wait for the same one share its JPEG.
    """

    def __init__(self, heads: Sequence[Head], *, per_s: float) -> None:
        self._cv2 = _cv2()
        self._annotator = Annotator(tuple(heads))
        self._interval_s = 1 / per_s
        self._changed = threading.Condition()
        self._held: tuple[Frame, Result] | None = None
        self._number = 0
        self._taken_s = self._asked_s = float("-inf")
        self.closed = False
        self._drawing = threading.Lock()
        self._jpeg, self._jpeg_number = b"", 0

    @property
    def watched(self) -> bool:
        """Whether somebody asked for a picture lately."""
        return time.monotonic() - self._asked_s < WATCHED_S

    def offer(self, frame: Frame, result: Result) -> None:
        """Take the newest frame where somebody watches and a picture is due."""
        now_s = time.monotonic()
        if now_s - self._asked_s >= WATCHED_S:
            self._held = None  # the buffer goes back to the camera's pool
            return
        if now_s - self._taken_s < self._interval_s:
            return
        self._taken_s = now_s
        with self._changed:  # held by others for no more than a look at the number
            self._held = (frame, result)
            self._number += 1
            self._changed.notify_all()

    def newer_than(self, number: int, wait_s: float) -> tuple[int, bytes] | None:
        """Wait for a picture with a higher number and give it as (number, JPEG); None where none came in time.

        A number that was never given, as one from a run before this, counts as 0.
        """
        self._asked_s = time.monotonic()
        with self._changed:
            number = number if number <= self._number else 0
            self._changed.wait_for(lambda: self.closed or (self._held and self._number > number), wait_s)
            if self.closed or self._held is None or self._number <= number:
                return None
        return self._drawn()

    def close(self) -> None:
        """Wake all who wait; they get None."""
        with self._changed:
            self.closed, self._held = True, None
            self._changed.notify_all()

    def _drawn(self) -> tuple[int, bytes] | None:
        with self._drawing:
            with self._changed:
                held, number = self._held, self._number
            if number != self._jpeg_number and held is not None:
                self._jpeg, self._jpeg_number = self._encode(*held), number
            return (self._jpeg_number, self._jpeg) if self._jpeg else None

    def _encode(self, frame: Frame, result: Result) -> bytes:
        picture: Any = self._annotator(frame, result)
        height, width = picture.shape[:2]
        if width > WIDEST:
            size_wh = (WIDEST, max(round(height * WIDEST / width), 1))
            picture = self._cv2.resize(picture, size_wh, interpolation=self._cv2.INTER_AREA)
        done, data = self._cv2.imencode(".jpg", picture, [self._cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return bytes(data) if done else b""
