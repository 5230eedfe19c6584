"""--ros2 and ros2: sources: their flags, what is refused before anything is loaded, the sinks and the cameras."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.by_camera import by_camera
from edgetl.commands.rig_arguments import sources_of
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import ExitStack

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.health import Health
    from edgetl_runtime.rig.sinks import RigSink
    from edgetl_runtime.ros import Intrinsics, Ros2Context, Ros2Options
    from edgetl_runtime.sinks import Sink

SCHEME = "ros2:"
DOMAIN = "ROS_DOMAIN_ID"
_OF_SINK = ("ros2_images", "ros2_camera_info", "ros2_frame_id")
_OF_GRAPH = ("ros2_connect", "ros2_listen", "ros2_domain", "ros2_namespace", "ros2_node", "ros2_no_type_hash")


@dataclass
class Graph:
    """What a run's nodes have in common. readers: names of the cameras that are ROS topics and not opened yet.

    frames: the frame_id that the first header of each such camera had, "" where it had none.
    """

    context: Ros2Context
    readers: deque[str]
    frames: dict[str, str] = field(default_factory=dict)


def add_ros2_arguments(parser: argparse.ArgumentParser) -> None:
    """--ros2 and what goes with it."""
    group = parser.add_argument_group("ROS 2, through Zenoh as rmw_zenoh_cpp nodes speak it; no ROS is needed here")
    group.add_argument(
        "--ros2",
        nargs="?",
        const="edgetl",
        metavar="PREFIX",
        help="publish PREFIX/detections (vision_msgs) and /diagnostics; default PREFIX: edgetl; with several cameras "
        "PREFIX/CAMERA/detections, with several bundles PREFIX/CAMERA/BUNDLE/detections",
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
        action="append",
        default=[],
        metavar="[NAME=]YAML",
        help="ROS's calibration file of the camera (default: --calibration); with several cameras once for each, by "
        "its name",
    )
    group.add_argument(
        "--ros2-frame-id",
        action="append",
        default=[],
        metavar="[NAME=]FRAME",
        help="of the messages (default: the topic's own, or CAMERA_optical_frame); with several cameras likewise",
    )
    add_graph_arguments(group)


def add_graph_arguments(group: argparse._ActionsContainer) -> None:
    """How to be part of the graph: what ros2: sources alone need, too."""
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

    (name,) = sources_of(args)
    sink = Ros2Sink(
        bundle.manifest.heads,
        camera_id=camera.camera_id.removeprefix(SCHEME),
        prefix=args.ros2,
        frame_id=_frame_ids(args).get(name),
        options=options_of(args),
        context=args.ros2_graph.context,
        pictures_per_s=args.ros2_images or 0.0,
        intrinsics=intrinsics_of(args, {} if args.calibrated is None else {name: args.calibrated}).get(name),
    )
    stack.callback(sink.close)
    _announce(sink.topics)
    return [sink]


def open_ros2_rounds(
    args: argparse.Namespace, bundles: Mapping[str, Bundle], calibrations: Mapping[str, Calibration], stack: ExitStack
) -> list[RigSink]:
    """The same for several cameras or bundles."""
    if args.ros2 is None:
        return []
    from edgetl_runtime.ros import Ros2Rounds

    sink = Ros2Rounds(
        list(sources_of(args)),
        {name: bundle.manifest.heads for name, bundle in bundles.items()},
        prefix=args.ros2,
        frame_ids=_frame_ids(args),
        options=options_of(args),
        context=args.ros2_graph.context,
        pictures_per_s=args.ros2_images or 0.0,
        intrinsics=intrinsics_of(args, calibrations),
    )
    stack.callback(sink.close)
    _announce(sink.topics)
    return [sink]


def _announce(topics: Collection[str]) -> None:
    sys.stderr.write(f"ROS 2: {', '.join([*topics, '/diagnostics'])}\n")


def check_ros2(args: argparse.Namespace) -> None:
    """Raise InputError for flags that have nothing to say anything of, or that are wrong; else join no graph yet."""
    sources = sources_of(args)
    readers = [name for name, source in sources.items() if source.startswith(SCHEME)]
    if args.ros2 is None:
        idle = [*_OF_SINK, *(() if readers else _OF_GRAPH)]
        if given := ["--" + name.replace("_", "-") for name in idle if getattr(args, name) not in (None, [], False)]:
            raise InputError(f"{', '.join(given)} is of --ros2", remedy="add --ros2")
        if not readers:
            return
    if args.ros2_camera_info:
        if args.ros2_images is None:
            raise InputError("--ros2-camera-info goes with pictures", remedy="add --ros2-images")
        intrinsics_of(args, {})
    options = options_of(args)
    if args.ros2 is not None:
        from edgetl_runtime.ros.sink import check_pictures

        check_pictures(args.ros2_images or 0.0)
        options.node.topic(f"{args.ros2}/detections")
        by_camera(args, "--ros2-frame-id", args.ros2_frame_id, like="camera_link")
    from edgetl_runtime.ros import Ros2Context

    args.ros2_graph = Graph(Ros2Context(), deque(readers))


def check_ros2_source(args: argparse.Namespace) -> None:
    """`check_ros2` for a command that reads one camera and publishes nothing."""
    if args.source is None or not args.source.startswith(SCHEME):
        given = [name for name in _OF_GRAPH if getattr(args, name) not in (None, [], False)]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} is of a ROS 2 camera", remedy="give --source ros2:/TOPIC")
        return
    from edgetl_runtime.ros import Ros2Context

    options_of(args)
    args.ros2_graph = Graph(Ros2Context(), deque([""]))


def check_ros2_topics(args: argparse.Namespace, bundles: Mapping[str, Bundle]) -> None:
    """Raise InputError where the names of several cameras and bundles make no topics."""
    if args.ros2 is None:
        return
    from edgetl_runtime.ros.rounds import check_topics

    heads = {name: bundle.manifest.heads for name, bundle in bundles.items()}
    check_topics(options_of(args).node, list(sources_of(args)), heads, args.ros2)


def open_ros2_camera(args: argparse.Namespace, health: Health, wrap: Callable[[Camera], Camera] | None) -> Camera:
    """The camera of a ros2: source, opened again while it is gone. Raises InputError or CameraError."""
    from edgetl_runtime.cameras import keep_open
    from edgetl_runtime.ros import Ros2Camera

    if args.camera_size or args.camera_fps or args.camera_format:
        raise InputError("a size, rate or format can be asked of a V4L2 camera only, not of a ROS topic")
    graph: Graph = args.ros2_graph
    name = graph.readers.popleft()
    options = options_of(args, reader=name if getattr(args, "also_camera", ()) else "")
    topic = args.source.removeprefix(SCHEME)

    def opened(stop: threading.Event) -> Camera:
        camera = Ros2Camera(topic, options, context=graph.context, stop=stop)
        graph.frames.setdefault(name, camera.frame_id)
        return camera

    return keep_open(
        opened,
        give_up_s=args.give_up_s,
        absent=args.source if args.begin_without else None,
        health=health,
        wrap=wrap,
    )


def _frame_ids(args: argparse.Namespace) -> dict[str, str]:
    """By camera: what was given, else what its topic has, since what is found in a picture is of its frame."""
    given = by_camera(args, "--ros2-frame-id", args.ros2_frame_id, like="camera_link")
    return {name: frame for name, frame in args.ros2_graph.frames.items() if frame} | given


def options_of(args: argparse.Namespace, *, reader: str | None = None) -> Ros2Options:
    """How to be part of the graph. reader: a camera is a node of its own, NODE_camera, or NODE_NAME_camera."""
    from edgetl_runtime.ros import NodeName, Ros2Options
    from edgetl_runtime.ros.node import LOOPBACK, ROUTER

    name = args.ros2_node or "edgetl"
    node = NodeName(
        domain=_domain(args.ros2_domain),
        namespace=args.ros2_namespace or "/",
        name=name if reader is None else "_".join(part for part in (name, reader.replace("-", "_"), "camera") if part),
    )
    return Ros2Options(
        node=node,
        connect=tuple(args.ros2_connect or ([] if args.ros2_listen else [ROUTER])),
        listen=tuple(args.ros2_listen or [LOOPBACK]),
        check_types=not args.ros2_no_type_hash,
        opened=_tell_addresses if args.ros2_listen else None,
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


def intrinsics_of(args: argparse.Namespace, calibrations: Mapping[str, Calibration]) -> dict[str, Intrinsics]:
    """By camera: of --ros2-camera-info, else of its calibration."""
    from edgetl_runtime.ros import Intrinsics

    known = {
        name: Intrinsics(c.size_hw, c.matrix, c.coefficients, c.model, c.rectification, c.projection)
        for name, c in calibrations.items()
    }
    given = by_camera(args, "--ros2-camera-info", args.ros2_camera_info, like="front.yaml")
    return known | {name: read_intrinsics(Path(path)) for name, path in given.items()}


def _domain(given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get(DOMAIN, "") or "0"
    if not text.isdecimal():
        raise InputError(f"{DOMAIN} must be a number, found {text!r}")
    return int(text)
