"""--ros2 and ros2: sources: their flags, what is refused before anything is loaded, the sink and the camera."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.health import Health
    from edgetl_runtime.ros import Intrinsics, Ros2Options
    from edgetl_runtime.sinks import Sink

SCHEME = "ros2:"
DOMAIN = "ROS_DOMAIN_ID"
_OF_SINK = ("ros2_images", "ros2_camera_info", "ros2_frame_id")
_OF_GRAPH = ("ros2_connect", "ros2_listen", "ros2_domain", "ros2_namespace", "ros2_node", "ros2_no_type_hash")


def add_ros2_arguments(parser: argparse.ArgumentParser) -> None:
    """--ros2 and what goes with it."""
    group = parser.add_argument_group("ROS 2, through Zenoh as rmw_zenoh_cpp nodes speak it; no ROS is needed here")
    group.add_argument(
        "--ros2",
        nargs="?",
        const="edgetl",
        metavar="PREFIX",
        help="publish PREFIX/detections (vision_msgs) and /diagnostics; default PREFIX: edgetl",
    )
    group.add_argument(
        "--ros2-images",
        type=float,
        nargs="?",
        const=5.0,
        metavar="PER_S",
        help="publish PREFIX/image/compressed and PREFIX/camera_info too, at most so often (5), to those who subscribe",
    )
    group.add_argument(
        "--ros2-camera-info",
        type=Path,
        metavar="YAML",
        help="ROS's calibration file of the camera (default: --calibration)",
    )
    group.add_argument(
        "--ros2-frame-id", metavar="FRAME", help="of the messages (default: the topic's own, or CAMERA_optical_frame)"
    )
    group.add_argument(
        "--ros2-connect",
        action="append",
        default=[],
        metavar="tcp/HOST:PORT",
        help="the router (default: tcp/localhost:7447)",
    )
    group.add_argument(
        "--ros2-listen",
        action="append",
        default=[],
        metavar="tcp/HOST:PORT",
        help="be reached here (port 0: any, which is told), and do without a router where no --ros2-connect is given",
    )
    group.add_argument("--ros2-domain", type=int, metavar="N", help=f"default: {DOMAIN} or 0")
    group.add_argument("--ros2-namespace", metavar="/NAMESPACE", help="of the node and its topics")
    group.add_argument("--ros2-node", metavar="NAME", help="of the node (default: edgetl)")
    group.add_argument("--ros2-no-type-hash", action="store_true", help="for distributions before type hashes: Humble")


def open_ros2(args: argparse.Namespace, bundle: Bundle, camera: Camera, stack: ExitStack) -> list[Sink]:
    """The sink that the flags ask for, none where they ask for none. Raises InputError or MissingPackage."""
    if args.ros2 is None:
        return []
    from edgetl_runtime.ros import Ros2Sink

    sink = Ros2Sink(
        bundle.manifest.heads,
        camera_id=camera.camera_id.removeprefix(SCHEME),
        prefix=args.ros2,
        frame_id=args.ros2_frame_id,
        options=options_of(args),
        pictures_per_s=args.ros2_images or 0.0,
        intrinsics=intrinsics_of(args),
    )
    stack.callback(sink.close)
    sys.stderr.write(f"ROS 2: {', '.join([*sink.topics, '/diagnostics'])}\n")
    return [sink]


def check_ros2(args: argparse.Namespace) -> None:
    """Raise InputError for flags that have nothing to say anything of, or that are wrong."""
    sources = [args.source, *(text.partition("=")[2] for text in getattr(args, "also_camera", []))]
    reads = any(source.startswith(SCHEME) for source in sources)
    if args.ros2 is None:
        idle = [*_OF_SINK, *(() if reads else _OF_GRAPH)]
        if given := ["--" + name.replace("_", "-") for name in idle if getattr(args, name) not in (None, [], False)]:
            raise InputError(f"{', '.join(given)} is of --ros2", remedy="add --ros2")
        if not reads:
            return
    if args.ros2_camera_info is not None:
        if args.ros2_images is None:
            raise InputError("--ros2-camera-info goes with pictures", remedy="add --ros2-images")
        read_intrinsics(args.ros2_camera_info)
    options = options_of(args)
    if args.ros2 is not None:
        from edgetl_runtime.ros.sink import check_pictures

        check_pictures(args.ros2_images or 0.0)
        options.node.topic(f"{args.ros2}/detections")


def open_ros2_camera(args: argparse.Namespace, health: Health, wrap: Callable[[Camera], Camera] | None) -> Camera:
    """The camera of a ros2: source, opened again while it is gone. Raises InputError or CameraError."""
    from edgetl_runtime.cameras import keep_open
    from edgetl_runtime.ros import Ros2Camera

    if args.camera_size or args.camera_fps or args.camera_format:
        raise InputError("a size, rate or format can be asked of a V4L2 camera only, not of a ROS topic")
    options = options_of(args, reader=True)
    topic = args.source.removeprefix(SCHEME)

    frames: list[str] = []

    def opened(stop: threading.Event) -> Camera:
        camera = Ros2Camera(topic, options, stop=stop)
        frames.append(camera.frame_id)
        return camera

    camera = keep_open(opened, give_up_s=args.give_up_s, health=health, wrap=wrap)
    args.ros2_frame_id = args.ros2_frame_id or frames[0] or None  # what is found in a picture is of its frame
    return camera


def options_of(args: argparse.Namespace, *, reader: bool = False) -> Ros2Options:
    """How to be part of the graph. reader: a camera is a node of its own, NAME_camera, at any free port."""
    from edgetl_runtime.ros import NodeName, Ros2Options
    from edgetl_runtime.ros.node import LOOPBACK, ROUTER

    name = args.ros2_node or "edgetl"
    node = NodeName(
        domain=_domain(args.ros2_domain),
        namespace=args.ros2_namespace or "/",
        name=f"{name}_camera" if reader else name,
    )
    connect = args.ros2_connect or ([] if args.ros2_listen else [ROUTER])
    listen = args.ros2_listen or [LOOPBACK]
    if reader and args.ros2 is not None:  # the sink has the port
        listen = [LOOPBACK]
    return Ros2Options(
        node=node,
        connect=tuple(connect),
        listen=tuple(listen),
        check_types=not args.ros2_no_type_hash,
        opened=_tell_addresses if listen != [LOOPBACK] else None,
    )


def _tell_addresses(addresses: tuple[str, ...]) -> None:
    if addresses:
        sys.stderr.write(f"ROS 2: others reach this node at {', '.join(addresses)}\n")


def read_intrinsics(path: Path) -> Intrinsics:
    """ROS's camera_info YAML, as `camera_calibration` writes it. Raises InputError or MissingPackage."""
    from edgetl_runtime.geometry.calibration import read_camera_info
    from edgetl_runtime.ros import Intrinsics

    found = read_camera_info(path)
    return Intrinsics(
        size_hw=(found.image_height, found.image_width),
        k=found.camera_matrix.data,
        d=found.distortion_coefficients.data,
        model=found.distortion_model,
        **{n: m.data for n, m in (("r", found.rectification_matrix), ("p", found.projection_matrix)) if m is not None},
    )


def intrinsics_of(args: argparse.Namespace) -> Intrinsics | None:
    """Of --ros2-camera-info, else of --calibration."""
    from edgetl_runtime.ros import Intrinsics

    if args.ros2_camera_info is not None:
        return read_intrinsics(args.ros2_camera_info)
    known: Calibration | None = args.calibrated
    if known is None:
        return None
    return Intrinsics(
        known.size_hw, known.matrix, known.coefficients, known.model, known.rectification, known.projection
    )


def _domain(given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get(DOMAIN, "") or "0"
    if not text.isdecimal():
        raise InputError(f"{DOMAIN} must be a number, found {text!r}")
    return int(text)
