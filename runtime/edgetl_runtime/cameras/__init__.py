"""Cameras, one file each: V4L2 devices, network streams, shared memory, GStreamer, video files, folders of images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgetl_runtime.cameras._url import SCHEMES, public_url, scheme_of
from edgetl_runtime.errors import CameraError

if TYPE_CHECKING:
    from edgetl_runtime.health import Health
    from edgetl_runtime.result import Frame

KINDS = (
    "a camera (0, /dev/video0, or opencv:0 through OpenCV), a network camera (rtsp://, rtsps://, http:// or https://), "
    "shm:NAME, a ROS 2 topic (ros2:/…), a GStreamer pipeline (gst:… ! appsink), a video file, or a folder of images"
)


class Camera(Protocol):
    """A source of frames. One thread reads, and nothing else touches it meanwhile.

    live: frames are lost when nobody reads, so only the newest matters. fps: as the source reports it.
    size_hw: of the first frame where that is known, else (0, 0). frame_count: None where there is no end.
    failed: frames that arrived but could not be decoded. notes: what differs from what was asked for, or can't be
    known.
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
    """A camera whose `read` may be ended by another thread, so that closing it needs no waiting."""

    def interrupt(self) -> None:
        """`read`, which waits or comes later, gives None soon; `close` is still to be called."""


def interrupt(camera: object) -> bool:
    """End a `read` of this camera that waits in another thread; whether it can be ended."""
    if not isinstance(camera, Interruptible):
        return False
    camera.interrupt()
    return True


Opener = Callable[[threading.Event], Camera]
"""Opens a live camera; gives up, where it can, when the event is set."""


def open_camera(
    source: str | int,
    *,
    size_hw: tuple[int, int] | None = None,
    fps: float | None = None,
    pixel_format: str | None = None,
    give_up_s: float | None = None,
    may_be_absent: bool = False,
    health: Health | None = None,
    wrap: Callable[[Camera], Camera] | None = None,
) -> Camera:
    """Open what `source` names; see KINDS. size_hw, fps and pixel_format are asked of a V4L2 camera and read back.

    give_up_s: a live camera that fails later is opened again for so long, 0 for ever; None: its failure is an error
    at once. may_be_absent: the first opening may fail too, where give_up_s is given. health is told about both. Files
    are never opened again. wrap: put around a live camera each time that it is opened.

    Raises CameraError where there is no such thing, it can't be opened, or size_hw, fps or pixel_format is asked of
    what is no V4L2 camera; MissingPackage without OpenCV. No error holds a password of an address.
    """
    text = str(source)
    opener = _live(text, size_hw, fps, pixel_format)
    if opener is None:
        return _open_file(text)
    absent = _name_of(text) if may_be_absent else None
    return keep_open(opener, give_up_s=give_up_s, absent=absent, health=health, wrap=wrap)


def keep_open(
    opener: Opener,
    *,
    give_up_s: float | None = None,
    absent: str | None = None,
    health: Health | None = None,
    wrap: Callable[[Camera], Camera] | None = None,
) -> Camera:
    """What a live camera's opener opens, opened again where that is wanted; arguments as of open_camera.

    absent: what the camera is called where the first opening may fail, but for a NoSuchKind.
    """

    def opened(stop: threading.Event) -> Camera:
        camera = opener(stop)
        return wrap(camera) if wrap else camera

    if give_up_s is None:
        return opened(threading.Event())
    from edgetl_runtime.cameras.reconnecting import ReconnectingCamera

    return ReconnectingCamera(opened, give_up_s=give_up_s, absent=absent, health=health)


def _live(source: str, size_hw: tuple[int, int] | None, fps: float | None, pixel_format: str | None) -> Opener | None:
    """What opens this live source; None where it is none. Raises CameraError for what can't be asked of it."""
    if source.isdecimal() or source.startswith(("/dev/video", "/dev/v4l/")):
        from edgetl_runtime.cameras.v4l2 import V4L2Camera

        return lambda stop: V4L2Camera(source, size_hw=size_hw, fps=fps, pixel_format=pixel_format)
    if source.startswith("opencv:"):
        from edgetl_runtime.cameras.opencv import OpenCVCamera

        device = source.removeprefix("opencv:")
        return lambda stop: OpenCVCamera(device, size_hw=size_hw, fps=fps, pixel_format=pixel_format)
    scheme = scheme_of(source)
    if size_hw or fps or pixel_format:
        raise CameraError(f"a size, rate or format can be asked of a V4L2 camera only, not of {_shown(source)}")
    if scheme in SCHEMES:
        from edgetl_runtime.cameras.stream import StreamCamera

        return lambda stop: StreamCamera(source, stop=stop)
    prefix, colon, rest = source.partition(":")
    if colon and prefix in _BY_PREFIX:
        return lambda stop: _BY_PREFIX[prefix](rest, stop)
    if scheme:
        raise CameraError(f"{scheme}:// is not supported, found {_shown(source)}", remedy=f"give {KINDS}")
    return None


def _shown(source: str) -> str:
    """The source as it may be told: without a password, and of a pipeline the beginning."""
    return public_url(source) if scheme_of(source) else source.split(" ", 1)[0]


def _name_of(source: str) -> str:
    """The camera_id of a live source before it is there, which is the same as afterwards."""
    number = source.removeprefix("opencv:").removeprefix("/dev/video")
    return f"/dev/video{number}" if number.isdecimal() else _shown(source)


def _shared(name: str, stop: threading.Event) -> Camera:
    from edgetl_runtime.cameras.shared import SharedCamera

    return SharedCamera(name)


def _ros2(topic: str, stop: threading.Event) -> Camera:
    from edgetl_runtime.ros import Ros2Camera

    return Ros2Camera(topic, stop=stop)


def _gstreamer(pipeline: str, stop: threading.Event) -> Camera:
    from edgetl_runtime.cameras.gstreamer import GStreamerCamera

    return GStreamerCamera(pipeline, stop=stop)


_BY_PREFIX: Mapping[str, Callable[[str, threading.Event], Camera]] = {
    "shm": _shared,
    "ros2": _ros2,
    "gst": _gstreamer,
}
"""Live sources that begin with this word and a colon."""


def _open_file(source: str) -> Camera:
    path = Path(source)
    try:
        is_dir, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise CameraError(f"can't open {source!r}: {error.strerror}", remedy="check its permissions") from error
    if is_dir:
        from edgetl_runtime.cameras.images import ImagesCamera

        return ImagesCamera(path)
    if is_file:
        from edgetl_runtime.cameras.video import VideoCamera

        return VideoCamera(path)
    raise CameraError(f"there is no source {source!r}", remedy=f"give {KINDS}")
