"""Frames as JPEG for whoever has subscribed, packed in a thread of their own, at a bounded rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.pictures import PictureThread, jpeg

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.result import Frame


class Pictures:
    """Packs a frame and hands it to `deliver`, in the thread of this object. wanted: whether anybody looks.

    The loop calls `offer`, which never waits. Pictures keep their size, which boxes are drawn in.
    """

    def __init__(self, deliver: Callable[[Frame, bytes], None], wanted: Callable[[], bool], *, per_s: float) -> None:
        self._deliver, self._wanted = deliver, wanted
        self._thread = PictureThread(self._pack, per_s=per_s, name="foxglove")

    def offer(self, frame: Frame) -> None:
        """Take the newest frame where somebody looks and a picture is due."""
        if self._wanted():
            self._thread.offer(frame)

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._thread.close()

    def _pack(self, frame: Frame) -> None:
        self._deliver(frame, jpeg(frame.image))
