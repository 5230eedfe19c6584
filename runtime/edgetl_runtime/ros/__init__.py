"""ROS 2 without a ROS installation: results as messages that rmw_zenoh_cpp nodes read, and their images as a camera.

    from edgetl_runtime.ros import Ros2Options, Ros2Sink

Names are imported when they are first asked for; that raises MissingPackage where pycdr2 or zenoh, of the vehicle
extra, is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl_runtime.cameras.ros2 import Ros2Camera
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.ros.names import NodeName
    from edgetl_runtime.ros.node import Ros2Context, Ros2Node, Ros2Options
    from edgetl_runtime.ros.rounds import Ros2Rounds
    from edgetl_runtime.ros.sink import Ros2Sink

_LAZY = {
    "Intrinsics": "ros.intrinsics",
    "NodeName": "ros.names",
    "Ros2Camera": "cameras.ros2",
    "Ros2Context": "ros.node",
    "Ros2Node": "ros.node",
    "Ros2Options": "ros.node",
    "Ros2Rounds": "ros.rounds",
    "Ros2Sink": "ros.sink",
}

__all__ = [
    "Intrinsics",
    "NodeName",
    "Ros2Camera",
    "Ros2Context",
    "Ros2Node",
    "Ros2Options",
    "Ros2Rounds",
    "Ros2Sink",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, and what it needs before it."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    from edgetl_runtime.imports import need

    for package in ("pycdr2", "zenoh"):
        need(package, extra="vehicle")
    return getattr(importlib.import_module(f"edgetl_runtime.{_LAZY[name]}"), name)
