"""The camera's pictures as JPEG, encoded and published in a thread of its own, only while somebody subscribes."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import cv2
from edgetl_runtime.ros.convert import camera_message, header
from edgetl_runtime.ros.messages import CameraInfo, CompressedImage
from edgetl_runtime.ros.names import SENSOR
from edgetl_runtime.ros.payload import Encoder

if TYPE_CHECKING:
    from edgetl_runtime.result import Frame
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.ros.messages import Header
    from edgetl_runtime.ros.node import Ros2Node

QUALITY = 80
_END_S = 1.0


@dataclass(frozen=True, slots=True)
class _Offered:
    frame: Frame
    epoch_ns: int


class PictureSender:
    """Publishes `PREFIX/image/compressed` with `PREFIX/camera_info`, at most per_s times a second.

    The loop calls `offer`, which never waits: a frame is taken where a picture is due and the one before is done, and
    only a reference to it is handed over. sent: pictures published. failed: those that could not be.
    """

    def __init__(
        self, node: Ros2Node, prefix: str, frame_id: str, *, per_s: float, intrinsics: Intrinsics | None
    ) -> None:
        self._cv2 = cv2()
        self._frame_id, self._intrinsics = frame_id, intrinsics
        self._image = node.publisher(f"{prefix}/image/compressed", CompressedImage, SENSOR, urgent=False)
        self._info = node.publisher(f"{prefix}/camera_info", CameraInfo, SENSOR, urgent=False)
        self._encode = Encoder(CompressedImage, CameraInfo)
        self._interval_s = 1 / per_s
        self._taken_s = float("-inf")
        self._offered: SimpleQueue[_Offered | None] = SimpleQueue()
        self.failed = 0
        self._thread = threading.Thread(target=self._work, name="ros2 pictures", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        """Pictures published."""
        return self._image.sent

    def offer(self, frame: Frame, epoch_ns: int) -> None:
        """Take this frame, captured at epoch_ns on the system clock, if one is due."""
        now_s = time.monotonic()
        if now_s - self._taken_s >= self._interval_s and self._offered.empty():
            self._taken_s = now_s
            self._offered.put(_Offered(frame, epoch_ns))

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._offered.put(None)
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _work(self) -> None:
        while (offered := self._offered.get()) is not None:
            try:
                self._publish(offered)
            except Exception as error:  # one picture must not end those that follow, nor fail unseen
                if not self.failed:
                    sys.stderr.write(f"edgetl ros2: no picture: {type(error).__name__}: {error}\n")
                self.failed += 1
            finally:
                del offered  # the buffer goes back to the camera's pool

    def _publish(self, offered: _Offered) -> None:
        head = header(offered.epoch_ns, self._frame_id)
        height, width = offered.frame.image.shape[:2]
        if self._info.matched:
            self._info.put(self._encode(self._camera((height, width), head)))
        if not self._image.matched:
            return
        good, data = self._cv2.imencode(".jpg", offered.frame.image, [self._cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not good:
            raise ValueError(f"OpenCV can't write {width}x{height} as JPEG")
        self._image.put(self._encode.with_octets(CompressedImage(head, "jpeg"), data.tobytes()))

    def _camera(self, size_hw: tuple[int, int], head: Header) -> CameraInfo:
        try:
            return camera_message(size_hw, self._intrinsics, head)
        except InputError:  # a camera that changed the shape of its pictures is not calibrated any more
            self._intrinsics = None
            return camera_message(size_hw, None, head)
