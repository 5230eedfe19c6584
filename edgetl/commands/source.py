"""Where a run's frames come from: the flags, the camera behind them, and the faults that were asked for."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING

from edgetl.commands.ros2 import open_ros2_camera
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.health import Health
    from edgetl_runtime.inject import Injector
    from edgetl_runtime.repair import Patience

PIXEL_FORMATS = ("MJPG", "YUYV", "UYVY", "NV12", "BGR3", "RGB3", "GREY", "JPEG")
SOURCES = (
    "a camera (0, /dev/video0 or a link under /dev/v4l; opencv:0 through OpenCV), a network camera (rtsp://, rtsps://, "
    "http:// or https://), shm:NAME for frames of another process, ros2:/TOPIC for images of a ROS 2 node, "
    "gst:PIPELINE ending in appsink, roadworld:DOMAIN or "
    "roadworld:DOMAIN:SEED for rendered driving, a video file, or a folder of images"
)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything about the camera but its name."""
    group = parser.add_argument_group("camera")
    group.add_argument("--realtime", action="store_true", help="play a file at its own rate, like a camera")
    group.add_argument("--camera-size", metavar="WxH", help="ask the camera for this size")
    group.add_argument("--camera-fps", type=float, help="ask the camera for this rate")
    group.add_argument("--camera-format", choices=PIXEL_FORMATS, help="ask a V4L2 camera for this pixel format")
    group.add_argument(
        "--stall-s", type=float, default=0.5, metavar="S", help="without a frame for so long a camera is stalled"
    )
    group.add_argument(
        "--frozen-s",
        type=float,
        default=2.0,
        metavar="S",
        help="a picture that does not change at all for so long is frozen; 0: it may stand still",
    )
    group.add_argument(
        "--give-up-s",
        type=float,
        default=60.0,
        metavar="S",
        help="open a live camera that fails again, and load an engine that fails again, for so long; 0: for ever",
    )
    group.add_argument(
        "--begin-without",
        action="store_true",
        help="begin although a live camera can't be opened: it is absent until it is there",
    )
    group.add_argument(
        "--inject",
        metavar="FAULTS",
        help="for tests: bring about faults, like stall=2@100,nan=3@50/400 (kind=amount@frame/every)",
    )


def patience_of(args: argparse.Namespace) -> Patience:
    """How long the run waits for what does not come. Raises InputError for what is no time."""
    from edgetl_runtime.repair import Patience

    for name, least in (("stall_s", 0.01), ("frozen_s", 0.0), ("give_up_s", 0.0)):
        value = getattr(args, name)
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"--{name.replace('_', '-')} must be {least:g} or more seconds, found {value:g}")
    return Patience(stall_s=args.stall_s, frozen_s=args.frozen_s, give_up_s=args.give_up_s)


def injector_of(args: argparse.Namespace) -> Injector | None:
    """The faults that were asked for; None where none were. Raises InputError."""
    from edgetl_runtime.inject import Injector, parse_faults

    return Injector(parse_faults(args.inject)) if args.inject is not None else None


def open_source(args: argparse.Namespace, health: Health, injector: Injector | None) -> Camera:
    """The camera that `args.source` names. Raises InputError for flags that don't fit it, CameraError."""
    from edgetl_runtime.cameras import open_camera
    from edgetl_runtime.cameras.paced import PacedCamera

    size_hw = size_hw_of(args)
    wrap: Callable[[Camera], Camera] | None = injector.camera if injector is not None else None
    if args.source.startswith("roadworld:"):
        camera = _open_roadworld(args, size_hw)
        return wrap(camera) if wrap else camera
    if args.source.startswith("ros2:"):
        return open_ros2_camera(args, health, wrap)
    camera = open_camera(
        args.source,
        size_hw=size_hw,
        fps=args.camera_fps,
        pixel_format=args.camera_format,
        give_up_s=args.give_up_s,
        may_be_absent=args.begin_without,
        health=health,
        wrap=wrap,
    )
    if camera.live:
        return camera
    if not args.realtime:
        if injector is not None:
            camera.close()
            raise InputError("--inject is for a live source, and this is a file", remedy="add --realtime")
        return camera
    paced = PacedCamera(camera)
    return wrap(paced) if wrap else paced


def described(camera: Camera, health: Health) -> str:
    """A camera that was just opened, for people; why it is not there where it isn't."""
    if (why := health.gone()) is not None:
        return f"{camera.camera_id}, which is not there yet: {why}"
    height, width = camera.size_hw
    size = f" {width}x{height}" if height else ""
    return f"{camera.camera_id}{size} at {camera.fps:g}/s"


def size_hw_of(args: argparse.Namespace) -> tuple[int, int] | None:
    """Height and width of --camera-size, None without it. Raises InputError for what is no size."""
    text = args.camera_size
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise InputError(f"--camera-size must be like 1280x720, found {text}")
    return int(match[2]), int(match[1])


def _open_roadworld(args: argparse.Namespace, size_hw: tuple[int, int] | None) -> Camera:
    from edgetl.roadworld.live import FPS, SIZE_HW, RoadworldCamera, parse_source

    if args.camera_format:
        raise InputError("--camera-format can be asked of a V4L2 camera only")
    domain, seed = parse_source(args.source)
    return RoadworldCamera(domain, seed=seed, size_hw=size_hw or SIZE_HW, fps=args.camera_fps or FPS)
