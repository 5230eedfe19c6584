"""Cameras, one file each: V4L2 devices, video files and folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgetl_runtime.errors import CameraError

if TYPE_CHECKING:
    from edgetl_runtime.result import Frame

KINDS = "a camera (0 or /dev/video0), a video file, or a folder of images"


class Camera(Protocol):
    """A source of frames. One thread reads, and nothing else touches it meanwhile.

    live: frames are lost when nobody reads, so only the newest matters. fps: as the source reports it.
    size_hw: of the first frame where that is known, else (0, 0). frame_count: None where there is no end.
    failed: frames that arrived but could not be decoded. notes: what differs from what was asked for.
    """

    camera_id: str
    live: bool
    fps: float
    notes: list[str]

    @property
    def failed(self) -> int:
        """Frames that arrived but could not be decoded."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def frame_count(self) -> int | None:
        """How many frames the source says it has."""

    def read(self) -> Frame | None:
        """The next frame, or None at the end. Raises CameraError where the source fails."""

    def close(self) -> None:
        """Let go of the device or file; closing twice is fine."""


@runtime_checkable
class Interruptible(Protocol):
    """A camera whose `read` may wait long, and can be told not to."""

    def interrupt(self) -> None:
        """`read`, which waits or comes later, gives None soon; `close` is still to be called."""


def open_camera(source: str | int, *, size_hw: tuple[int, int] | None = None, fps: float | None = None) -> Camera:
    """Open what `source` names; see KINDS. size_hw and fps are asked of a V4L2 camera and read back.

    Raises CameraError where there is no such thing, it can't be opened, or size_hw or fps is asked of a
    file; MissingPackage without OpenCV.
    """
    text = str(source)
    if text.isdecimal() or text.startswith("/dev/video"):
        from edgetl_runtime.cameras.v4l2 import V4L2Camera

        return V4L2Camera(text, size_hw=size_hw, fps=fps)
    if size_hw or fps:
        raise CameraError(f"a size or rate can be asked of a camera only, not of {text}")
    if "://" in text:
        raise CameraError(f"network streams are not supported, found {text}", remedy=f"give {KINDS}")
    path = Path(text)
    if path.is_dir():
        from edgetl_runtime.cameras.images import ImagesCamera

        return ImagesCamera(path)
    if path.is_file():
        from edgetl_runtime.cameras.video import VideoCamera

        return VideoCamera(path)
    raise CameraError(f"there is no source {text!r}", remedy=f"give {KINDS}")
