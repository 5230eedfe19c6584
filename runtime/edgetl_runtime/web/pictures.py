"""The newest annotated frames as JPEG, drawn and encoded in a thread of its own, only while somebody waits for them."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.imports import cv2 as _cv2
from edgetl_runtime.pictures import jpeg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.spec import Head

WIDEST = 1280
"""Pictures are sent no wider than this, in pixels."""

WIDEST_OF_SEVERAL = 800
"""The same where several lanes are watched: they stand beside each other."""

FRESH_S = 1.0
"""A picture that was drawn longer ago is not given: what is old must not look like now."""

IN_ALL = 2
"""All lanes together get so many times the pictures of one: the more are watched, the slower each."""

_END_S = 0.9


@dataclass(frozen=True, slots=True)
class Picture:
    """A lane's newest. number: from 1 in the order of drawing, over all lanes. drawn_s: time.monotonic."""

    number: int
    jpeg: bytes
    drawn_s: float


class Pictures:
    """Draws a frame with its result when somebody waits for a picture of its lane; all who wait get the same JPEG.

    The loop calls `offer`, which never waits: it takes no lock, and hands over a reference. The frame's buffer stays
    the camera's, who takes another one from its pool meanwhile. Of each lane one frame waits at the most.

    heads: the manifests', by bundle. per_s: of one lane, at the most; all together get IN_ALL times as many.
    """

    def __init__(self, heads: Mapping[str, Sequence[Head]], *, per_s: float) -> None:
        self.closed = False
        self._cv2 = _cv2()
        self._annotators = {bundle: Annotator(tuple(own)) for bundle, own in heads.items()}
        self._per_s = per_s
        self._taken_s: dict[LaneName, float] = {}
        self._pending: set[LaneName] = set()
        self._offered: SimpleQueue[tuple[LaneName, Frame, Result] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._waiting: Counter[LaneName] = Counter()
        self._watched = 0
        self._number = 0
        self._newest: dict[LaneName, Picture] = {}
        self._painter = threading.Thread(target=self._paint, name="web painter", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._painter.start()

    def offer(self, name: LaneName, frame: Frame, result: Result) -> None:
        """Take the lane's newest frame where somebody waits, a picture is due and the one before is drawn."""
        if not self._waiting[name] or name in self._pending:
            return
        now_s = time.monotonic()
        due_s = max(1.0, self._watched / IN_ALL) / self._per_s
        if now_s - self._taken_s.get(name, float("-inf")) >= due_s:
            self._taken_s[name] = now_s
            self._pending.add(name)
            self._offered.put((name, frame, result))

    def newer_than(self, names: Collection[LaneName], number: int, wait_s: float) -> dict[LaneName, Picture]:
        """Wait for pictures of these lanes with a higher number; all that are there then, none where none came in time.

        A number that was never given, as one from a run before this, counts as 0.
        """
        with self._changed:
            number = number if number <= self._number else 0
            self._waits(names, 1)
            try:
                self._changed.wait_for(
                    lambda: self.closed or any(self._is_newer(name, number) for name in names), wait_s
                )
            finally:
                self._waits(names, -1)
            found = [] if self.closed else [name for name in names if self._is_newer(name, number)]
            return {name: self._newest[name] for name in found}

    def close(self) -> None:
        """End the thread and wake all who wait; they get none. Twice is fine."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._offered.put(None)
        if self._painter.is_alive():
            self._painter.join(_END_S)

    def _waits(self, names: Collection[LaneName], more: int) -> None:
        for name in names:
            self._waiting[name] += more
        self._watched = sum(n > 0 for n in self._waiting.values())

    def _is_newer(self, name: LaneName, number: int) -> bool:
        newest = self._newest.get(name)
        return newest is not None and newest.number > number and time.monotonic() - newest.drawn_s < FRESH_S

    def _paint(self) -> None:
        while (first := self._offered.get()) is not None:
            drawn: dict[LaneName, bytes] = {}
            batch = [first, *self._others()]  # of one round mostly; told together
            del first
            while batch:
                name, frame, result = batch.pop(0)
                self._pending.discard(name)
                try:
                    drawn[name] = self._encode(name, frame, result)
                except Exception as error:  # a picture that fails must not end those that follow, nor pass unseen
                    sys.stderr.write(f"edgetl web: no picture: {type(error).__name__}: {error}\n")
                finally:
                    del frame, result  # the buffer goes back to the camera's pool
            self._tell(drawn)

    def _others(self) -> list[tuple[LaneName, Frame, Result]]:
        """What waits to be drawn, one of each lane at the most."""
        others = []
        with suppress(Empty):
            while (offered := self._offered.get_nowait()) is not None:
                others.append(offered)
            self._offered.put(None)  # the end is for the next turn
        return others

    def _tell(self, drawn: dict[LaneName, bytes]) -> None:
        with self._changed:
            for name, packed in drawn.items():
                self._number += 1
                self._newest[name] = Picture(self._number, packed, time.monotonic())
            self._changed.notify_all()

    def _encode(self, name: LaneName, frame: Frame, result: Result) -> bytes:
        picture: Any = self._annotators[name.bundle](frame, result)
        height, width = picture.shape[:2]
        widest = WIDEST_OF_SEVERAL if self._watched > 1 else WIDEST
        if width > widest:
            size_wh = (widest, max(round(height * widest / width), 1))
            picture = self._cv2.resize(picture, size_wh, interpolation=self._cv2.INTER_AREA)
        return jpeg(picture)
