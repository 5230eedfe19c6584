"""The camera's pictures as JPEG with what is known of the camera, only while somebody subscribes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.pictures import PictureThread, jpeg
from edgetl_runtime.ros.convert import camera_message, header
from edgetl_runtime.ros.messages import CameraInfo, CompressedImage
from edgetl_runtime.ros.names import SENSOR
from edgetl_runtime.ros.payload import Encoder

if TYPE_CHECKING:
    from edgetl_runtime.result import Frame
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.ros.messages import Header
    from edgetl_runtime.ros.node import Ros2Node


class PictureSender:
    """Publishes `PREFIX/image/compressed` with `PREFIX/camera_info`, at most per_s times a second.

    sent: pictures published.
    """

    def __init__(
        self, node: Ros2Node, prefix: str, frame_id: str, *, per_s: float, intrinsics: Intrinsics | None
    ) -> None:
        self._frame_id, self._intrinsics = frame_id, intrinsics
        self._image = node.publisher(f"{prefix}/image/compressed", CompressedImage, SENSOR, urgent=False)
        self._info = node.publisher(f"{prefix}/camera_info", CameraInfo, SENSOR, urgent=False)
        self._encode = Encoder(CompressedImage, CameraInfo)
        self._thread = PictureThread(self._publish, per_s=per_s, name="ros2")

    @property
    def sent(self) -> int:
        """Pictures published."""
        return self._image.sent

    def offer(self, frame: Frame, epoch_ns: int) -> None:
        """Take this frame, captured at epoch_ns on the system clock, if one is due; never waits."""
        self._thread.offer((frame, epoch_ns))

    def close(self) -> None:
        """End the thread; twice is fine."""
        self._thread.close()

    def _publish(self, offered: tuple[Frame, int]) -> None:
        frame, epoch_ns = offered
        head = header(epoch_ns, self._frame_id)
        height, width = frame.image.shape[:2]
        if self._info.matched:
            self._info.put(self._encode(self._camera((height, width), head)))
        if self._image.matched:
            self._image.put(self._encode.with_octets(CompressedImage(head, "jpeg"), jpeg(frame.image)))

    def _camera(self, size_hw: tuple[int, int], head: Header) -> CameraInfo:
        try:
            return camera_message(size_hw, self._intrinsics, head)
        except InputError:  # a camera that changed the shape of its pictures is not calibrated any more
            self._intrinsics = None
            return camera_message(size_hw, None, head)
